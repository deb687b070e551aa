"""What a trip costs, and how far and long it is on a straight line. Integers for money, always."""

import math

from dispatch.kit.geo import distance_m as great_circle_m
from dispatch.markets.model import FareParts, Leg, Place, Tariff

SURGE_PCT_MIN = 100
SURGE_PCT_MAX = 999


def _divided_half_up(amount: int, by: int) -> int:
    """`amount / by`, halves rounded up; both ≥ 0."""
    return (2 * amount + by) // (2 * by)


def _whole(name: str, value: int, lowest: int = 0, highest: int | None = None) -> None:
    """Refuse what is no whole number within bounds. A bool is an int to Python, not to a tariff."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")  # noqa: TRY004 (callers handle one kind)
    if value < lowest or (highest is not None and value > highest):
        bound = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
        raise ValueError(f"{name} must be {bound}, got {value}")


def fare(tariff: Tariff, distance_m: int, duration_s: int, surge_pct: int) -> FareParts:
    """The fare of a trip of `distance_m` metres and `duration_s` seconds at a surge of `surge_pct` hundredths.

    Each part is rounded half up once, from whole numbers; the surge is taken on the rounded parts, so that
    a customer can recompute it from what he is shown. Raises ValueError for negative or fractional input and
    a surge outside 100 to 999.
    """
    _whole("distance_m", distance_m)
    _whole("duration_s", duration_s)
    _whole("surge_pct", surge_pct, SURGE_PCT_MIN, SURGE_PCT_MAX)
    distance_minor = _divided_half_up(tariff.per_km_minor * distance_m, 1000)
    time_minor = _divided_half_up(tariff.per_min_minor * duration_s, 60)
    plain_minor = tariff.base_minor + distance_minor + time_minor
    surge_minor = _divided_half_up(plain_minor * (surge_pct - 100), 100)
    return FareParts(
        base_minor=tariff.base_minor,
        distance_minor=distance_minor,
        time_minor=time_minor,
        surge_minor=surge_minor,
        total_minor=plain_minor + surge_minor,
    )


def fee_minor(total_minor: int, percent: int) -> int:
    """The platform's share of a fare, rounded half up. Raises ValueError outside 0 to 100 percent or below 0."""
    _whole("total_minor", total_minor)
    _whole("percent", percent, 0, 100)
    return _divided_half_up(total_minor * percent, 100)


def net_minor(total_minor: int, percent: int) -> int:
    """What the provider gets: the fare less the fee. By subtraction, so that nothing is created or lost."""
    return total_minor - fee_minor(total_minor, percent)


class StraightLine:
    """`RouteEstimate` without a map: the great circle times a detour factor, driven at the city's speed."""

    def __init__(self, speed_mps: float, detour_factor: float) -> None:
        """Raises ValueError unless the speed is above 0 and the factor at least 1."""
        if not (math.isfinite(speed_mps) and speed_mps > 0):
            raise ValueError(f"speed_mps must be above 0, got {speed_mps}")
        if not (math.isfinite(detour_factor) and detour_factor >= 1):
            raise ValueError(f"detour_factor must be at least 1, got {detour_factor}")
        self._speed_mps = speed_mps
        self._detour_factor = detour_factor

    def estimate(self, a: Place, b: Place) -> Leg:
        """Road metres and seconds from `a` to `b`, both (lat, lng)."""
        road_m = great_circle_m(a[0], a[1], b[0], b[1]) * self._detour_factor
        return Leg(distance_m=math.floor(road_m + 0.5), duration_s=math.floor(road_m / self._speed_mps + 0.5))
