"""Nouns of matching."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from dispatch.markets import Market
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


@dataclass(frozen=True, slots=True)
class Reach:
    """How many to look for, and how far at most."""

    wanted: int
    radius_m: float


class Policy(Protocol):
    """Whom to offer what. Pure. It sees a set of jobs and who is near each, so that one may weigh jobs against each other."""

    def reach(self, market: Market, round: int) -> Reach:
        """What to search for when `round` rounds have been made."""

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        """For each job whom to offer it to, best first; a subset of `found`. A job may be left out."""
