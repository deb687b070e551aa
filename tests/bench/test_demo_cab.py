"""A cab without a line: what it makes of what it hears, and where it is meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.demo.account import Account
from bench.demo.cab import Cab
from bench.demo.city import City, CityClock
from bench.demo.recording import Fare, Recording, Request, Trace
from bench.demo.tally import Tally
from bench.demo.warm import warm_fares, warm_request
from protocol.frames import Event, Snapshot

HERE, THERE = (37.78, -122.42), (37.79, -122.41)
TRACE = Trace([0.0, 500.0, 1100.0], [HERE, HERE, THERE])
TOKENS = {"access_token": "a", "refresh_token": "r", "expires_in_s": 900}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def in_a_city(act: Callable[[City, Cab], Awaitable[None]]) -> None:
    async def scene() -> None:
        city = City(
            url="http://127.0.0.1:1",
            clock=CityClock(1000.0, 20.0),
            tally=Tally(),
            seed=1,
            drive_mps=120.0,
            warm_mps=500.0,
        )
        await act(city, Cab(city, 0, Account("p0", "ann@demo.invalid", "secret", TOKENS), TRACE))
        await city.end()

    asyncio.run(scene())


def offer(number: int, job: str = "j1") -> dict[str, Any]:
    return {"offer_id": f"o{number}", "round": 1, "job": {"id": job}, "pickup_distance_m": 10}


def event(seq: int, name: str, data: dict[str, Any]) -> Event:
    return Event(seq=seq, name=name, at=AT, data=data)


def test_a_won_offer_is_a_yes_even_if_the_reply_is_never_heard() -> None:
    async def act(city: City, cab: Cab) -> None:
        city.closing = True  # nobody answers by himself
        cab._heard(event(1, "offer.created", offer(1)))
        cab._heard(event(2, "offer.withdrawn", {"offer_id": "o1", "job_id": "j1", "reason": "accepted"}))
        city.tally.assignments.told_yes("j1", 1, "another")
        assert city.tally.assignments.doubles() == 1

    in_a_city(act)


def test_a_job_taken_away_is_a_release() -> None:
    async def act(city: City, cab: Cab) -> None:
        city.tally.assignments.told_yes("j1", 1, "p0")
        city.tally.assignments.told_yes("j1", 2, "another")
        cab._heard(event(1, "job.cancelled", {"job": {"id": "j1"}, "by": "system", "reason": "released"}))
        assert city.tally.assignments.doubles() == 0

    in_a_city(act)


def test_events_and_snapshots_are_counted_as_applied_once() -> None:
    async def act(city: City, cab: Cab) -> None:
        cab._replaced(Snapshot(epoch="e", seq=4, jobs=[], offers=[offer(1)]))
        cab._heard(event(5, "provider.updated", {}))
        cab._heard(event(5, "provider.updated", {}))
        cab._heard(event(7, "provider.updated", {}))
        assert city.tally.applied["p0"].lacks(range(1, 8)) == [6]
        assert city.tally.events == 2
        assert list(city.tally.offer_seen_ns) == ["o1"]

    in_a_city(act)


def test_an_offer_that_is_in_the_snapshot_no_more_is_not_answered() -> None:
    async def act(city: City, cab: Cab) -> None:
        cab._heard(event(1, "offer.created", offer(1)))
        cab._replaced(Snapshot(epoch="e", seq=2, jobs=[], offers=[]))
        cab._answer("o1", "accept")
        assert city.asking == 0
        assert city.tally.answers == {}

    in_a_city(act)


def test_a_parked_cab_stays_and_then_returns_to_its_trace() -> None:
    async def act(city: City, cab: Cab) -> None:
        assert cab.place() == pytest.approx((37.78 + 0.01 * 500 / 600, -122.42 + 0.01 * 500 / 600))
        cab.park(HERE)
        assert cab.place() == HERE
        cab.back_to_trace()
        assert cab.place() == pytest.approx(HERE, abs=1e-4)

    in_a_city(act)


def test_the_city_stands_until_it_begins() -> None:
    async def act(city: City, cab: Cab) -> None:
        assert city.clock.now() == 1000.0
        assert city.clock.wall_s(1040.0) == 2.0
        assert city.clock.wall_s(900.0) == 0.0
        city.clock.begin()
        assert 1000.0 <= city.clock.now() < 1100.0

    in_a_city(act)


def test_a_fault_of_ours_ends_the_run_instead_of_being_swallowed() -> None:
    async def act(city: City, cab: Cab) -> None:
        async def fault() -> None:
            raise KeyError("a fault")

        city.spawn(fault())
        with pytest.raises(KeyError):
            await city.failure

    in_a_city(act)


def test_only_trips_that_span_the_start_and_have_both_ends_on_the_trace_are_under_way() -> None:
    trace = Trace([0.0, 500.0, 1000.0], [HERE, HERE, THERE])
    fares = (
        Fare("a", 100.0, 900.0),
        Fare("b", 700.0, 900.0),  # begins later
        Fare("c", 100.0, 500.0),  # over by then
        Fare("d", 100.0, 2000.0),  # ends where the trace knows nothing
        Fare("e", 100.0, 900.0),  # of a cab that does not drive today
    )
    recording = Recording(600.0, 900.0, (), dict.fromkeys("abcde", trace), fares, 0)
    assert warm_fares(recording, "abcd") == {"a": fares[0]}
    assert warm_request(fares[0], trace).pickup == HERE
    with pytest.raises(ValueError, match="does not know"):
        warm_request(fares[3], trace)
    assert warm_request(fares[0], trace) == Request(100.0, HERE, trace.at(900.0))
