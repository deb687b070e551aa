"""A schedule is the seed's, whole, and leaves calm stretches to measure in."""

from bench.chaos.plan import AFTER_S, ALONE, BEFORE_S, CALM_EVERY_S, KINDS, drawn, length_of, short

NAMES = [kind.name for kind in KINDS]


def test_the_same_seed_is_the_same_schedule_and_another_is_another() -> None:
    assert drawn(7, 300, NAMES, every_s=2) == drawn(7, 300, NAMES, every_s=2) != drawn(8, 300, NAMES, every_s=2)
    assert short(7, NAMES) == short(7, NAMES) != short(8, NAMES)


def test_ten_minutes_hold_every_kind_and_the_short_form_each_once() -> None:
    for seed in range(20):
        plan = drawn(seed, 600, NAMES, every_s=2)
        assert {one.kind for one in plan} == set(NAMES)
        assert all(one.at_s + one.length_s <= 600 for one in plan), "healed by the end"
        assert sorted(one.kind for one in short(seed, NAMES)) == sorted([*NAMES, "worker-kill"])
        assert length_of(short(seed, NAMES)) < 110


def test_faults_that_are_measured_strike_alone() -> None:
    for seed in range(20):
        plan = drawn(seed, 600, NAMES, every_s=2)
        for number in range(1, 13):
            at = number * CALM_EVERY_S
            near = [one for one in plan if one.at_s < at + AFTER_S and one.at_s + one.length_s > at - BEFORE_S]
            assert [one.kind for one in near] == [ALONE[(number - 1) % len(ALONE)][0]]


def test_only_what_is_asked_for_is_planned() -> None:
    assert {one.kind for one in drawn(1, 120, ["flushall"], every_s=2)} == {"flushall"}
    assert drawn(1, 120, [], every_s=2) == []
