"""How a provider does, as he and the office read it: PRF-01 to PRF-10, PRV-14. Real flows; histories as rows are in the properties."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.kit.postgres import Actor
from protocol.client import Client
from protocol.http import Http
from protocol.lifecycle import AdminAction
from tests.support.ended import ended_job
from tests.support.histories import Deal, write
from tests.support.server import Person, Server, code, serving

REDISPATCH = {"bkk": {"redispatch": True}}


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


@pytest.fixture
async def judge(database_url: str, server: Server) -> AsyncIterator["asyncpg.Connection[Any]"]:
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    yield conn
    await conn.close()


async def known(server: Server) -> Person:
    person = await server.person()
    await person.http.patch_me(locale="en")
    return person


def counts(outcomes: dict[str, Any]) -> list[int]:
    return [outcomes[name] for name in ("offered", "accepted", "completed", "cancelled")]


async def offered(server: Server, customer: Person, driver: Person, nth: int) -> dict[str, Any]:
    """A new job of this customer, offered to this driver as his nth offer."""
    await server.listed(driver)
    await server.request(customer)
    data: dict[str, Any] = (await driver.inbox.named("offer.created", nth=nth)).data
    return data


async def ridden(phone: Client, offer: dict[str, Any], *stages: str) -> str:
    """Accepted and taken so far. The job's id."""
    await phone.accept(offer["job"]["id"], offer["offer_id"])
    for stage in stages:
        await phone.advance(offer["job"]["id"], stage)
    return str(offer["job"]["id"])


async def test_every_way_an_offer_ends_counts_as_it_should(server: Server) -> None:
    """Fails when the rates read how jobs stand now, or count what others did."""
    customer, admin = await known(server), await server.admin()
    async with server.working() as (driver, phone):
        fresh = await driver.http.performance.mine()
        assert fresh["rating"] is None and fresh["warnings"] == [] and fresh["ratings"] == []
        for window in (fresh, fresh["lifetime"], fresh["last_200"]):
            assert [window[f"{name}_rate"] for name in ("acceptance", "completion", "cancellation")] == [None] * 3

        await ridden(phone, await offered(server, customer, driver, 1), "arrived", "in_progress", "completed")
        assert counts((await driver.http.performance.mine())["lifetime"]) == [1, 1, 1, 0]
        declined = await offered(server, customer, driver, 2)
        await phone.decline(declined["offer_id"])
        await customer.http.cancel(declined["job"]["id"])
        assert counts((await driver.http.performance.mine())["lifetime"]) == [2, 1, 1, 0]
        # The customer thinks better of it before he has answered: no doing of his.
        taken_back = await offered(server, customer, driver, 3)
        await customer.http.cancel(taken_back["job"]["id"])
        await driver.inbox.named("offer.withdrawn", reason="cancelled")
        assert counts((await driver.http.performance.mine())["lifetime"]) == [2, 1, 1, 0]
        # Of jobs that he has, the customer's and the office's cancellations are not his either.
        await customer.http.cancel(await ridden(phone, await offered(server, customer, driver, 4), "arrived"))
        await admin.http.cancel(await ridden(phone, await offered(server, customer, driver, 5)), "by the office")
        assert counts((await driver.http.performance.mine())["lifetime"]) == [4, 3, 1, 0]
        # His own are, also after pickup.
        await driver.http.cancel(await ridden(phone, await offered(server, customer, driver, 6)), "flat tyre")
        await driver.http.cancel(
            await ridden(phone, await offered(server, customer, driver, 7), "arrived", "in_progress"), "flat tyre"
        )
        # While one is under way it is accepted, and no more than that.
        await ridden(phone, await offered(server, customer, driver, 8))
        mine = await driver.http.performance.mine()
        assert counts(mine["lifetime"]) == counts(mine["last_200"]) == [7, 6, 1, 2]
        assert (mine["acceptance_rate"], mine["completion_rate"], mine["cancellation_rate"]) == (6 / 7, 1 / 6, 2 / 6)
        assert (mine["total_completed_jobs"], mine["total_cancelled_jobs"]) == (1, 2)
        assert [one["warning"] for one in mine["warnings"]] == ["high_cancellation_rate"]
        theirs = await admin.http.performance.of(driver.provider_id)
        assert {**theirs, "calculated_at": 0} == {**mine, "calculated_at": 0}


async def test_a_release_counts_for_him_who_gave_up_and_not_for_the_next(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets=REDISPATCH) as server:
        customer, admin = await known(server), await server.admin()
        async with server.working() as (first, phone):
            job = await ridden(phone, await offered(server, customer, first, 1), "arrived")
            await first.http.cancel(job, "flat tyre")
            async with server.working() as (second, other):
                await ridden(other, (await second.inbox.named("offer.created")).data, "arrived")
                await admin.http.release(job, "a complaint")
                assert counts((await second.http.performance.mine())["lifetime"]) == [1, 1, 0, 0]
            assert counts((await first.http.performance.mine())["lifetime"]) == [1, 1, 0, 1]


