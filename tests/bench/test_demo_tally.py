"""What a run proves: one dropped event is one lost event, a second yes is a double, what never came is infinite."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.demo.tally import (
    Applied,
    Assignments,
    Tally,
    lost_events,
    offer_latencies_ms,
    percentile,
    read_stamps,
)


def applied(*seqs: int, snapshot: int = 0) -> Applied:
    client = Applied()
    client.snapshot(snapshot)
    for seq in seqs:
        client.event(seq)
    return client


def test_a_client_that_has_everything_lost_nothing() -> None:
    assert lost_events({"u": range(1, 6)}, {"u": applied(1, 2, 3, 4, 5)}) == 0


def test_one_dropped_event_is_one_lost_event() -> None:
    assert lost_events({"u": range(1, 6)}, {"u": applied(1, 2, 4, 5)}) == 1


def test_the_newest_event_counts_too() -> None:
    assert lost_events({"u": [1, 2]}, {"u": applied(1)}) == 1


def test_a_snapshot_counts_for_everything_up_to_its_seq_and_for_nothing_after_it() -> None:
    assert lost_events({"u": range(1, 8)}, {"u": applied(6, snapshot=5)}) == 1
    assert applied(7, snapshot=5).lacks(range(1, 8)) == [6]


def test_losses_of_all_clients_are_added_and_users_without_a_client_have_none() -> None:
    written = {"a": [1, 2], "b": [1, 2, 3], "nobody": [1, 2, 3, 4]}
    assert lost_events(written, {"a": applied(1), "b": applied()}) == 4


def test_a_repeat_is_not_applied_twice() -> None:
    client = applied(1, 3)
    assert not client.event(1)
    assert not client.event(3)
    assert client.event(2)
    assert not client.event(2)


@given(st.sets(st.integers(1, 60)), st.integers(0, 60), st.randoms(use_true_random=False))
def test_what_lacks_is_exactly_what_was_never_applied(seqs: set[int], snapshot: int, order: object) -> None:
    shuffled = sorted(seqs)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    client = Applied()
    for position, seq in enumerate(shuffled):
        if position == len(shuffled) // 2:
            client.snapshot(snapshot)
        client.event(seq)
    if not shuffled:
        client.snapshot(snapshot)
    expected = [seq for seq in range(1, 61) if seq > snapshot and seq not in seqs]
    assert client.lacks(range(1, 61)) == expected


def test_one_winner_per_job_is_no_double() -> None:
    told = Assignments()
    told.told_yes("j1", 1, "p1")
    told.told_yes("j2", 1, "p2")
    told.told_yes("j1", 1, "p1")  # the same answer again, to a question asked again
    assert told.doubles() == 0
    assert len(told) == 2


def test_two_winners_of_one_round_are_a_double_even_if_one_is_released_later() -> None:
    told = Assignments()
    told.told_yes("j", 1, "p1")
    told.told_yes("j", 1, "p2")
    told.told_released("j", "p1")
    assert told.doubles() == 1


def test_a_second_winner_after_a_release_is_none_whichever_frame_comes_first() -> None:
    told = Assignments()
    told.told_yes("j", 1, "p1")
    told.told_yes("j", 2, "p2")
    assert told.doubles() == 1
    told.told_released("j", "p1")
    assert told.doubles() == 0


def test_a_release_of_the_last_winner_does_not_excuse_the_first() -> None:
    told = Assignments()
    told.told_yes("j", 1, "p1")
    told.told_yes("j", 2, "p2")
    told.told_released("j", "p2")
    assert told.doubles() == 1


def test_percentiles_are_values_that_happened() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


def test_an_offer_that_never_came_is_infinite_and_shows_in_the_percentile() -> None:
    stamped = {f"o{number}": 1_000_000 * number for number in range(50)}
    seen = {offer: stamp + 2_000_000 for offer, stamp in stamped.items() if offer != "o3"}
    latencies = offer_latencies_ms(stamped, seen)
    assert percentile(latencies, 0.5) == 2.0
    assert percentile(latencies, 0.98) == 2.0
    assert percentile(latencies, 0.99) == math.inf


@given(st.lists(st.floats(0, 1e6) | st.just(math.inf), min_size=1), st.floats(0.01, 1))
def test_enough_values_do_not_exceed_a_percentile(values: list[float], share: float) -> None:
    at = percentile(values, share)
    assert at in values
    assert sum(value <= at for value in values) >= share * len(values) - 1e-9


def test_only_the_first_frame_of_an_offer_counts() -> None:
    tally = Tally()
    tally.saw_offer("o", 5)
    tally.saw_offer("o", 9)
    assert tally.offer_seen_ns == {"o": 5}


def test_stamps_are_read_and_a_torn_last_line_is_left_out() -> None:
    assert read_stamps(["a\t1\n", "b\t22\n", "a\t3\n", "c\t4"]) == {"a": 1, "b": 22}


def test_jobs_are_counted_by_their_newest_status() -> None:
    tally = Tally(jobs={"a": "completed", "b": "cancelled", "c": "completed"})
    assert tally.by_status() == {"completed": 2, "cancelled": 1}


def test_no_value_at_all_is_no_number() -> None:
    assert offer_latencies_ms({}, {"o": 1}) == []
    with pytest.raises(ValueError, match="invalid literal"):
        read_stamps(["a\tnot a number\n"])
