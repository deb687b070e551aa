"""Socket door of jobs: advance, cancel."""

from collections.abc import Awaitable, Callable
from typing import Any

from dispatch.jobs.service import Jobs
from protocol.frames import Advance, Cancel


def requests(jobs: Jobs) -> dict[type, Callable[[Any, Any], Awaitable[bytes]]]:
    async def advance(line: Any, frame: Advance) -> bytes:
        actor = line.identity.actor
        answer = await jobs.advance(
            actor, frame.job_id, frame.to, distance_m=frame.distance_m, duration_s=frame.duration_s, key=str(frame.id)
        )
        return b'{"job":' + answer.body + b"}"

    async def cancel(line: Any, frame: Cancel) -> bytes:
        answer = await jobs.cancel(line.identity.actor, frame.job_id, frame.reason, str(frame.id))
        return b'{"job":' + answer.body + b"}"

    return {Advance: advance, Cancel: cancel}
