"""Socket door of presence: fixes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from dispatch.inbox import Line
from dispatch.presence.errors import Offline
from dispatch.presence.service import Presence
from protocol.frames import Location, Locations


def signals(
    presence: Presence, walk: Callable[[UUID, list[tuple[float, float, int]]], None]
) -> dict[type, Callable[[Line, Any], None]]:
    """`walk` takes buffered fixes for the trail of an active job: (job_id, [(lat, lng, at_ms)], oldest first)."""

    def location(line: Line, frame: Location) -> None:
        live = presence.of(line.user_id)
        if live is None:
            raise Offline("this user is no provider, or his socket is not greeted yet")
        presence.locate(live, frame)

    def locations(line: Line, frame: Locations) -> None:
        live = presence.of(line.user_id)
        if live is None:
            raise Offline("this user is no provider, or his socket is not greeted yet")
        points = sorted(frame.points, key=lambda point: point.at.timestamp())
        if not points:
            return
        if live.busy is not None:
            # Between the last fix known and now: what is older has been counted, the newest comes through `locate`.
            buffered = [(p.lat, p.lng, int(p.at.timestamp() * 1000)) for p in points[:-1]]
            walk(live.busy, [point for point in buffered if point[2] > live.at_ms])
        presence.locate(live, points[-1])

    return {Location: location, Locations: locations}