async def test_an_offer_that_lapses_counts_and_a_board_accept_does(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {"open_board": True}}) as server:
        customer = await known(server)
        async with server.working() as (driver, _):
            offer = await offered(server, customer, driver, 1)
            await server.sql("UPDATE jobs SET offer_deadline = clock_timestamp(), next_search_at = clock_timestamp()")
            await driver.inbox.named("offer.withdrawn", reason="expired")
            assert counts((await driver.http.performance.mine())["lifetime"]) == [1, 0, 0, 0]
            await driver.http.accept(offer["job"]["id"])
            mine = counts((await driver.http.performance.mine())["lifetime"])
            # Of the same round it is the same offer, taken after all.
            assert mine == [1, 1, 0, 0]


async def test_only_the_newest_two_hundred_are_in_the_window(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver, rival = await known(server), await server.provider(), await server.provider()
    old = [Deal("accepted", "cancelled", "provider", 0, ago=timedelta(days=2))] * 5
    new = [Deal("declined")] * 150 + [Deal("withdrawn")] * 30 + [Deal("accepted", "completed", stage=2)] * 48
    await write(judge, customer, driver, rival, [*old, *new])
    mine = await driver.http.performance.mine()
    assert (counts(mine["lifetime"]), counts(mine["last_200"])) == ([203, 53, 48, 5], [200, 50, 48, 2])
    # The function itself tells nobody else.
    async with server.app.pg.acting(Actor(uuid4())) as tx:
        assert await tx.fetchval("SELECT offered FROM performance_counts($1, 200)", UUID(driver.provider_id)) == 0


async def test_who_may_read_it(server: Server) -> None:
    stranger, waiting, admin = await server.person(), await server.provider(approved=False), await server.admin()
    with code("PROVIDER_NOT_FOUND"):
        await stranger.http.performance.mine()
    with code("PROVIDER_NOT_FOUND"):
        await stranger.http.performance.dashboard()
    with code("PROVIDER_NOT_FOUND"):
        await admin.http.performance.of(uuid4())
    with code("FORBIDDEN"):
        await waiting.http.performance.of(waiting.provider_id)
    assert (await waiting.http.performance.mine())["lifetime"]["offered"] == 0
    with code("PROVIDER_NOT_APPROVED"):
        await waiting.http.performance.dashboard()
    await server.approve(waiting)
    await waiting.http.performance.dashboard()
    await admin.http.provider_action(UUID(waiting.provider_id), AdminAction.SUSPEND, "papers")
    assert (await waiting.http.performance.mine())["provider_id"] == waiting.provider_id
    with code("PROVIDER_SUSPENDED"):
        await waiting.http.performance.dashboard()
    days = (date(2026, 11, 1), date(2026, 11, 2))
    for person in (stranger, waiting):
        with code("FORBIDDEN"):
            await person.http.performance.acceptance(*days)
        with code("FORBIDDEN"):
            await person.http.performance.everybodys()


async def test_the_dashboard_shows_the_day(server: Server) -> None:
    customer = await known(server)
    async with server.working() as (driver, phone):
        board = await driver.http.performance.dashboard()
        assert board["today"] | {"day": ""} == {"day": "", "net_minor": 0, "currency": "THB", "completed_jobs": 0}
        assert "current_job" not in board and board["rating"] is None and board["available_jobs"] == 0
        offer = await offered(server, customer, driver, 1)
        assert (await driver.http.performance.dashboard())["available_jobs"] == 1
        job = await ridden(phone, offer)
        board = await driver.http.performance.dashboard()
        assert (board["current_job"]["id"], board["available_jobs"]) == (job, 0)
        assert "customer" in board["current_job"], "his own view, with whom to call"
        for stage in ("arrived", "in_progress"):
            await phone.advance(job, stage)
        done = (await phone.advance(job, "completed"))["job"]
        await customer.http.ratings.rate(job, 3)
        board = await driver.http.performance.dashboard()
        assert "current_job" not in board
        assert (board["today"]["net_minor"], board["today"]["completed_jobs"]) == (done["actual_earnings_minor"], 1)
        assert (board["rating"], board["acceptance_rate"], board["cancellation_rate"]) == (3.0, 1.0, 0.0)
        mine = await driver.http.performance.mine()
        assert mine["ratings"] == [{"service_type": "ride", "rating": 3.0, "ratings_count": 1}]
        assert [one["warning"] for one in mine["warnings"]] == ["low_rating"]
        assert mine["warnings"][0]["message"].isascii()
        async with Http(server.url(), driver.token) as http:
            await http.patch_me(locale="ar")
            in_thai = (await http.performance.mine())["warnings"][0]["message"]
        assert not in_thai.isascii(), "messages are not in Arabic, and Thai is what is spoken then"
        await driver.http.patch_me(locale="th")
    # Off, there is nothing to take.
    await driver.http.set_online(False)
    assert (await driver.http.performance.dashboard())["available_jobs"] == 0


async def test_a_customers_mean_is_not_moved_by_what_is_not_his(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    customer, one, other = await known(server), await server.provider(), await server.provider()
    await customer.http.ratings.rate(await ended_job(judge, customer, one), 1)
    assert (await one.http.performance.mine())["rating"] == 1.0
    assert (await other.http.performance.mine())["rating"] is None
