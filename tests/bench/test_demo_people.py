"""Drivers and customers behave as their seed says, and like people."""

import pytest

from bench.demo.people import Driver, Phone, asking, fleet, patience_s


def history(seed: int, number: int) -> list[object]:
    driver, phone = Driver(seed, number), Phone(seed, f"cab {number}")
    return [(driver.reply(), driver.boarding_s(), phone.next_loss()) for _ in range(50)]


def test_the_same_seed_is_the_same_driver() -> None:
    assert history(1, 7) == history(1, 7)


def test_another_seed_or_another_number_is_another_driver() -> None:
    assert history(1, 7) != history(2, 7)
    assert history(1, 7) != history(1, 8)


def test_a_trip_more_changes_no_answer() -> None:
    """The draws do not share a stream: what a driver answers depends on how many offers he saw and on nothing else."""
    busy, idle = Driver(1, 1), Driver(1, 1)
    for _ in range(5):
        busy.boarding_s()
    assert [busy.reply() for _ in range(20)] == [idle.reply() for _ in range(20)]


def test_most_accept_some_decline_a_few_ignore_and_all_take_their_time() -> None:
    replies = [Driver(1, number).reply() for number in range(3000)]
    share = {
        answer: sum(reply.answer == answer for reply in replies) / 3000 for answer in ("accept", "decline", "ignore")
    }
    assert share["accept"] == pytest.approx(0.82, abs=0.03)
    assert share["decline"] == pytest.approx(0.12, abs=0.03)
    assert share["ignore"] == pytest.approx(0.06, abs=0.03)
    assert all(0.8 <= reply.after_s <= 20 for reply in replies)


def test_a_few_phones_lose_their_line_within_a_minute() -> None:
    lost = [Phone(1, f"cab {number}").next_loss() for number in range(300)]
    assert 2 <= sum(after < 60 for after, _ in lost) <= 45
    assert all(1 <= away <= 8 for _, away in lost)


def test_customers_wait_before_they_give_up() -> None:
    waits = [patience_s(1, request) for request in range(100)]
    assert min(waits) >= 12
    assert len(set(waits)) == 100
    assert waits == [patience_s(1, request) for request in range(100)]


def test_a_share_of_the_requests_is_made_and_a_greater_share_holds_the_smaller() -> None:
    some, more = asking(1, range(1000), 0.3), asking(1, range(1000), 0.6)
    assert 250 < len(some) < 350
    assert set(some) < set(more)
    assert list(some) == sorted(some)
    assert asking(1, range(1000), 1.0) == tuple(range(1000))


def test_the_fleet_is_those_who_are_on_the_road_longest_and_the_seed_decides_among_equals() -> None:
    coverage = {"all-day": 1.0, "also": 1.0, "third": 1.0, "half": 0.5, "never": 0.0}
    assert set(fleet(1, coverage, 3)) == {"all-day", "also", "third"}
    assert fleet(1, coverage, 4)[3] == "half"
    assert fleet(1, coverage, 3) == fleet(1, dict(reversed(coverage.items())), 3)
    assert len({tuple(fleet(seed, coverage, 2)) for seed in range(20)}) > 1


def test_more_cabs_than_were_on_the_road_are_refused() -> None:
    with pytest.raises(ValueError, match="has 4 cabs on the road in that time; 5 are wanted"):
        fleet(1, {"a": 1, "b": 1, "c": 1, "d": 0.5, "e": 0}, 5)
