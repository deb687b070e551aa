"""The policies: nearest, waves, broadcast, and by name also batch."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from dispatch.markets import Market
from dispatch.matching.batch import Batch
from dispatch.matching.model import Decision, Policy, Question, Reach, Reason, Search
from dispatch.presence import Candidate

BROADCAST_MAX = 1_000
"""Offers of one broadcast round at most: more would hold their gates for longer than an accept may wait."""


class _EachForItself:
    """A policy that looks at one job at a time: what the others want changes nothing."""

    reason: Reason

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        """For each job whom to offer it to, best first: the beginning of what was found."""
        return found

    def decide(self, question: Question) -> Decision:
        chosen = self.choose(question.searches, question.found)
        reasons = {
            search.job_id: self.reason if chosen.get(search.job_id) else Reason.NOBODY_NEAR
            for search in question.searches
        }
        return Decision(chosen, reasons)


class Waves(_EachForItself):
    """The k nearest at once; the next wave when all have answered or lapsed. The radius doubles from wave to wave."""

    reason = Reason.WAVE

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(market.wave_size, min(market.radius_max_m, market.radius_first_m * 2 ** min(round, 20)))


class Nearest(_EachForItself):
    """One at a time, the nearest first, as far as the market reaches."""

    reason = Reason.NEAREST

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(1, market.radius_max_m)

    def choose(
        self, searches: Sequence[Search], found: Mapping[UUID, Sequence[Candidate]]
    ) -> Mapping[UUID, Sequence[Candidate]]:
        return {job_id: candidates[:1] for job_id, candidates in found.items()}


class Broadcast(_EachForItself):
    """Everybody in reach at once, up to 1,000."""

    reason = Reason.EVERYBODY

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(BROADCAST_MAX, market.radius_max_m)


_POLICIES: Mapping[str, Policy] = {
    "waves": Waves(),
    "nearest": Nearest(),
    "broadcast": Broadcast(),
    "batch": Batch(),
}


def policy_named(name: str) -> Policy:
    """Raises KeyError for a name that no market may have."""
    return _POLICIES[name]


def decide(question: Question) -> Decision:
    """The one place where it is decided who gets which job: the server and the simulator both ask here."""
    return policy_named(question.terms.policy).decide(question)
