"""What a trip costs: the required figures, and what must hold for every trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.kit.geo import distance_m
from dispatch.markets import FareParts, Leg, StraightLine, Tariff, fare, fee_minor, net_minor

BANGKOK = Tariff(base_minor=3500, per_km_minor=500, per_min_minor=100)
TARIFFS = st.builds(Tariff, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
METRES = st.integers(0, 10**6)
SECONDS = st.integers(0, 10**6)
SURGES = st.integers(100, 999)


def test_five_km_and_fifteen_minutes_cost_75_baht() -> None:
    assert fare(BANGKOK, 5000, 900, 100) == FareParts(3500, 2500, 1500, 0, 7500)
    assert fee_minor(7500, 20) == 1500
    assert net_minor(7500, 20) == 6000


def test_a_surge_of_one_and_a_half_adds_37_50_baht() -> None:
    assert fare(BANGKOK, 5000, 900, 150) == FareParts(3500, 2500, 1500, 3750, 11250)


@pytest.mark.parametrize(
    ("metres", "seconds", "distance_minor", "time_minor"),
    [(0, 0, 0, 0), (1, 0, 1, 0), (2, 1, 1, 2), (3, 2, 2, 3), (999, 59, 500, 98), (1001, 61, 501, 102)],
)
def test_each_part_is_rounded_half_up(metres: int, seconds: int, distance_minor: int, time_minor: int) -> None:
    """500 satang a km is half a satang a metre: one metre rounds up, two are exact."""
    parts = fare(BANGKOK, metres, seconds, 100)
    assert (parts.distance_minor, parts.time_minor) == (distance_minor, time_minor)


def test_half_a_unit_of_surge_and_of_fee_rounds_up() -> None:
    assert fare(Tariff(50, 0, 0), 0, 0, 101).surge_minor == 1
    assert fare(Tariff(49, 0, 0), 0, 0, 101).surge_minor == 0
    assert (fee_minor(5, 10), fee_minor(4, 10)) == (1, 0)


@pytest.mark.parametrize("bad", [(-1, 0, 100), (0, -1, 100), (0, 0, 99), (0, 0, 1000), (1.5, 0, 100), (0, True, 100)])
def test_what_is_no_trip_is_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        fare(BANGKOK, *bad)


@pytest.mark.parametrize(("total", "percent"), [(-1, 20), (100, -1), (100, 101)])
def test_what_is_no_share_is_refused(total: int, percent: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        fee_minor(total, percent)


@given(TARIFFS, METRES, SECONDS, SURGES)
def test_the_parts_add_up_and_none_is_negative(tariff: Tariff, metres: int, seconds: int, surge_pct: int) -> None:
    parts = fare(tariff, metres, seconds, surge_pct)
    four = (parts.base_minor, parts.distance_minor, parts.time_minor, parts.surge_minor)
    assert sum(four) == parts.total_minor
    assert min(four) >= 0


@given(TARIFFS, METRES, SECONDS, SURGES)
def test_no_part_is_further_than_half_a_unit_from_the_exact_amount(
    tariff: Tariff, metres: int, seconds: int, surge_pct: int
) -> None:
    parts = fare(tariff, metres, seconds, surge_pct)
    assert -500 < 1000 * parts.distance_minor - tariff.per_km_minor * metres <= 500
    assert -30 < 60 * parts.time_minor - tariff.per_min_minor * seconds <= 30
    plain = parts.base_minor + parts.distance_minor + parts.time_minor
    assert -50 < 100 * parts.surge_minor - plain * (surge_pct - 100) <= 50


@given(TARIFFS, METRES, METRES, SECONDS, SURGES)
def test_a_longer_trip_never_costs_less(tariff: Tariff, near: int, more: int, seconds: int, surge_pct: int) -> None:
    assert (
        fare(tariff, near + more, seconds, surge_pct).total_minor >= fare(tariff, near, seconds, surge_pct).total_minor
    )


@given(st.integers(0, 10**12), st.integers(0, 100))
def test_fee_and_net_are_the_whole_fare(total: int, percent: int) -> None:
    assert fee_minor(total, percent) + net_minor(total, percent) == total
    assert 0 <= fee_minor(total, percent) <= total


def test_a_straight_line_is_stretched_by_the_detour_and_driven_at_city_speed() -> None:
    a, b = (13.7563, 100.5018), (13.69, 100.75)
    road = distance_m(*a, *b) * 1.4
    assert StraightLine(7.0, 1.4).estimate(a, b) == Leg(round(road), round(road / 7.0))


def test_no_way_at_all_takes_no_time() -> None:
    assert StraightLine(7.0, 1.4).estimate((13.7, 100.5), (13.7, 100.5)) == Leg(0, 0)


@pytest.mark.parametrize(("speed", "detour"), [(0, 1.4), (-1, 1.4), (float("nan"), 1.4), (7, 0.9), (7, float("inf"))])
def test_a_line_without_speed_or_shorter_than_straight_is_refused(speed: float, detour: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        StraightLine(speed, detour)
