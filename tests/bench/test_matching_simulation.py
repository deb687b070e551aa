"""The simulator: the same day twice is the same log, its log replays, and its world keeps the rules of the real one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from bench.matching.behaviour import Behaviour, draw
from bench.matching.city import SLOT_MS, City, Plane, Trip, made_up
from bench.matching.command import market_with
from bench.matching.engine import Outcome, World
from bench.matching.ground import Ground
from bench.matching.measures import gini, measures, quantile
from dispatch.matching import Decision, Question
from dispatch.matching.record import Recorder, lines, replay

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ["nearest", "waves", "broadcast", "batch"]
YES = Behaviour(silent=0.0, eager=1.0, spread=0.0, half_m=1e12)
"""Everybody takes everything."""


def day(policy: str, *, seed: int = 7, per_busy: float = 1.6, **given: object) -> Outcome:
    market = market_with(policy)
    city = made_up(3, market, trips=400, hours=2, per_busy=per_busy)
    return World(city, market, seed=seed, **given).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_day_comes_out_the_same_in_a_process_that_hashes_otherwise(policy: str) -> None:
    command = [sys.executable, "-m", "bench", "simulate", "--made-up", "3", "--policy", policy, "--seed", "7"]
    hashes = set()
    for salt in ("1", "2"):
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True
        )
        hashes |= {line.split()[1] for line in done.stdout.splitlines() if line.startswith("log_hash")}
    assert len(hashes) == 1


def test_a_cab_is_busy_from_its_yes_to_the_drop_off() -> None:
    """One cab, one trip of 3 km, nothing else: half an hour on shift, way and trip of it busy."""
    market = market_with("nearest")
    city = City("one", Plane(37.76, -122.43), (Trip(60_000, 0.0, 0.0, 3_000.0, 0.0),), (1,), (((0.0, 600.0),),))
    outcome = World(city, market, behaviour=YES).run()
    (job,) = outcome.jobs
    straight_mps = market.speed_mps / market.detour_factor
    assert job.pickup_m == 600
    assert measures(outcome, market)["busy"] * SLOT_MS / 1000 == pytest.approx(3_600 / straight_mps, abs=0.01)


def test_another_seed_is_another_day() -> None:
    assert day("nearest", seed=7).log_hash != day("nearest", seed=8).log_hash


def test_an_answer_is_drawn_from_the_words_it_is_about() -> None:
    """What is remembered of a driver changes no draw."""
    model, many = Behaviour(), range(300)
    for job in many:
        for cab in (1, 2):
            bent = 1 + model.spread * (2 * draw(7, 3, cab) - 1)
            assert model.takes(7, cab, job, 900) == (draw(7, 4, cab, job) < model.eager * bent * 2 ** (-900 / 6_000))
            silent = draw(7, 1, cab, job, 2) < model.silent
            assert silent == (model.delay_ms(7, cab, job, 2, 10**9) is None)
    assert 200 < sum(model.takes(7, 1, job, 900) for job in many) < 290


@pytest.mark.parametrize("policy", POLICIES)
def test_the_log_of_a_day_replays(policy: str, tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    with Recorder(log) as recorder:
        outcome = day(policy, listener=recorder)
    assert recorder.left_out == 0
    assert replay(log) == (outcome.decisions, [])


def test_a_decision_that_would_be_made_otherwise_is_found(tmp_path: Path) -> None:
    """A log in which somebody stood elsewhere than the decision says."""

    def lie(question: Question, decision: Decision) -> None:
        recorder(question, Decision({job: () for job in decision.offers}, decision.reasons))

    log = tmp_path / "log.gz"
    with Recorder(log) as recorder:
        day("nearest", listener=lie)
    count, others = replay(log)
    assert 0 < len(others) <= count


def test_a_log_is_bounded_and_says_what_it_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    with Recorder(log, limit_bytes=2_000) as recorder:
        outcome = day("nearest", listener=recorder)
    assert recorder.kept + recorder.left_out == outcome.decisions
    assert sum(1 for _ in lines(log)) == recorder.kept < outcome.decisions


@pytest.mark.parametrize("policy", POLICIES)
def test_every_job_ends_once_and_nobody_drives_two_at_a_time(policy: str) -> None:
    market = market_with(policy)
    offered: list[tuple[int, UUID, int]] = []

    def heard(question: Question, decision: Decision) -> None:
        offered.extend((question.at_ms, job, len(some)) for job, some in decision.offers.items())

    outcome = World(made_up(3, market, trips=400, hours=2, per_busy=1.6), market, seed=7, listener=heard).run()
    assert not any(job.open or job.live for job in outcome.jobs)
    assert not any(cab.live or cab.busy for cab in outcome.cabs)
    taken = [job for job in outcome.jobs if job.taken_at is not None]
    assert sum(cab.accepted for cab in outcome.cabs) == len(taken) > 100
    assert all(0 <= job.taken_at - job.trip.at_ms <= 1000 * market.job_ttl_s + 500 for job in taken if job.taken_at)
    assert sum(count for _, _, count in offered) == outcome.offers


def corner(trips: tuple[Trip, ...], haunt: tuple[float, float], cabs: int) -> City:
    return City("corner", Plane(37.76, -122.43), trips, (cabs,), ((haunt,),))


def test_a_trip_takes_what_its_way_takes() -> None:
    market = market_with("nearest")
    trip = Trip(60_000, 750.0, 0.0, 750.0, 1_500.0)
    outcome = World(corner((trip,), (0.0, 0.0), 1), market, behaviour=YES).run()
    (job,) = outcome.jobs
    assert job.pickup_m == 750
    assert job.way_ms == round(1000 * 750 * market.detour_factor / market.speed_mps)
    assert job.taken_at is not None
    assert YES.quick_s * 1000 <= job.taken_at - trip.at_ms < market.offer_ttl_s * 1000


def test_the_second_customer_waits_until_the_only_cab_is_free() -> None:
    market = market_with("nearest")
    trips = (Trip(60_000, 0.0, 0.0, 0.0, 600.0), Trip(61_000, 0.0, 600.0, 0.0, 0.0))
    outcome = World(corner(trips, (0.0, 0.0), 1), market, behaviour=YES).run()
    first, second = outcome.jobs
    assert first.taken_at is not None
    assert second.taken_at is not None
    free_at = first.taken_at + first.way_ms + round(1000 * 600 * market.detour_factor / market.speed_mps)
    assert second.taken_at >= free_at
    assert second.taken_at - free_at < 1000 * market.offer_ttl_s


def test_an_offer_nobody_answers_lapses_and_the_job_ends() -> None:
    market = market_with("nearest")
    deaf = Behaviour(silent=1.0)
    outcome = World(corner((Trip(60_000, 0.0, 0.0, 0.0, 600.0),), (0.0, 0.0), 1), market, behaviour=deaf).run()
    (job,) = outcome.jobs
    assert job.taken_at is None
    # Every 15 s of an offer's life are followed by 15 s in which he is not asked again.
    assert 15 <= job.offered <= 21


def test_a_no_is_final_for_that_job() -> None:
    market = market_with("nearest")
    outcome = World(
        corner((Trip(60_000, 0.0, 0.0, 0.0, 600.0),), (0.0, 0.0), 1), market, behaviour=Behaviour(silent=0, eager=0)
    ).run()
    assert [job.offered for job in outcome.jobs] == [1]


def test_the_fleet_follows_its_half_hours() -> None:
    market = market_with("nearest")
    city = City("shifts", Plane(37.76, -122.43), (), (3, 1, 2), (((0.0, 0.0),),) * 3)
    outcome = World(city, market).run()
    assert sum(cab.on_ms for cab in outcome.cabs) == 6 * SLOT_MS


def test_a_stretch_begins_with_cabs_under_way() -> None:
    market = market_with("nearest")
    trip = Trip(1_000, 0.0, 0.0, 0.0, 6_000.0)
    city = City("under way", Plane(37.76, -122.43), (trip,), (1,), (((0.0, 6_000.0),),), under_way=1)
    (job,) = World(city, market, behaviour=YES).run().jobs
    assert job.taken_at is not None
    assert job.taken_at > trip.at_ms + YES.quick_s * 1000
    (at_once,) = World(replace(city, under_way=0), market, behaviour=YES).run().jobs
    assert at_once.taken_at is not None
    assert at_once.taken_at < job.taken_at


def test_near_is_what_a_plain_reading_says() -> None:
    ground = Ground(60, 10.0)
    places = {cab: (1000 * draw(1, cab), 1000 * draw(2, cab)) for cab in range(60)}
    for cab, place in places.items():
        ground.put(cab, *place, 0)
    for cab in range(0, 60, 7):
        assert ground.take(cab) == places.pop(cab)
    for wanted in (1, 4, 100):
        for without in ((), (1, 2, 3)):
            plain = sorted(
                (((x - 500) ** 2 + (y - 500) ** 2) ** 0.5, cab) for cab, (x, y) in places.items() if cab not in without
            )
            expected = [cab for metres, cab in plain if metres <= 400][:wanted]
            assert [cab for cab, _ in ground.near(500, 500, wanted, 400, without)] == expected


def test_the_nearer_number_wins_between_equals() -> None:
    ground = Ground(3, 10.0)
    for cab, x in ((2, 100.0), (1, -100.0), (0, 300.0)):
        ground.put(cab, x, 0.0, 0)
    assert ground.near(0, 0, 1, 1000) == [(1, 100)]


def test_an_idle_cab_stands_then_cruises_to_its_haunt() -> None:
    ground = Ground(1, 50.0)
    ground.put(0, 0.0, 0.0, 0)
    for tick in range(1, 60):
        ground.tick(tick * 10_000, lambda cab: (1000.0, 0.0))
        if tick == 29:
            assert ground.place(0) == (0.0, 0.0)
    assert ground.place(0) == pytest.approx((1000.0, 0.0))
    assert ground.cruised_m == pytest.approx(1000.0)


def test_figures() -> None:
    assert gini([1, 1, 1]) == pytest.approx(0)
    assert gini([0, 0, 1]) == pytest.approx(2 / 3)
    assert (quantile([3, 1, 2], 0.5), quantile(list(range(1, 101)), 0.95)) == (2, 95)
    market = market_with("batch")
    row = measures(day("batch"), market)
    assert 0 < row["served"] <= 1
    assert row["window_jobs"] >= 1
    assert row["offers_per_assignment"] >= 1
