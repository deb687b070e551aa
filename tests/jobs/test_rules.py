"""What may happen to a job and what it comes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.jobs import rules
from dispatch.kit.errors import IllegalTransition, ReasonRequired
from dispatch.kit.geo import distance_m
from dispatch.markets import Markets
from protocol.lifecycle import FINAL, Actor, JobStatus
from protocol.resources import Place

BKK = Markets.load()["bkk"]


@given(
    reported=st.floats(0, 200_000),
    trail=st.floats(0, 100_000),
    riding=st.floats(0, 86_400),
    surge=st.integers(100, 999),
)
def test_the_phones_distance_counts_up_to_the_trails_bound(
    reported: float, trail: float, riding: float, surge: int
) -> None:
    end = rules.settle(BKK, reported_m=reported, trail_m=trail, riding_s=riding, surge_pct=surge)
    bound = trail * 1.3 + 500
    assert end.flagged == (reported > bound)
    assert end.distance_m == round(min(reported, bound))
    assert end.duration_s == round(riding)
    parts = end.fare
    assert parts.total_minor == parts.base_minor + parts.distance_minor + parts.time_minor + parts.surge_minor
    assert 0 <= end.earnings_minor <= parts.total_minor


def test_without_a_report_the_trail_counts() -> None:
    assert rules.settle(BKK, reported_m=None, trail_m=4_000.4, riding_s=60, surge_pct=100).distance_m == 4_000


def test_the_seeds_examples_hold() -> None:
    plain = rules.settle(BKK, reported_m=5_000, trail_m=5_000, riding_s=900, surge_pct=100)
    assert (plain.fare.total_minor, plain.earnings_minor) == (7_500, 6_000)
    surged = rules.settle(BKK, reported_m=5_000, trail_m=5_000, riding_s=900, surge_pct=150)
    assert (surged.fare.surge_minor, surged.fare.total_minor) == (3_750, 11_250)


@pytest.mark.parametrize("end", sorted(FINAL))
@pytest.mark.parametrize("goal", list(JobStatus))
@pytest.mark.parametrize("by", list(Actor))
def test_nothing_leaves_a_final_state(end: JobStatus, goal: JobStatus, by: Actor) -> None:
    with pytest.raises(IllegalTransition):
        rules.check_move(end, goal, by)


@pytest.mark.parametrize("by", [Actor.PROVIDER, Actor.ADMIN])
@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_provider_and_admin_must_say_why(by: Actor, reason: str | None) -> None:
    with pytest.raises(ReasonRequired):
        rules.check_reason(by, reason)


def test_a_customer_need_not_say_why() -> None:
    assert rules.check_reason(Actor.CUSTOMER, None) is None
    assert rules.check_reason(Actor.ADMIN, " fraud ") == "fraud"


def test_a_glimpse_shows_no_address_and_no_exact_point() -> None:
    place = Place(lat=13.75634, lng=100.50187, address="Khao San Road 1")
    glimpse = rules.glimpse(BKK, place)
    assert glimpse["address"] != place.address
    away = distance_m(place.lat, place.lng, glimpse["lat"], glimpse["lng"])  # type: ignore[arg-type]
    assert 0 < away < 200
