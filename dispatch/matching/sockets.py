"""Socket door of matching: online, offline, decline."""

from collections.abc import Awaitable, Callable
from typing import Any

from dispatch.matching.service import Matching
from dispatch.matching.shifts import Shifts
from protocol.frames import Decline, Offline, Online


def requests(matching: Matching, shifts: Shifts) -> dict[type, Callable[[Any, Any], Awaitable[bytes]]]:
    async def online(line: Any, frame: Online) -> bytes:
        kinds = None if frame.service_types is None else [str(kind) for kind in frame.service_types]
        return (await shifts.start(line.identity.actor, (frame.lat, frame.lng), kinds, str(frame.id))).body

    async def offline(line: Any, frame: Offline) -> bytes:
        return (await shifts.end(line.identity.actor, str(frame.id))).body

    async def decline(line: Any, frame: Decline) -> bytes:
        return (await matching.decline(line.identity.actor, frame.offer_id, frame.reason, str(frame.id))).body

    return {Online: online, Offline: offline, Decline: decline}
