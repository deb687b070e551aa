"""Socket door of tracking: track, untrack."""

from collections.abc import Awaitable, Callable
from typing import Any

from dispatch.tracking.service import Tracking
from protocol.frames import Track, Untrack


def requests(tracking: Tracking) -> dict[type, Callable[[Any, Any], Awaitable[bytes]]]:
    async def track(line: Any, frame: Track) -> bytes:
        await tracking.track(line.identity.actor, line, frame.job_id)
        if line.gone:  # it closed while the judge was asked
            tracking.leave(line)
        return b"{}"

    async def untrack(line: Any, frame: Untrack) -> bytes:
        tracking.untrack(line, frame.job_id)
        return b"{}"

    return {Track: track, Untrack: untrack}
