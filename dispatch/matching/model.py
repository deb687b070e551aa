"""Nouns of matching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from dispatch.markets import Market, PolicyName
from dispatch.presence import Candidate


@dataclass(frozen=True, slots=True)
class Search:
    """A job that looks for a provider now."""

    job_id: UUID
    market: str
    service_type: str
    round: int
    lat: float
    lng: float
    expired: bool
    lapsed: bool
    waiting: bool
    excluded: tuple[UUID, ...]
    waited_s: float = 0.0
    """Since the customer asked; 0 where nobody has looked, for only `batch` weighs it."""
    silent: tuple[UUID, ...] = ()
    """Who let an offer of it lapse: asked again only where nobody else is, else two of them would have it by turns."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How many to look for, and how far at most."""

    wanted: int
    radius_m: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What else is known of a candidate: seconds since he last had work, and the share of his offers that he took, 0 to 1."""

    idle_s: float = 0.0
    acceptance: float = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What decisions read of a market's settings; meaning and bounds as there."""

    policy: PolicyName
    offer_ttl_s: float
    speed_mps: float
    detour_factor: float
    wave_size: int


class Reason(StrEnum):
    """Why a job got the offers that it got, or none."""

    NEAREST = "nearest"
    WAVE = "wave"
    EVERYBODY = "everybody"
    ASSIGNED = "assigned"
    """He is the job's part of the cheapest assignment of a whole window."""
    NOBODY_NEAR = "nobody_near"
    """Nobody free within the reach of the policy."""
    OUTBID = "outbid"
    """Everybody near was worth more to other jobs of the window."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that one decision rests on: equal questions get equal decisions, whoever asks and whenever."""

    at_ms: int
    """The asker's wall clock, for the record: what counts of time is in the searches and standings."""
    terms: Terms
    searches: Sequence[Search]
    found: Mapping[UUID, Sequence[Candidate]]
    """Job → who is free near it, nearest first. No entry: nobody. There may be more of them than the policy asks for: to tell of."""
    standings: Mapping[UUID, Standing] = field(default_factory=dict)
    """Provider → his standing; who is not in it has the default one. Only `batch` reads it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whom to offer what, and why. Every job of the question has a reason."""

    offers: Mapping[UUID, Sequence[Candidate]]
    """Job → whom to offer it to, best first; a subset of those found. Nobody: no entry, or an empty one."""
    reasons: Mapping[UUID, Reason]


class Policy(Protocol):
    """Whom to offer what. Pure: no store, no clock, no chance. The server asks it about what lives, the simulator about what was recorded.

    It sees a set of jobs and who is near each, so that one may weigh jobs against each other.
    """

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        """What to search for when `round` rounds have been made and the customer has waited so long."""

    def decide(self, question: Question) -> Decision:
        """The offers to make now. Ties go to the smaller id."""


def terms_of(market: Market, policy: PolicyName | None = None) -> Terms:
    """The terms of a market; `policy` puts another in the place of its own."""
    return Terms(policy or market.policy, market.offer_ttl_s, market.speed_mps, market.detour_factor, market.wave_size)
