"""Windows when something goes wrong in the middle: a worker dies or comes back late, two workers split one, a store is slow."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.app import App
from dispatch.matching import Decision, Question, Search, batching, decide
from dispatch.presence import Near
from tests.matching.test_windows import BATCH, Windows, east
from tests.support.server import WITHIN_S, Server, serving


@pytest.fixture
async def windows(database_url: str, redis_url: str) -> AsyncIterator[Windows]:
    async with serving(database_url, redis_url, markets=BATCH, workers=2) as server:
        yield Windows(server)


@pytest.fixture
async def alone(database_url: str, redis_url: str) -> AsyncIterator[Windows]:
    async with serving(database_url, redis_url, markets=BATCH) as server:
        yield Windows(server)


async def until(there: Callable[[], Any]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not there():
            await asyncio.sleep(0)


def only(app: App, others: Sequence[App], monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the others find nothing due until `app` has taken something."""
    took = asyncio.Event()
    take = app.matching._take

    async def first(job_id: UUID | None) -> list[Search]:
        found = await take(job_id)
        if found:
            took.set()
        return found

    monkeypatch.setattr(app.matching, "_take", first)
    for other in others:
        theirs = other.matching._take

        async def later(job_id: UUID | None, theirs: Any = theirs) -> list[Search]:
            found: list[Search] = await theirs(job_id) if took.is_set() else []
            return found

        monkeypatch.setattr(other.matching, "_take", later)


