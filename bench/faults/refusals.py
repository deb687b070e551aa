"""What a no says of the one who asked, and whether that was so: a server that refuses too often keeps every other promise.

What a no says of the job itself is judged by I1b and by the search of an order (`job_register`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.faults.history import History, Op
from bench.faults.job_register import COMMIT_NS
from bench.faults.spans import by, holdings, meets, perhaps_blocked, perhaps_off, perhaps_suspended

ASKED = ("accept", "online", "offline", "create")
BUSY, NO_OFFER, NO_JOB = "PROVIDER_HAS_ACTIVE_JOB", "OFFER_NOT_FOUND", "JOB_NOT_FOUND"
SUSPENDED, NOT_APPROVED, OFF = "PROVIDER_SUSPENDED", "PROVIDER_NOT_APPROVED", "PROVIDER_OFFLINE"
BLOCKED = "FORBIDDEN"
WORDS = frozenset({BUSY, NO_OFFER, NO_JOB, SUSPENDED, NOT_APPROVED, OFF, BLOCKED})
OF_THE_JOB = frozenset({"accepted", "cancelled", "expired", "IDEMPOTENCY_KEY_REUSED"})
"""Those are judged as I1b and I10."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A no, and whether it can have been true while he asked."""

    op: Op
    so: bool


def claims(history: History) -> Iterator[Claim]:
    """Every refusal that speaks of the one who asked. A request begins with its first sending, by whichever door: who sends it again
    may be given the answer that was decided for the first.
    """
    first: dict[tuple[str, str, str], int] = {}
    for op in history.ops:
        key = (op.user, op.key, op.body)
        first[key] = min(first.get(key, op.at), op.at)
    facts = _Facts(history)
    for op in history.ops:
        if op.kind in ASKED and op.final and op.word != "ok" and op.word not in OF_THE_JOB:
            so = facts.so(op, first[op.user, op.key, op.body])
            if so is not None:
                yield Claim(op, so)


class _Facts:
    """What is known of everybody's state, laid out to be asked."""

    def __init__(self, history: History) -> None:
        self._slack = history.clock_error
        self._real = history.final.paid
        self._held = by(holdings(history.final.steps), lambda one: one.user)
        self._offers = by(history.final.offers, lambda offer: (offer.job, offer.user))
        self._born = {row.job: row.at for row in history.final.steps if row.was == ""}
        self._suspended = perhaps_suspended(history)
        self._blocked = perhaps_blocked(history)
        self._off = perhaps_off(history)
        self._heard: dict[tuple[str, str], int] = {}
        for told in history.told:
            for job in (*([told.job] if told.job else ()), *told.jobs):
                self._heard[told.user, job] = min(self._heard.get((told.user, job), told.at), told.at)

    def so(self, op: Op, asked: int) -> bool | None:
        """Whether it can have been so; None: a history cannot tell."""
        if op.word == BUSY:
            return self._busy(op, asked)
        if op.word == NO_OFFER:
            return not self._offered(op, asked)
        if op.word == NO_JOB:
            return not self._there(op.user, op.job, asked)
        if op.word == SUSPENDED:
            return meets(self._suspended.get(op.user, ()), op, asked)
        if op.word == BLOCKED:
            return meets(self._blocked.get(op.user, ()), op, asked)
        if op.word == OFF:
            # Of somebody whose switching on was never recorded nothing is known.
            return meets(self._off[op.user], op, asked) if op.user in self._off else None
        if op.word == NOT_APPROVED:
            return False  # nobody's approval is taken back in any run, and before it he is offered nothing
        # Papers, debts, places and bad words: those are in no simulated world, and judged by tests of their own on real ones.
        return None if self._real else False

    def _busy(self, op: Op, asked: int) -> bool:
        """With another job: this one he would be given again. A row that ends a job is stamped before it is committed."""
        return any(
            one.job != op.job and one.since - self._slack <= op.done and one.until >= asked - self._slack - COMMIT_NS
            for one in self._held.get(op.user, ())
        )

    def _offered(self, op: Op, asked: int) -> bool:
        """Whether there was one for him all the time, live or not. An offer's row stays, and whoever names its id has been told it."""
        mine = [one for one in self._offers.get((op.job, op.user), ()) if one.at + self._slack < asked]
        if op.offer:
            return any(one.id == op.offer for one in mine)
        return any(
            self._heard.get((op.user, op.job), asked) < asked or one.at + self._slack + COMMIT_NS < asked
            for one in mine
        )

    def _there(self, user: str, job: str, asked: int) -> bool:
        if job not in self._born:
            return False
        return self._heard.get((user, job), asked) < asked or self._born[job] + self._slack + COMMIT_NS < asked
