"""A job is searched by one search at a time: two would hold providers against each other, and offer it to others than the nearest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from protocol.resources import PaymentMethod
from tests.matching.test_cash import LIMIT, owes
from tests.matching.test_why import MARKET, east
from tests.support.server import WITHIN_S, Server, serving


@pytest.fixture(autouse=True)
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease ends by itself here: what a search does not give back stops its job for longer than any test waits."""
    monkeypatch.setattr("dispatch.matching.service.LEASE_S", 120.0)


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, markets=MARKET) as running:
        yield running


async def test_who_comes_while_a_job_is_searched_starts_no_second_search_of_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second would find the nearest held by the first, and might make its offer before it."""
    matching = server.app.matching
    give = matching._give
    searched: list[UUID] = []

    async def woken(market: Any, search: Any, *rest: Any, **named: Any) -> Any:
        searched.append(search.job_id)
        if len(searched) == 1:
            live = server.app.presence.of(far.user_id)
            assert live is not None
            matching.freed(live)
            await matching.wake()
            await matching.turn()
        return await give(market, search, *rest, **named)

    async with server.working(at=east(0.5)) as (near, _), server.working(at=east(2)) as (far, _):
        monkeypatch.setattr(matching, "_give", woken)
        job_id = UUID((await server.request(await server.person(), at=east(0)))["id"])
        await server.becomes(job_id, "round > 0")
        offered = await server.sql("SELECT provider_id::text FROM offers WHERE job_id = $1", job_id)
    assert [row["provider_id"] for row in offered] == [near.provider_id]
    assert searched == [job_id]


async def test_who_comes_while_a_job_is_searched_in_vain_is_found_by_the_next_search(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its time the next would be in a minute: the market says so."""
    matching = server.app.matching
    give = matching._give
    in_vain, came = asyncio.Event(), asyncio.Event()
    found: list[bool] = []

    async def meanwhile(market: Any, search: Any, chosen: Any, *rest: Any, **named: Any) -> Any:
        found.append(bool(chosen))
        in_vain.set()
        await came.wait()
        return await give(market, search, chosen, *rest, **named)

    monkeypatch.setattr(matching, "_give", meanwhile)
    job_id = UUID((await server.request(await server.person(), at=east(0)))["id"])
    async with asyncio.timeout(WITHIN_S):
        await in_vain.wait()
    async with server.working(at=east(0.5)):
        await server.becomes(job_id, "next_search_at < searched_until")
        came.set()
        await server.becomes(job_id, "round = 1")
    assert found == [False, True]


async def test_a_lease_ends_with_its_search_or_with_its_time(server: Server) -> None:
    matching = server.app.matching
    job_id = UUID((await server.request(await server.person(), at=east(0)))["id"])
    await server.searched(job_id)
    assert [search.job_id for search in await matching._take(job_id)] == [job_id]
    assert await matching._take(job_id) == []
    await server.sql("UPDATE jobs SET next_search_at = clock_timestamp() WHERE id = $1", job_id)
    assert await matching._take(None) == [], "due, and searched by somebody"
    await server.sql("UPDATE jobs SET searched_until = clock_timestamp() WHERE id = $1", job_id)
    # Whoever looks first: the server's own loop may be the one.
    await matching.turn()
    await server.becomes(job_id, "searched_until IS NULL")


@pytest.mark.parametrize("ending", ["declined", "lapsed", "left", "released"])
async def test_a_round_that_ends_is_followed_by_a_search_whoever_searches(server: Server, ending: str) -> None:
    """A lease is of the round that is over, also that of a worker which died in the middle of a search."""
    admin = await server.admin()
    async with server.working(at=east(0.5)) as (near, phone), server.working(at=east(2)) as (far, _):
        job_id = UUID((await server.request(await server.person(), at=east(0)))["id"])
        offer = (await near.inbox.named("offer.created")).data
        if ending == "released":
            await phone.accept(job_id, offer["offer_id"], offer["round"])
        await server.sql("UPDATE jobs SET searched_until = clock_timestamp() + interval '1 h' WHERE id = $1", job_id)
        match ending:
            case "declined":
                await phone.decline(offer["offer_id"])
            case "lapsed":
                # Due: whoever takes it has a lease, and gives it back with the round.
                await server.sql(
                    "UPDATE jobs SET offer_deadline = clock_timestamp(), next_search_at = clock_timestamp(), searched_until = NULL WHERE id = $1",
                    job_id,
                )
            case "left":
                await phone.offline()
            case _:
                await admin.http.release(str(job_id), "the office says so")
        await far.inbox.named("offer.created")


async def test_a_search_that_has_asked_the_judge_in_vain_often_enough_is_over(
    database_url: str, redis_url: str
) -> None:
    """A dozen of whom none may have a cash job: the search gives its job back, and the next is when the market says."""
    async with serving(database_url, redis_url, markets=MARKET) as server, AsyncExitStack() as stack:
        customer = await server.person()
        for number in range(12):
            deep, _ = await stack.enter_async_context(server.working(at=east(0.02 * number)))
            await owes(server, deep.user_id, LIMIT)
        job_id = UUID((await server.request(customer, at=east(0), payment_method=PaymentMethod.CASH))["id"])
        await server.becomes(job_id, "searched_until IS NULL AND next_search_at > clock_timestamp() + interval '30 s'")