async def test_a_window_of_a_dead_worker_is_taken_by_another(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first dies between decision and offers; its lease ends and the other decides anew. Then the dead one turns out to have been slow:
    what it had decided counts no more.
    """
    server = windows.server
    monkeypatch.setattr(batching, "BUDGET_S", WITHIN_S)
    slow, quick = server.apps
    stopped, goes_on = asyncio.Event(), asyncio.Event()
    give = slow.matching._give

    ends: list[str] = []

    async def hangs(*given: Any, **named: Any) -> Any:
        stopped.set()
        await goes_on.wait()
        try:
            return await give(*given, **named)
        finally:
            ends.append("late")

    async with server.working(at=east(0.2)) as (near, _), server.working(at=east(0.4)) as (far, _):
        jobs = [await server.request(await server.person(), at=east(0)) for _ in range(2)]
        await windows.put_off(2)
        monkeypatch.setattr(slow.matching, "_give", hangs)
        only(slow, [quick], monkeypatch)
        await windows.end()
        await until(stopped.is_set)
        # What died with the worker is also its hold on both: nobody else may find them before it lapses, or is ended.
        await slow.presence.let_go(
            server.app.matching._markets["bkk"], [UUID(str(one.provider_id)) for one in (near, far)]
        )
        made = [(await driver.inbox.named("offer.created")).data for driver in (near, far)]
        assert {one["job"]["id"] for one in made} == {job["id"] for job in jobs}
        goes_on.set()
        await until(lambda: len(ends) == 2)
        offers = await server.sql("SELECT job_id, provider_id, status, round FROM offers")
        assert [(one["status"], one["round"]) for one in offers] == [("live", 1)] * 2


async def test_two_workers_that_split_a_window_hold_each_cab_once(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both weigh the same only cab before either holds him. One gets him; the other neither offers him nor ends the hold of the first."""
    server = windows.server
    monkeypatch.setattr(batching, "BUDGET_S", WITHIN_S)
    together = threading.Barrier(2)

    def both(question: Question) -> Decision:
        together.wait(WITHIN_S)
        return decide(question)

    leased: list[bool] = []

    async def alone_then(offer: Any, search: Search, *rest: Any, **named: Any) -> None:
        query = "SELECT searched_until IS NOT NULL AS leased FROM jobs WHERE id = $1"
        leased.extend(row["leased"] for row in await server.sql(query, search.job_id))
        await offer(search, *rest, **named)

    async with server.working(at=east(0)):
        jobs = [UUID((await server.request(await server.person(), at=east(0.1)))["id"]) for _ in range(2)]
        await windows.put_off(2)
        for app in server.apps:
            app.matching._batching._brain = both
            monkeypatch.setattr(app.matching, "_offer", partial(alone_then, app.matching._offer))
        await server.sql(
            "UPDATE jobs SET next_search_at = now() + interval '1 h', searched_until = now() + interval '1 h'"
        )
        searches = [Search(job, "bkk", "ride", 0, *east(0.1), False, False, False, ()) for job in jobs]
        async with asyncio.TaskGroup() as group:
            for app, search in zip(server.apps, searches, strict=True):
                group.create_task(app.matching._offer_together([search]))
        offers = await server.sql("SELECT job_id FROM offers")
        assert len(offers) == 1
        market = server.app.matching._markets["bkk"]
        seen = await server.app.presence.near(market, "ride", *east(0), wanted=5, radius_max_m=5_000, hold_s=-1)
        assert seen.found == [], "he looks at an offer"
        assert len(windows.heard) == 3, "two windows, and the loser by itself"
        assert leased == [True], "nobody else searches the loser's job meanwhile"


async def test_a_slow_map_is_not_waited_for(alone: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches of a window get no answer: after the budget each job is searched for by itself."""
    server = alone.server
    near = server.app.presence.near

    async def slow(*given: Any, **named: Any) -> Near:
        if named["hold_s"] < 0:
            await asyncio.Event().wait()
        return await near(*given, **named)

    monkeypatch.setattr(server.app.presence, "near", slow)
    async with server.working() as (driver, _):
        job = await server.request(await server.person())
        await alone.put_off(1)
        await alone.end()
        assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
    assert server.app.matching.fell_back == 1
    assert [question.terms.policy for question, _ in alone.heard] == ["waves"]


async def test_a_slow_judge_is_not_waited_for(alone: Windows) -> None:
    """A lock on what a window asks about candidates and nothing else does."""
    server = alone.server
    blocker = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        async with server.working() as (driver, _), blocker.transaction():
            job = await server.request(await server.person())
            await alone.put_off(1)
            await blocker.execute("LOCK TABLE performance_days")
            await alone.end()
            assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
    finally:
        await blocker.close()
    assert server.app.matching.fell_back == 1
    assert [question.terms.policy for question, _ in alone.heard] == ["waves"]


async def test_a_slow_hold_is_not_waited_for(alone: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    server = alone.server

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    async with server.working() as (driver, _):
        job = await server.request(await server.person())
        await alone.put_off(1)
        monkeypatch.setattr("dispatch.presence.live.hold", never)
        await alone.end()
        assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
    assert [question.terms.policy for question, _ in alone.heard] == ["batch"]


async def test_a_window_that_cannot_be_decided_keeps_no_job_waiting(alone: Windows) -> None:
    server = alone.server

    def fails(_: Question) -> Decision:
        raise ValueError("no such matrix")

    server.app.matching._batching._brain = fails
    async with server.working() as (driver, _):
        job = await server.request(await server.person())
        await alone.put_off(1)
        await alone.end()
        assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
    assert [question.terms.policy for question, _ in alone.heard] == ["waves"]


async def test_without_redis_a_window_is_decided_by_what_the_worker_knows(
    alone: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = alone.server

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no Redis")

    async with server.working() as (driver, _):
        job = await server.request(await server.person())
        await alone.put_off(1)
        monkeypatch.setattr("dispatch.presence.live.near", away)
        monkeypatch.setattr("dispatch.presence.live.hold", away)
        await alone.end()
        assert (await driver.inbox.named("offer.created")).data["job"]["id"] == job["id"]
    assert [question.terms.policy for question, _ in alone.heard] == ["batch"]


async def test_who_went_off_while_he_was_weighed_gets_no_offer_and_another_does(alone: Windows) -> None:
    """The judge looks again at the commit, as for every other round, and the job goes on by itself at once."""
    server = alone.server
    async with server.working(at=east(0.2)) as (near, _), server.working(at=east(2)) as (far, _):
        job = await server.request(await server.person(), at=east(0))
        await alone.put_off(1)
        await server.sql("UPDATE provider_gate SET online = false WHERE provider_id = $1", UUID(str(near.provider_id)))
        await alone.end()
        assert (await far.inbox.named("offer.created")).data["job"]["id"] == job["id"]
        assert "offer.created" not in near.inbox.names()
        await _listed_as_free(server, near.provider_id)


async def _listed_as_free(server: Server, provider_id: str | None) -> None:
    """The hold on him has ended: he was not offered."""
    market = server.app.matching._markets["bkk"]
    async with asyncio.timeout(WITHIN_S):
        while True:
            seen = await server.app.presence.near(market, "ride", *east(0), wanted=5, radius_max_m=5_000, hold_s=-1)
            if str(provider_id) in {str(one.provider_id) for one in seen.found}:
                return


async def test_a_solve_that_is_in_time_keeps_no_other_window_from_being_decided(
    alone: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rides and parcels have windows of their own, and both end at once."""
    monkeypatch.setattr(batching, "BUDGET_S", WITHIN_S)
    made = alone.server.app.matching._batching
    market = alone.server.app.matching._markets["bkk"]
    together = threading.Barrier(2)
    threads: list[int] = []

    def both(question: Question) -> Decision:
        threads.append(threading.get_ident())
        together.wait(WITHIN_S)
        return decide(question)

    made._brain = both
    first, second = (
        Search(uuid4(), "bkk", kind, 0, *east(0), False, False, False, ()) for kind in ("ride", "delivery")
    )
    one = asyncio.create_task(made.decide(market, [first]))
    await until(lambda: threads)
    other = await made.decide(market, [second])
    assert other is not None and await one is not None
    assert threading.get_ident() not in threads, "the event loop never solves"
