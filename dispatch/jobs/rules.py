"""What may happen to a job, and what it costs in the end."""

from dataclasses import dataclass

from dispatch.kit.errors import IllegalTransition, ReasonRequired
from dispatch.kit.geo import coarse
from dispatch.kit.words import blank
from dispatch.markets import FareParts, Market, fare, fee_minor
from protocol.lifecycle import Actor, JobStatus, may
from protocol.resources import Place

TRAIL_FACTOR = 1.3
TRAIL_SLACK_M = 500.0
"""The phone's distance counts up to trail x 1.3 + 500 m: fixes 4 s apart cut corners, and tunnels hide whole legs."""

UNNAMED = "ผู้โดยสาร"
"""«Passenger»: what a customer without a first name is called (JOB-04)."""


def check_move(start: JobStatus, goal: JobStatus, by: Actor) -> None:
    """Raises: IllegalTransition, with both ends in its details."""
    if not may(start, goal, by):
        raise IllegalTransition(f"{start} → {goal} by {by}", status=str(start), to=str(goal))


def check_reason(by: Actor, reason: str | None) -> str | None:
    """The reason, trimmed. Raises: ReasonRequired for provider and admin without one."""
    told = None if blank(reason) else (reason or "").strip()
    if told is None and by in (Actor.PROVIDER, Actor.ADMIN):
        raise ReasonRequired(f"a {by} must say why")
    return told


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a completed job comes to."""

    distance_m: int
    duration_s: int
    flagged: bool
    fare: FareParts
    fee_minor: int

    @property
    def earnings_minor(self) -> int:
        """The provider's part: by subtraction, so that nothing is created or lost."""
        return self.fare.total_minor - self.fee_minor


def settle(market: Market, *, reported_m: float | None, trail_m: float, riding_s: float, surge_pct: int) -> Settlement:
    """The end of a trip: the server's duration; the phone's distance, but no more than its trail makes believable."""
    bound_m = trail_m * TRAIL_FACTOR + TRAIL_SLACK_M
    claimed_m = trail_m if reported_m is None else reported_m
    flagged = claimed_m > bound_m
    distance_m = round(min(claimed_m, bound_m))
    duration_s = max(0, round(riding_s))
    parts = fare(market.tariff, distance_m, duration_s, surge_pct)
    return Settlement(distance_m, duration_s, flagged, parts, fee_minor(parts.total_minor, market.platform_fee_percent))


def glimpse(market: Market, place: Place) -> dict[str, object]:
    """A place as those see it who have not won the job: the zone's name (else the market's) and a point of a 200 m grid."""
    lat, lng = coarse(place.lat, place.lng)
    return {"lat": lat, "lng": lng, "address": market.zone_of(place.lat, place.lng) or market.name}
