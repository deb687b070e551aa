"""What a completed job does to money: cashless, cash, and when the line breaks in the middle."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from bench.faults.proxy import Proxy
from dispatch.earnings import earnings_unposted, jobs_unpaid, sums_wrong, totals_wrong
from tests.earnings.stage import balances, begun, check_books, completed, finished, platform
from tests.support.server import Person, Server, code, serving


async def test_a_cash_job_with_an_empty_wallet_is_a_debt_that_the_next_job_repays(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    await completed(server, customer, driver, cash=True)
    assert await balances(server, driver) == {"provider_debt": -700}
    (row,) = await server.sql("SELECT net_minor, platform_fee_minor, credited_minor FROM earnings")
    assert tuple(row) == (2_800, 700, -700), "earned all the same: the fare is in his hand"
    await completed(server, customer, driver)
    assert await balances(server, driver) == {"wallet": 2_100}
    await completed(server, customer, driver, cash=True)
    assert await balances(server, driver) == {"wallet": 1_400}
    assert (await platform(server))["platform_fee"] == 2_100
    await check_books(server)


async def test_a_fee_beyond_the_limit_is_the_platforms_loss(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, debt_limit_minor=1_000) as server:
        customer, driver, admin = await server.person(), await server.provider(), await server.admin()
        for _ in range(2):
            await completed(server, customer, driver, cash=True)
        assert await balances(server, driver) == {"provider_debt": -1_000}
        assert await platform(server) == {"platform_fee": 1_400, "fee_writeoff": -400}
        rows = await server.sql("SELECT id, credited_minor FROM earnings ORDER BY earned_at")
        assert [row["credited_minor"] for row in rows] == [-700, -300]
        await check_books(server)
        # Taken back, he gets what was taken from him, and the loss is none.
        await admin.http.earnings.reverse(rows[1]["id"], "x")
        assert await balances(server, driver) == {"provider_debt": -700}
        assert await platform(server) == {"platform_fee": 700}
        await check_books(server)


async def test_a_reversed_cash_job_gives_its_fee_back(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    await completed(server, customer, driver)
    await completed(server, customer, driver, cash=True)
    (row,) = await server.sql("SELECT id FROM earnings WHERE payment_method = 'cash'")
    await admin.http.earnings.reverse(row["id"], "x")
    assert await balances(server, driver) == {"wallet": 2_800}
    await check_books(server)


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.mark.parametrize("lost", [b"ledger_post", b"earnings_add"])
async def test_a_completion_whose_line_breaks_pays_once(line: Proxy, redis_url: str, lost: bytes) -> None:
    """In the middle: all of it is undone, and asking again with the same id does all of it."""
    async with serving(line.url, redis_url) as server:
        customer, driver = await server.person(), await server.provider()
        job, key = await begun(server, customer, driver), str(uuid4())
        trap = line.drop_next_reply(lost)
        done = await finished(driver, job, key=key)
        assert trap.reached.is_set() and done["status"] == "completed"
        assert await finished(driver, job, key=key) == done
        await paid_once(server, driver)


async def test_a_completion_whose_commit_is_not_answered_pays_once(line: Proxy, redis_url: str) -> None:
    """At the end: it is done, nobody heard of it, and asking again with the same id only tells."""
    async with serving(line.url, redis_url) as server:
        customer, driver = await server.person(), await server.provider()
        job, key = await begun(server, customer, driver), str(uuid4())
        last = line.hold_next(b"INSERT INTO idem (")
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(finished(driver, job, key=key))
            await last.reached.wait()
            trap = line.drop_next_reply(b"COMMIT")
            last.release()
        assert trap.reached.is_set() and asking.result()["status"] == "completed"
        with code("INVALID_STATUS_TRANSITION"):
            await finished(driver, job)
        await paid_once(server, driver)


async def paid_once(server: Server, driver: Person) -> None:
    assert await balances(server, driver) == {"wallet": 2_800}
    assert len(await server.sql("SELECT 1 FROM earnings")) == 1
    told = await server.sql("SELECT 1 FROM events WHERE user_id = $1 AND name = 'earnings.created'", driver.user_id)
    assert len(told) == 1
    await check_books(server)


async def test_reconcile_finds_what_does_not_agree(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    jobs = [await completed(server, customer, driver) for _ in range(3)]
    await check_books(server)

    async def asked(question: object) -> list[object]:
        async with server.app.pg.system() as conn:
            return await question(conn, 10)  # type: ignore[operator, no-any-return]

    await server.sql("UPDATE jobs SET actual_earnings_minor = 1 WHERE id = $1", jobs[0])
    await server.sql("UPDATE earnings SET base_minor = 3400, distance_minor = 100 WHERE job_id = $1", jobs[1])
    found = await asked(jobs_unpaid)
    assert {(row.job_id, row.job_minor, row.earning_minor) for row in found} == {  # type: ignore[attr-defined]
        (jobs[0], 1, 2_800), (jobs[1], 2_800, 2_800),
    }  # fmt: skip
    await server.sql(
        "UPDATE jobs SET status = 'cancelled', completed_at = NULL, cancelled_at = now() WHERE id = $1", jobs[2]
    )
    assert (jobs[2], None) in {(row.job_id, row.status) for row in await asked(jobs_unpaid)}  # type: ignore[attr-defined]

    await server.sql(
        "UPDATE earnings SET base_minor = base_minor + 1, gross_minor = gross_minor + 1, net_minor = net_minor + 1, credited_minor = credited_minor + 1 "
        "WHERE job_id = $1",
        jobs[0],
    )
    (unposted,) = await asked(earnings_unposted)
    assert (unposted.said_minor, unposted.moved_minor, unposted.moved_fee_minor) == (2_801, 2_800, 700)  # type: ignore[attr-defined]
    (total,) = await asked(totals_wrong)
    assert (total.said_minor, total.net_minor, total.jobs) == (8_400, 8_401, 3)  # type: ignore[attr-defined]
    assert len(await asked(sums_wrong)) == 3
    await server.sql("DELETE FROM earnings WHERE job_id = $1", jobs[1])
    assert (jobs[1], None) in {(row.job_id, row.earning_id) for row in await asked(jobs_unpaid)}  # type: ignore[attr-defined]
    assert None in {row.earning_id for row in await asked(earnings_unposted)}, "a posting without an earning"  # type: ignore[attr-defined]
