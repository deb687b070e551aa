"""The pools, on a line to a real Postgres that falls silent."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from dispatch.kit import postgres
from dispatch.kit.postgres import Actor, Postgres

ANSWER_WITHIN_S = 0.3
MUCH_LONGER_S = 30.0


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.mark.parametrize("way", ["system", "system_tx", "acting"])
async def test_a_silent_line_is_waited_for_once(way: str, line: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once more for the cancellation that nobody hears, when it is rolled back or given back; and the next one works."""
    monkeypatch.setattr(postgres, "_ACQUIRE_TIMEOUT_S", MUCH_LONGER_S)
    async with Postgres.open(line.url, size=1, answer_within_s=ANSWER_WITHIN_S) as pg:
        ways = {"system": pg.system, "system_tx": pg.system_tx, "acting": lambda: pg.acting(Actor(uuid4()))}
        async with ways[way]() as conn:
            assert await conn.fetchval("SELECT 1") == 1
        async with asyncio.timeout(MUCH_LONGER_S / 2):
            with pytest.raises(TimeoutError):
                async with ways[way]() as conn:
                    line.half_open("replies")
                    await conn.fetchval("SELECT 1")
        line.heal()
        async with ways[way]() as conn:
            assert await conn.fetchval("SELECT 1") == 1


async def test_a_transaction_whose_statement_failed_is_rolled_back_and_its_connection_kept(database_url: str) -> None:
    async with Postgres.open(database_url, size=1) as pg:
        async with pg.system() as conn:
            before = await conn.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(asyncpg.UndefinedTableError):
            async with pg.system_tx() as tx:
                await tx.execute("SELECT * FROM nowhere")
        with pytest.raises(RuntimeError, match="swallowed"):
            async with pg.system_tx() as tx:
                with pytest.raises(asyncpg.UndefinedTableError):
                    await tx.execute("SELECT * FROM nowhere")
        async with pg.system() as conn:
            assert await conn.fetchval("SELECT pg_backend_pid()") == before
            assert not conn.is_in_transaction()
