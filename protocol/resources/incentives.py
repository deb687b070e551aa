"""HTTP bodies of incentives. The rules of `protocol.resources` hold here."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from protocol.frames import At, Count, Lat, Lng, ServiceTypes
from protocol.lifecycle import ServiceType
from protocol.resources import Currency

ProgramName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Clock = Annotated[
    str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9](?!\n)$", description="a time of the local day, such as 17:30")
]
Target = Annotated[int, Meta(ge=1, le=100_000)]
BonusMinor = Annotated[int, Meta(ge=1, le=10_000_000)]


class ProgramStatus(StrEnum):
    COMING = "coming"
    RUNNING = "running"
    ENDED = "ended"


class Circle(Struct, frozen=True, forbid_unknown_fields=True):
    """Pickups within count."""

    lat: Lat
    lng: Lng
    radius_m: Annotated[float, Meta(gt=0, le=100_000)]


class Hours(Struct, frozen=True, forbid_unknown_fields=True):
    """From the first minute up to the second, which is none of it; across midnight when `from` is later. Local time of the market."""

    start: Clock = msgspec.field(name="from")
    end: Clock = msgspec.field(name="to")

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("to: the same as from")


class Tier(Struct, frozen=True, forbid_unknown_fields=True):
    """So many jobs bring this bonus, once, beside those of the tiers before."""

    target: Target
    bonus_minor: BonusMinor


Tiers = Annotated[list[Tier], Meta(min_length=1, max_length=10)]


def _rising(tiers: list[Tier] | None) -> None:
    if tiers is not None and any(first.target >= second.target for first, second in pairwise(tiers)):
        raise ValueError("tiers: targets do not rise")


def _distinct(kinds: list[ServiceType] | None) -> None:
    if kinds is not None and len(set(kinds)) != len(kinds):
        raise ValueError("service_types: not distinct")


class IncentiveRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Jobs count that are completed in the window, of one of the types, in the market, picked up in the area and completed in the hours where
    these are given. Bonuses are in the market's currency. Targets rise.
    """

    name: ProgramName
    service_types: ServiceTypes
    market: Annotated[str, Meta(min_length=1, max_length=40)]
    starts_at: At
    ends_at: At
    tiers: Tiers
    metric: Literal["completed_jobs"] = "completed_jobs"
    area: Circle | None = None
    hours: Hours | None = None
    active: bool = True

    def __post_init__(self) -> None:
        _distinct(self.service_types)
        _rising(self.tiers)


class IncentivePatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is absent stays. After the start only `name`, `ends_at`, and `active`: false."""

    name: ProgramName | None = None
    service_types: ServiceTypes | None = None
    market: Annotated[str, Meta(min_length=1, max_length=40)] | None = None
    starts_at: At | None = None
    ends_at: At | None = None
    tiers: Tiers | None = None
    area: Circle | None = None
    hours: Hours | None = None
    active: bool | None = None

    def __post_init__(self) -> None:
        _distinct(self.service_types)
        _rising(self.tiers)


class ProgramTier(Struct, frozen=True, omit_defaults=True):
    """`paid` where a provider looks at his own programs."""

    target: Target
    bonus_minor: BonusMinor
    paid: bool | None = None


class Incentive(Struct, frozen=True, omit_defaults=True):
    """`count` and `seconds_left` (to its end) where a provider looks at his own programs."""

    id: UUID
    name: str
    service_types: list[ServiceType]
    market: str
    currency: Currency
    starts_at: At
    ends_at: At
    metric: Literal["completed_jobs"]
    tiers: list[ProgramTier]
    active: bool
    status: ProgramStatus
    created_at: At
    area: Circle | None = None
    hours: Hours | None = None
    count: Count | None = None
    seconds_left: Count | None = None
