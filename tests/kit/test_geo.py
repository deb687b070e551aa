"""Distances, courses and coarse points: known figures, and the rules that must hold everywhere."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dispatch.kit.geo import EARTH_RADIUS_M, bearing_deg, coarse, distance_m, toward, valid_coordinates

LAT = st.floats(-85, 85)
LNG = st.floats(-180, 180)
CITY_LAT = st.floats(37.2, 38.0)
CITY_LNG = st.floats(-122.6, -122.0)


def test_a_degree_of_latitude_is_111_195_m() -> None:
    assert distance_m(0, 0, 1, 0) == pytest.approx(EARTH_RADIUS_M * math.pi / 180)
    assert distance_m(0, 0, 1, 0) == pytest.approx(111_195, abs=1)


def test_half_way_round_the_globe_is_the_longest_distance() -> None:
    assert distance_m(0, 0, 0, 180) == pytest.approx(math.pi * EARTH_RADIUS_M)
    assert distance_m(90, 0, -90, 0) == pytest.approx(math.pi * EARTH_RADIUS_M)


def test_downtown_san_francisco_to_its_airport_is_about_18_km() -> None:
    assert distance_m(37.7793, -122.4193, 37.6188, -122.375) == pytest.approx(18_267, abs=30)


def test_ten_centimetres_are_not_lost_in_rounding() -> None:
    assert distance_m(13.7563, 100.5018, 13.7563 + 0.1 / 111_195, 100.5018) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(("lat", "lng", "course"), [(1, 0, 0), (0, 1, 90), (-1, 0, 180), (0, -1, 270), (0, 0, 0)])
def test_courses_of_the_compass(lat: float, lng: float, course: float) -> None:
    assert bearing_deg(0, 0, lat, lng) == pytest.approx(course)


@pytest.mark.parametrize("bad", [(95, 0), (-90.001, 0), (0, 180.5), (math.nan, 0), (0, math.nan), (math.inf, 0)])
def test_impossible_coordinates_are_recognised(bad: tuple[float, float]) -> None:
    assert not valid_coordinates(*bad)


def test_the_corners_of_the_map_are_valid() -> None:
    assert valid_coordinates(90, 180)
    assert valid_coordinates(-90, -180)


def test_the_shorter_way_over_the_date_line_is_taken() -> None:
    lat, lng = toward((0.0, 179.9), (0.0, -179.9), distance_m(0, 179.9, 0, -179.9) * 0.75)
    assert lat == 0
    assert lng == pytest.approx(-179.95)


@given(LAT, LNG, LAT, LNG)
def test_distance_is_the_same_both_ways_and_bounded(lat1: float, lng1: float, lat2: float, lng2: float) -> None:
    there = distance_m(lat1, lng1, lat2, lng2)
    assert there == pytest.approx(distance_m(lat2, lng2, lat1, lng1), abs=1e-6)
    assert 0 <= there <= math.pi * EARTH_RADIUS_M + 1e-6


@given(LAT, LNG, LAT, LNG)
def test_a_course_is_always_on_the_dial(lat1: float, lng1: float, lat2: float, lng2: float) -> None:
    assert 0 <= bearing_deg(lat1, lng1, lat2, lng2) < 360


@given(CITY_LAT, CITY_LNG, CITY_LAT, CITY_LNG, st.floats(0, 1))
def test_a_step_covers_its_metres_and_shortens_the_way(
    lat1: float, lng1: float, lat2: float, lng2: float, share: float
) -> None:
    whole = distance_m(lat1, lng1, lat2, lng2)
    assume(whole > 1)
    lat, lng = toward((lat1, lng1), (lat2, lng2), whole * share)
    assert distance_m(lat1, lng1, lat, lng) == pytest.approx(whole * share, rel=0.01, abs=1)
    assert distance_m(lat, lng, lat2, lng2) == pytest.approx(whole * (1 - share), rel=0.01, abs=1)


@given(CITY_LAT, CITY_LNG, CITY_LAT, CITY_LNG, st.floats(0, 1e6))
def test_a_step_never_passes_its_goal(lat1: float, lng1: float, lat2: float, lng2: float, extra: float) -> None:
    whole = distance_m(lat1, lng1, lat2, lng2)
    assert toward((lat1, lng1), (lat2, lng2), whole + extra) == (lat2, lng2)
    assert toward((lat1, lng1), (lat2, lng2), -extra) == ((lat1, lng1) if whole > 0 else (lat2, lng2))


@given(LAT, LNG, st.sampled_from([50.0, 200.0, 1000.0]))
def test_a_coarse_point_is_near_and_hides_the_rest(lat: float, lng: float, metres: float) -> None:
    cell = coarse(lat, lng, metres)
    assert distance_m(lat, lng, *cell) <= metres * 0.75 + 2
    assert coarse(*cell, metres) == cell


@given(CITY_LAT, CITY_LNG, st.floats(0, 360))
def test_two_places_of_one_cell_look_the_same(lat: float, lng: float, course: float) -> None:
    """Whoever stands within 50 m of a cell's middle gets that middle: nothing finer leaks."""
    middle = coarse(lat, lng)
    north = 50 * math.cos(math.radians(course)) / 111_195
    east = 50 * math.sin(math.radians(course)) / 111_195 / math.cos(math.radians(middle[0]))
    assert coarse(middle[0] + north, middle[1] + east) == middle
