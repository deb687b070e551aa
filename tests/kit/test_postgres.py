"""The pools, on a line to a real Postgres that falls silent or is slow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from dispatch.kit import postgres
from dispatch.kit.postgres import LOST, Actor, Postgres, Tx, patient
from dispatch.providers import seed
from dispatch.providers.store import require
from dispatch.settings import Settings

ANSWER_WITHIN_S = 0.3
MUCH_LONGER_S = 30.0
HELD_S = 0.8
"""Longer than an answer of these tests may take, and longer than `lock_timeout` (0.5 s)."""


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


async def translated(tx: Tx) -> None:
    try:
        await tx.fetchval("SELECT 1")
    except TimeoutError:
        raise ValueError("said otherwise") from None


async def swallowed(tx: Tx) -> None:
    with pytest.raises(TimeoutError):
        await tx.fetchval("SELECT 1")


async def without_arguments(tx: Tx) -> None:
    with pytest.raises(TimeoutError):
        await tx.execute("SELECT 1")


@pytest.mark.parametrize(("body", "told"), [(translated, ValueError), (swallowed, LOST), (without_arguments, LOST)])
async def test_a_silent_line_is_waited_for_once_whatever_became_of_the_exception(
    body: Callable[[Tx], Awaitable[None]],
    told: type[Exception] | tuple[type[Exception], ...],
    line: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a ROLLBACK nor a COMMIT goes out on it: each would be waited for as long as that statement."""
    asked: list[str] = []

    def listen(name: str) -> None:
        ask = getattr(postgres._Line, name)

        async def asking(self: object, query: str, *args: object, **words: object) -> object:
            if not self.is_closed():  # type: ignore[attr-defined]
                asked.append(query)
            return await ask(self, query, *args, **words)

        monkeypatch.setattr(postgres._Line, name, asking)

    async with Postgres.open(line.url, size=1, answer_within_s=ANSWER_WITHIN_S) as pg:
        for name in ("execute", "fetchval"):
            listen(name)
        with pytest.raises(told):
            async with pg.system_tx() as tx:
                line.half_open("replies")
                await body(tx)
        assert asked == ["BEGIN", "SELECT 1"]
        line.heal()
        async with pg.system() as conn:
            assert await conn.fetchval("SELECT 1") == 1


async def test_who_is_cancelled_while_he_rolls_back_leaves_no_transaction_behind(line: Proxy) -> None:
    async with Postgres.open(line.url, size=1) as pg:
        async with pg.system() as conn:
            before = await conn.fetchval("SELECT pg_backend_pid()")
        begun, ended = asyncio.Event(), asyncio.Event()

        async def doing() -> None:
            async with pg.system_tx() as tx:
                await tx.fetchval("SELECT 1")
                begun.set()
                await ended.wait()
                raise ValueError("it was not to be")

        task = asyncio.create_task(doing())
        await begun.wait()
        trap = line.hold_next(b"ROLLBACK")
        ended.set()
        await trap.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        trap.release()
        async with pg.system() as conn:
            assert not conn.is_in_transaction()
            assert await conn.fetchval("SELECT pg_backend_pid()") != before


async def test_patience_is_told_to_the_server_and_to_the_line_and_ends_with_the_transaction(database_url: str) -> None:
    async with Postgres.open(database_url, size=1) as pg:
        async with pg.system_tx() as tx:
            assert await patient(tx, 120) > 120
            assert await tx.fetchval("SHOW statement_timeout") == await tx.fetchval("SHOW lock_timeout") == "2min"
        async with pg.system() as conn:
            assert await conn.fetchval("SHOW statement_timeout") == "2s"
            assert await conn.fetchval("SHOW lock_timeout") == "500ms"


WAITING = """
SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


async def requiring(url: str) -> None:
    async with Postgres.open(url, size=1) as pg:
        await require(pg, {}, [])


async def seeding_one(url: str) -> None:
    await seed(Settings(database_url=url), providers=1, customers=1)


@pytest.mark.parametrize(
    ("held", "act"),
    [
        ("SELECT pg_advisory_xact_lock(hashtextextended('service_requirements', 0))", requiring),
        ("LOCK TABLE service_requirements IN SHARE MODE", requiring),
        ("LOCK TABLE users IN SHARE MODE", seeding_one),
        ("LOCK TABLE providers IN SHARE MODE", seeding_one),
        ("LOCK TABLE provider_documents IN SHARE MODE", seeding_one),
    ],
)
async def test_what_may_take_long_is_waited_for(
    held: str, act: Callable[[str], Awaitable[None]], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the line is waited for elsewhere, and longer than others wait for a lock."""
    monkeypatch.setattr(Postgres, "open", partial(Postgres.open, answer_within_s=ANSWER_WITHIN_S))
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SET LOCAL search_path = dispatch")
            await holder.execute(held)
            task = asyncio.create_task(act(database_url))  # type: ignore[arg-type]
            async with asyncio.timeout(MUCH_LONGER_S):
                while not task.done() and not await holder.fetchval(WAITING):
                    await asyncio.sleep(0.01)
            await holder.fetchval("SELECT pg_sleep($1)", HELD_S)
            assert not task.done()
        await task
    finally:
        await holder.close()


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
