"""Money beside whatever else holds the rows that it refers to: a foreign key takes a lock too, and none may come after the wallet's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.earnings.stage import balances, begun, check_books, completed, finished
from tests.support.server import WITHIN_S, Person, Server, serving

Correct = Callable[[Person, Person, UUID, UUID], Awaitable[Any]]


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def _adjust(admin: Person, driver: Person, job_id: UUID, earning_id: UUID) -> Any:
    return await admin.http.earnings.adjust(driver.provider_id, 500, "THB", "a detour", job_id=job_id)


async def _reverse(admin: Person, driver: Person, job_id: UUID, earning_id: UUID) -> Any:
    return await admin.http.earnings.reverse(earning_id, "a fraud")


@pytest.mark.parametrize("correct", [_adjust, _reverse])
async def test_a_correction_waits_for_the_job_before_it_holds_the_wallet(server: Server, correct: Correct) -> None:
    """A tip or a rating locks the job first; who locked the wallet first and then the job would deadlock with it."""
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    job_id = await completed(server, customer, driver)
    (earning,) = await server.sql("SELECT id FROM earnings WHERE job_id = $1", job_id)
    tip = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        transaction = tip.transaction()
        await transaction.start()
        await tip.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", job_id)
        correction = asyncio.create_task(correct(admin, driver, job_id, earning["id"]))
        async with asyncio.timeout(WITHIN_S):
            while not correction.done() and not await server.sql("SELECT FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0)
        wallet = "SELECT FROM ledger_account WHERE kind = 'wallet' AND owner_id = $1 FOR NO KEY UPDATE NOWAIT"
        await tip.execute(wallet, driver.user_id)
        await transaction.rollback()
        await correction
    finally:
        await tip.close()
    assert await balances(server, driver) == ({"wallet": 3_300} if correct is _adjust else {})
    await check_books(server)


async def test_a_new_phone_number_does_not_hold_up_a_pay(server: Server) -> None:
    """Changing it locks the provider's row and then his head; a pay holds the head and refers to that row."""
    customer, driver = await server.person(), await server.provider()
    job_id = await begun(server, customer, driver)
    patch = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        transaction = patch.transaction()
        await transaction.start()
        await patch.execute("UPDATE providers SET phone_number = '+66899999999' WHERE user_id = $1", driver.user_id)
        await finished(driver, job_id)
        await transaction.rollback()
    finally:
        await patch.close()
    assert await balances(server, driver) == {"wallet": 2_800}
