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
        # The newest counts as position; those between the last fix known and it are the way there, as far as it can be believed.
        way, refusal = presence.way(live, points[:-1])
        if live.busy is not None:
            walk(live.busy, way)
        presence.locate(live, points[-1])
        if refusal is not None:
            raise refusal

    return {Location: location, Locations: locations}
