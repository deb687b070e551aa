"""Rates and warnings, from counts alone."""

from datetime import date, timedelta

import pytest

from dispatch.kit.days import check_range
from dispatch.kit.errors import BadDateRange
from dispatch.performance.rules import outcomes, share, warnings_of
from protocol import codec


def test_of_nothing_there_is_no_share() -> None:
    assert (share(0, 0), share(0, 4), share(1, 4), share(4, 4)) == (None, 0.0, 0.25, 1.0)


def test_rates_that_nothing_stands_for_are_null_and_are_there() -> None:
    assert codec.encode(outcomes(0, 0, 0, 0)) == (
        b'{"offered":0,"accepted":0,"completed":0,"cancelled":0,"acceptance_rate":null,"completion_rate":null,"cancellation_rate":null}'
    )
    some = outcomes(10, 8, 4, 2)
    assert (some.acceptance_rate, some.completion_rate, some.cancellation_rate) == (0.8, 0.5, 0.25)


@pytest.mark.parametrize(
    ("rating", "accepted", "cancelled", "expected"),
    [
        (None, 0, 0, []),
        (4.0, 5, 1, []),
        (3.99, 5, 1, ["low_rating"]),
        (None, 5, 2, ["high_cancellation_rate"]),
        (5.0, 1000, 201, ["high_cancellation_rate"]),
        (5.0, 1000, 200, []),
        (1.0, 1, 1, ["low_rating", "high_cancellation_rate"]),
    ],
)
def test_who_is_warned(rating: float | None, accepted: int, cancelled: int, expected: list[str]) -> None:
    lifetime = outcomes(accepted, accepted, accepted - cancelled, cancelled)
    assert [one.warning for one in warnings_of(rating, lifetime, "en")] == expected


def test_warnings_speak_the_readers_language() -> None:
    lifetime = outcomes(1, 1, 0, 1)
    for one in warnings_of(1.0, lifetime, "th"):
        assert any("\u0e00" <= letter <= "\u0e7f" for letter in one.message)
    for one in warnings_of(1.0, lifetime, "en"):
        assert one.message.isascii()


def test_a_range_has_a_day_at_least_and_a_leap_year_at_most() -> None:
    day = date(2026, 11, 20)
    check_range(day, day)
    check_range(day, day + timedelta(days=365))
    for last in (day - timedelta(days=1), day + timedelta(days=366)):
        with pytest.raises(BadDateRange):
            check_range(day, last)
