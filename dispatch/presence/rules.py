"""Which fixes are believed. Time is an argument."""

from dispatch.kit.geo import distance_m
from dispatch.presence.errors import ClockSkew, PositionRejected
from dispatch.presence.model import Live
from protocol.errors import WhyRejected

FUTURE_MS_MAX = 5_000
JUMP_SLACK_M = 150.0
"""What GPS noise may add between two fixes of a phone that stands still: urban canyons give 100 m and more."""
GOOD_AFTER = 3
"""So many refused fixes that agree with each other are the truth: it was the one before them that lied."""


def judge(live: Live, lat: float, lng: float, at_ms: int, now_ms: int, *, stale_ms: int, speed_max_mps: float) -> None:
    """Raise unless the fix is believable after the last good one of `live`; remember refused ones there.

    Raises: ClockSkew (more than 5 s ahead of us), PositionRejected (stale, out of order, faster than `speed_max_mps`).
    """
    if at_ms > now_ms + FUTURE_MS_MAX:
        raise ClockSkew(at_ms - now_ms)
    if at_ms < now_ms - stale_ms:
        raise PositionRejected(WhyRejected.STALE)
    if live.at_ms == 0:
        return
    if at_ms <= live.at_ms:
        raise PositionRejected(WhyRejected.OUT_OF_ORDER)
    if believable(live.lat, live.lng, live.at_ms, lat, lng, at_ms, speed_max_mps):
        live.suspect, live.suspects = None, 0
        return
    before, live.suspect = live.suspect, (lat, lng, at_ms)
    if before is not None and believable(*before, lat, lng, at_ms, speed_max_mps):
        live.suspects += 1
        if live.suspects >= GOOD_AFTER:
            live.suspect, live.suspects = None, 0
            return
    else:
        live.suspects = 1
    raise PositionRejected(WhyRejected.IMPOSSIBLE)


def believable(
    lat1: float, lng1: float, at1_ms: int, lat2: float, lng2: float, at2_ms: int, speed_max_mps: float
) -> bool:
    """Whether one can get from the first fix to the second in their time, noise allowed for."""
    within_m = JUMP_SLACK_M + speed_max_mps * max(0, at2_ms - at1_ms) / 1000
    # A degree of latitude is 111 km: nearly every pair is settled without trigonometry.
    if (abs(lat2 - lat1) + abs(lng2 - lng1)) * 111_195 <= within_m:
        return True
    return distance_m(lat1, lng1, lat2, lng2) <= within_m
