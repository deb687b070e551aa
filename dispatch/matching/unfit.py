"""Whom the judge did not take: those who were chosen for a job a moment ago and got no offer."""

from collections.abc import Sequence
from uuid import UUID

from dispatch.kit.clock import Clock

FIT_AGAIN_S = 60.0
"""A debt is paid, a paper is approved: then he is asked again. Nobody waits for it whom nobody else stands in front of: see `_offer`."""
JOBS_MAX = 2_000
EACH_MAX = 1_000
"""Names that a search is given to leave out, beside those who have answered."""


class Unfit:
    """By job, so that the next search begins behind them. One per worker, and lost with it: another finds the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[UUID, tuple[float, tuple[UUID, ...]]] = {}

    def of(self, job_id: UUID) -> tuple[UUID, ...]:
        """In the order in which they were tried."""
        until, found = self._jobs.get(job_id, (0.0, ()))
        return found if self._clock.monotonic() < until else ()

    def keep(self, job_id: UUID, providers: Sequence[UUID]) -> None:
        """All of them, and no others. The time of those that were kept before goes on."""
        now = self._clock.monotonic()
        until, _ = self._jobs.pop(job_id, (0.0, ()))
        self._jobs[job_id] = until if until > now else now + FIT_AGAIN_S, tuple(providers[:EACH_MAX])
        if len(self._jobs) > JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]

    def forget(self, job_id: UUID) -> None:
        self._jobs.pop(job_id, None)
