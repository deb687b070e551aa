"""How cabs move: even speed, arriving on time, and back onto their own trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.demo.motion import REJOIN_STEP_S, REJOIN_WITHIN_S, Drive, drive, rejoin
from bench.demo.recording import Trace
from dispatch.kit.geo import distance_m

A, B, C = (37.78, -122.42), (37.79, -122.41), (37.70, -122.45)
PLACES = st.tuples(st.floats(37.7, 37.8), st.floats(-122.5, -122.4))


def test_a_drive_stands_before_its_start_and_after_its_end() -> None:
    way = Drive(A, B, 100, 200)
    assert way.at(50) == A
    assert way.at(100) == A
    assert way.at(200) == B
    assert way.at(300) == B


@given(PLACES, PLACES, st.floats(1, 30), st.floats(0, 1))
def test_a_drive_keeps_its_speed(a: tuple[float, float], b: tuple[float, float], speed: float, share: float) -> None:
    way = drive(a, b, 1000, speed)
    moment = 1000 + (way.end - 1000) * share
    assert distance_m(*a, *way.at(moment)) == pytest.approx(speed * (moment - 1000), abs=0.5, rel=0.001)
    assert way.at(way.end) == b


def test_a_drive_to_where_the_cab_stands_takes_no_time() -> None:
    way = drive(A, A, 1000, 5)
    assert way.end == 1000
    assert way.at(1000) == A


def test_a_cab_on_its_trace_rejoins_it_at_once() -> None:
    trace = Trace([0, 600], [A, B])
    assert rejoin(A, trace, 0, 6) == Drive(A, A, 0, 0)


@given(PLACES, st.floats(0, 3000))
def test_a_cab_meets_its_trace_when_the_trace_is_there_and_not_faster_than_it_can_drive(
    place: tuple[float, float], start: float
) -> None:
    trace = Trace([float(60 * minute) for minute in range(120)], [A if minute % 2 else B for minute in range(120)])
    way = rejoin(place, trace, start, 6)
    assert way is not None
    assert way.end <= start + REJOIN_WITHIN_S
    assert way.b == trace.at(way.end)
    assert way.length_m() <= 6 * (way.end - start) + 1e-6
    earlier = trace.at(way.end - REJOIN_STEP_S)
    if way.end - REJOIN_STEP_S >= start and earlier is not None:
        assert distance_m(*place, *earlier) > 6 * (way.end - REJOIN_STEP_S - start)


def test_a_silent_trace_is_awaited_at_its_next_report() -> None:
    way = rejoin(A, Trace([0, 10_000, 10_060], [B, C, C]), 100, 6)
    assert way is not None
    assert way.b == C
    assert way.end == pytest.approx(100 + distance_m(*A, *C) / 6)


def test_a_trace_that_is_over_is_not_rejoined() -> None:
    assert rejoin(A, Trace([0, 60], [B, C]), 100, 6) is None
