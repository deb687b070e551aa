"""The policies: nearest, waves, broadcast, and by name also batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from dispatch.markets import Market
from dispatch.matching.batch import Batch
from dispatch.matching.model import Decision, Policy, Question, Reach, Reason, Terms

BROADCAST_MAX = 1_000
"""Offers of one broadcast round at most: more would hold their gates for longer than an accept may wait."""


class _EachForItself(ABC):
    """A policy that looks at one job at a time: what the others want changes nothing."""

    reason: Reason

    @abstractmethod
    def wanted(self, terms: Market | Terms) -> int:
        """How many a round is for: so many are searched for, and of those found so many are chosen."""

    def decide(self, question: Question) -> Decision:
        wanted = self.wanted(question.terms)
        chosen = {job_id: near[:wanted] for job_id, near in question.found.items()}
        reasons = {
            search.job_id: self.reason if chosen.get(search.job_id) else Reason.NOBODY_NEAR
            for search in question.searches
        }
        return Decision(chosen, reasons)


class Waves(_EachForItself):
    """The k nearest at once; the next wave when all have answered or lapsed. The radius doubles from wave to wave."""

    reason = Reason.WAVE

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(self.wanted(market), min(market.radius_max_m, market.radius_first_m * 2 ** min(round, 20)))

    def wanted(self, terms: Market | Terms) -> int:
        return terms.wave_size


class Nearest(_EachForItself):
    """One at a time, the nearest first, as far as the market reaches."""

    reason = Reason.NEAREST

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(self.wanted(market), market.radius_max_m)

    def wanted(self, terms: Market | Terms) -> int:
        return 1


class Broadcast(_EachForItself):
    """Everybody in reach at once, up to 1,000."""

    reason = Reason.EVERYBODY

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        return Reach(self.wanted(market), market.radius_max_m)

    def wanted(self, terms: Market | Terms) -> int:
        return BROADCAST_MAX


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
