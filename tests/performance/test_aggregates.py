"""Days for the office: PRF-07, PRF-09. What is counted, by whom, and when it is counted again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from dispatch.performance.aggregates import REST_S, Aggregates
from tests.support.histories import Deal, counted_days, write
from tests.support.server import WITHIN_S, Person, Server, code, serving

BANGKOK_TIME, CALIFORNIA_TIME = ZoneInfo("Asia/Bangkok"), ZoneInfo("America/Los_Angeles")
ALL = (date(2026, 1, 1), date(2026, 12, 31))
DONE = Deal("accepted", "completed", stage=2)


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, workers=2) as running:
        yield running


@pytest.fixture
async def judge(database_url: str, server: Server) -> AsyncIterator["asyncpg.Connection[Any]"]:
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    yield conn
    await conn.close()


async def people(server: Server) -> tuple[Person, Person, Person]:
    customer = await server.person()
    await customer.http.patch_me(locale="en")
    return customer, await server.provider(), await server.provider()


async def forget_runs(judge: "asyncpg.Connection[Any]", aggregates: Aggregates) -> None:
    """As if nothing had been counted yet. Ends a run that is under way."""
    await counted_days(judge, aggregates)
    await judge.execute("UPDATE performance_run SET began_at = NULL, upto = NULL, calculated_at = NULL")


async def rows(judge: "asyncpg.Connection[Any]", person: Person) -> list[tuple[Any, ...]]:
    found = await judge.fetch(
        """SELECT service_type, day, offered, accepted, completed, cancelled, open FROM performance_days
           WHERE provider_id = $1 ORDER BY day, service_type""",
        UUID(person.provider_id),
    )
    return [tuple(row) for row in found]


def local_day(ago: timedelta, zone: ZoneInfo = BANGKOK_TIME) -> date:
    return (datetime.now(UTC) - ago).astimezone(zone).date()


async def test_two_workers_at_once_count_once(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver, rival = await people(server)
    await forget_runs(judge, server.app.aggregates)
    deals = [DONE, Deal("declined"), Deal("accepted", "cancelled", "provider", 1), Deal("withdrawn")]
    await write(judge, customer, driver, rival, [Deal(**vars(one) | {"ago": timedelta(hours=2)}) for one in deals] * 20)
    async with asyncio.timeout(WITHIN_S):
        while not await judge.fetchval("SELECT calculated_at FROM performance_run"):
            await asyncio.gather(*(app.aggregates.run(rest_s=60) for app in server.apps * 3))
    assert [row[2:] for row in await rows(judge, driver)] == [(60, 40, 20, 20, False)]
    began = await judge.fetchval("SELECT began_at FROM performance_run")
    await asyncio.gather(*(app.aggregates.run() for app in server.apps))
    assert await judge.fetchval("SELECT began_at FROM performance_run") == began, "too soon for another run"
    assert REST_S < 300


async def test_one_who_holds_the_right_to_count_is_not_waited_for(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    await counted_days(judge, server.app.aggregates)
    before = await judge.fetchval("SELECT calculated_at FROM performance_run")
    async with judge.transaction():
        await judge.execute("SELECT 1 FROM performance_run FOR UPDATE")
        async with asyncio.timeout(0.4):
            await server.app.aggregates.run(rest_s=0)
        assert await judge.fetchval("SELECT calculated_at FROM performance_run") == before


async def test_a_day_waits_for_the_job_that_was_accepted_in_it(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    """A job of three days ago completes today: its day changes, and then never again."""
    customer, driver, rival = await people(server)
    long = timedelta(days=3)
    await forget_runs(judge, server.app.aggregates)
    await write(
        judge, customer, driver, rival, [Deal("accepted", "under_way", stage=2, ago=long), Deal("declined", ago=long)]
    )
    await counted_days(judge, server.app.aggregates)
    day = local_day(long)
    assert await rows(judge, driver) == [("ride", day, 2, 1, 0, 0, True)]
    job = await judge.fetchval("SELECT id FROM jobs WHERE provider_user_id = $1", driver.user_id)
    await driver.http.advance(job, "completed")
    await counted_days(judge, server.app.aggregates)
    assert await rows(judge, driver) == [("ride", day, 2, 1, 1, 0, False)]
    counted_at = await judge.fetchval("SELECT counted_at FROM performance_days")
    await counted_days(judge, server.app.aggregates)
    assert await judge.fetchval("SELECT counted_at FROM performance_days") == counted_at


async def test_a_live_offer_is_counted_when_it_is_answered(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer = await server.person()
    async with server.working() as (driver, phone):
        await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        await counted_days(judge, server.app.aggregates)
        assert [row[2:] for row in await rows(judge, driver)] == [(0, 0, 0, 0, True)]
        admin = await server.admin()
        assert (await admin.http.performance.acceptance(*ALL))["items"] == []
        await phone.decline(offer["offer_id"])
        await customer.http.cancel(offer["job"]["id"])
        await counted_days(judge, server.app.aggregates)
        assert [row[2:] for row in await rows(judge, driver)] == [(1, 0, 0, 0, False)]


async def test_a_day_that_was_closed_opens_again_for_another_offer(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    customer, driver, rival = await people(server)
    for number in (1, 2, 3):
        await write(judge, customer, driver, rival, [Deal("declined")])
        await counted_days(judge, server.app.aggregates)
        found = await rows(judge, driver)
        assert sum(row[2] for row in found) == number and not any(row[-1] for row in found)


async def test_an_offer_that_commits_late_is_found_by_the_next_run(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    """It took its time before the last run looked, and committed after it."""
    customer, driver, rival = await people(server)
    await counted_days(judge, server.app.aggregates)
    await write(judge, customer, driver, rival, [Deal("declined", ago=timedelta(seconds=30))])
    await counted_days(judge, server.app.aggregates)
    assert [row[2:] for row in await rows(judge, driver)] == [(1, 0, 0, 0, False)]


async def test_days_are_those_of_each_market(server: Server, judge: "asyncpg.Connection[Any]") -> None:
    customer, driver, rival = await people(server)
    await forget_runs(judge, server.app.aggregates)
    hours = [timedelta(hours=number) for number in range(0, 60, 3)]
    deals = [Deal("declined", market=market, ago=ago) for market in ("bkk", "sf") for ago in hours]
    await write(judge, customer, driver, rival, deals)
    await counted_days(judge, server.app.aggregates)
    expected: dict[date, int] = {}
    for zone in (BANGKOK_TIME, CALIFORNIA_TIME):
        for row in await judge.fetch(
            "SELECT o.offered_at FROM offers o JOIN jobs j ON j.id = o.job_id WHERE o.provider_id = $1 AND j.market = $2",
            UUID(driver.provider_id),
            "bkk" if zone is BANGKOK_TIME else "sf",
        ):
            day = row["offered_at"].astimezone(zone).date()
            expected[day] = expected.get(day, 0) + 1
    assert {row[1]: row[2] for row in await rows(judge, driver)} == expected


async def test_the_office_reads_days_in_pages_and_by_provider_and_type(
    server: Server, judge: "asyncpg.Connection[Any]"
) -> None:
    customer, driver, rival = await people(server)
    await forget_runs(judge, server.app.aggregates)
    admin = await server.admin()
    assert "calculated_at" not in await admin.http.performance.acceptance(*ALL)
    assert "calculated_at" not in await admin.http.performance.everybodys()
    deals = [
        Deal("declined", service_type=kind, ago=timedelta(days=days))
        for kind in ("ride", "delivery")
        for days in range(4)
    ]
    await write(judge, customer, driver, rival, [*deals, DONE])
    await write(judge, customer, rival, driver, [Deal("declined"), Deal("expired")])
    await counted_days(judge, server.app.aggregates)
    first, last = local_day(timedelta(days=30)), local_day(timedelta(days=-1))

    async def found(**given: Any) -> list[dict[str, Any]]:
        items, cursor = [], None
        while True:
            page = await admin.http.performance.acceptance(first, last, limit=2, cursor=cursor, **given)
            assert page["calculated_at"] and len(page["items"]) <= 2
            items += page["items"]
            if (cursor := page.get("next_cursor")) is None:
                return items

    everything = await found()
    assert len(everything) == 9
    assert [one["day"] for one in everything] == sorted((one["day"] for one in everything), reverse=True)
    assert len(await found(provider_id=driver.provider_id)) == 8
    assert len(await found(provider_id=driver.provider_id, service_type="delivery")) == 4
    assert len(await found(service_type="ride")) == 5
    assert await found(provider_id=uuid4()) == []
    (one,) = await found(provider_id=rival.provider_id)
    assert (one["offered"], one["accepted"], one["acceptance_rate"]) == (2, 0, 0.0)
    assert one["completion_rate"] is None and one["cancellation_rate"] is None

    page = await admin.http.performance.everybodys(limit=1)
    assert page["calculated_at"] and page["items"][0]["provider_id"] == rival.provider_id
    (second,) = (await admin.http.performance.everybodys(limit=1, cursor=page["next_cursor"]))["items"]
    mine = (await driver.http.performance.mine())["lifetime"]
    assert {name: second[name] for name in mine} == mine and second["offered"] == 9


BAD = [
    ({"from": "2026-11-02", "to": "2026-11-01"}, "INVALID_DATE_RANGE"),
    ({"from": "2025-11-01", "to": "2026-11-02"}, "INVALID_DATE_RANGE"),
    ({"from": "2026-11-01"}, "VALIDATION_ERROR"),
    ({"to": "2026-11-01"}, "VALIDATION_ERROR"),
    ({"from": "yesterday", "to": "2026-11-01"}, "VALIDATION_ERROR"),
    ({"from": "2026-11-01", "to": "2026-02-30"}, "VALIDATION_ERROR"),
    ({"from": "2026-11-01", "to": "2026-11-01", "provider_id": "him"}, "VALIDATION_ERROR"),
    ({"from": "2026-11-01", "to": "2026-11-01", "service_type": "flying"}, "VALIDATION_ERROR"),
    ({"from": "2026-11-01", "to": "2026-11-01", "cursor": "x"}, "VALIDATION_ERROR"),
    ({"from": "2026-11-01", "to": "2026-11-01", "sort": "up"}, "VALIDATION_ERROR"),
]


async def test_ranges_and_filters_that_are_none_are_refused(server: Server) -> None:
    admin = await server.admin()
    for params, expected in BAD:
        with code(expected):
            await admin.http.call("GET", "/v1/admin/acceptance", params=params)
    longest = {"from": "2025-11-02", "to": "2026-11-02"}
    assert (await admin.http.call("GET", "/v1/admin/acceptance", params=longest))["items"] == []
