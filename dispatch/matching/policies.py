"""The policies: nearest, waves, broadcast."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from dispatch.markets import Market
from dispatch.matching.model import Policy, Reach, Search
from dispatch.presence import Candidate

BROADCAST_MAX = 1_000
"""Offers of one broadcast round at most: more would hold their gates for longer than an accept may wait."""


class Waves:
    """The k nearest at once; the next wave when all have answered or lapsed. The radius doubles from wave to wave."""

    def reach(self, market: Market, round: int) -> Reach:
        return Reach(market.wave_size, min(market.radius_max_m, market.radius_first_m * 2 ** min(round, 20)))

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        return found


class Nearest:
    """One at a time, the nearest first, as far as the market reaches."""

    def reach(self, market: Market, round: int) -> Reach:
        return Reach(1, market.radius_max_m)

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        return {job_id: candidates[:1] for job_id, candidates in found.items()}


class Broadcast:
    """Everybody in reach at once, up to 1,000."""

    def reach(self, market: Market, round: int) -> Reach:
        return Reach(BROADCAST_MAX, market.radius_max_m)

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        return found


_POLICIES: Mapping[str, Policy] = {"waves": Waves(), "nearest": Nearest(), "broadcast": Broadcast()}


def policy_named(name: str) -> Policy:
    """Raises KeyError for a name that no market may have."""
    return _POLICIES[name]
