"""Nouns of earnings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from dispatch.jobs import Completed
from dispatch.kit.postgres import Tx


@dataclass(frozen=True, slots=True)
class Bonus:
    """What an incentive owes somebody for the job that has just been completed."""

    incentive_id: UUID
    tier: int
    amount_minor: int
    name: str
    target: int


class Bonuses(Protocol):
    """Asked upwards: the incentives that count a job."""

    async def earned(self, tx: Tx, done: Completed) -> Sequence[Bonus]:
        """Count `done` in the running programs; the tiers that it reaches, each once for ever."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of earnings. Amounts in minor units of `currency`; those of a correction may be negative."""

    id: UUID
    provider_id: UUID
    user_id: UUID
    kind: str
    market: str
    currency: str
    job_id: UUID | None = None
    service_type: str | None = None
    payment_method: str | None = None
    base_minor: int = 0
    distance_minor: int = 0
    time_minor: int = 0
    surge_minor: int = 0
    tip_minor: int = 0
    bonus_minor: int = 0
    adjustment_minor: int = 0
    platform_fee_minor: int = 0
    incentive_id: UUID | None = None
    reverses_id: UUID | None = None
    reason: str | None = None
    gross_minor: int = field(init=False)
    net_minor: int = field(init=False)

    def __post_init__(self) -> None:
        parts = self.base_minor + self.distance_minor + self.time_minor + self.surge_minor
        gross = parts + self.tip_minor + self.bonus_minor + self.adjustment_minor
        object.__setattr__(self, "gross_minor", gross)
        object.__setattr__(self, "net_minor", gross - self.platform_fee_minor)
