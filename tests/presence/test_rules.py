"""Which fixes are believed."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.presence.errors import ClockSkew, PositionRejected
from dispatch.presence.model import Live
from dispatch.presence.rules import FUTURE_MS_MAX, GOOD_AFTER, JUMP_SLACK_M, judge
from protocol.errors import WhyRejected

NOW = 1_700_000_000_000


def live(lat: float = 13.75, lng: float = 100.5, at_ms: int = NOW - 1_000) -> Live:
    return Live(uuid4(), uuid4(), uuid4(), ("ride",), 10_000, True, lat=lat, lng=lng, at_ms=at_ms)


def ask(known: Live, lat: float, lng: float, at_ms: int) -> None:
    judge(known, lat, lng, at_ms, NOW, stale_ms=30_000, speed_max_mps=55.0)


def why(known: Live, lat: float, lng: float, at_ms: int) -> WhyRejected:
    with pytest.raises(PositionRejected) as refusal:
        ask(known, lat, lng, at_ms)
    return refusal.value.why


def test_a_fix_five_seconds_ahead_is_taken_and_one_later_is_skew() -> None:
    ask(live(), 13.75, 100.5, NOW + FUTURE_MS_MAX)
    with pytest.raises(ClockSkew) as refusal:
        ask(live(), 13.75, 100.5, NOW + FUTURE_MS_MAX + 1)
    assert refusal.value.details == {"offset_ms": FUTURE_MS_MAX + 1}


def test_an_old_fix_is_stale() -> None:
    assert why(live(at_ms=0), 13.75, 100.5, NOW - 30_001) is WhyRejected.STALE


def test_a_fix_of_the_same_instant_or_before_is_out_of_order() -> None:
    known = live()
    assert why(known, 13.75, 100.5, known.at_ms) is WhyRejected.OUT_OF_ORDER
    assert why(known, 13.75, 100.5, known.at_ms - 1) is WhyRejected.OUT_OF_ORDER


def test_the_first_fix_is_believed_wherever_it_is() -> None:
    ask(live(at_ms=0), -33.0, 151.0, NOW)


def test_a_jump_across_the_country_is_impossible_and_the_last_good_place_stays() -> None:
    known = live()
    assert why(known, 18.79, 98.98, NOW) is WhyRejected.IMPOSSIBLE
    assert (known.lat, known.lng) == (13.75, 100.5)


def test_three_fixes_that_agree_are_believed_against_the_one_before_them() -> None:
    known = live(at_ms=NOW - 20_000)
    for turn in range(GOOD_AFTER - 1):
        assert why(known, 18.79, 98.98, NOW - 10_000 + turn * 1_000) is WhyRejected.IMPOSSIBLE
    ask(known, 18.79, 98.98, NOW)


def test_three_jumps_that_do_not_agree_are_not_believed() -> None:
    known = live(at_ms=NOW - 20_000)
    for turn, lat in enumerate((18.0, 7.0, 18.0, 7.0, 18.0)):
        assert why(known, lat, 100.5, NOW - 10_000 + turn * 1_000) is WhyRejected.IMPOSSIBLE


@given(metres=st.floats(0, 5_000), seconds=st.integers(1, 20))
def test_the_bound_is_speed_times_time_plus_noise(metres: float, seconds: int) -> None:
    known = live(at_ms=NOW - seconds * 1_000)
    lat = known.lat + metres / 111_195.0
    bound = JUMP_SLACK_M + 55.0 * seconds
    if metres < bound - 1:
        ask(known, lat, known.lng, NOW)
    elif metres > bound + 1:
        assert why(known, lat, known.lng, NOW) is WhyRejected.IMPOSSIBLE
