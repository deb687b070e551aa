"""The fault proxy does to a line what it says, with real stores behind it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bench.faults.proxy import Proxy

LOST = (asyncpg.ConnectionDoesNotExistError, asyncpg.InterfaceError, ConnectionError)


@pytest.fixture
async def direct(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection past the proxy, to see what the server really did."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE notes (body text)")
    yield connection
    await connection.close()


@pytest.fixture
async def line(empty_database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(empty_database_url) as proxy:
        yield proxy


@pytest.fixture
async def redis_line(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


def client_of(url: str) -> redis.Redis:
    return redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=20)


async def bodies(connection: asyncpg.Connection) -> list[str]:
    return [row["body"] for row in await connection.fetch("SELECT body FROM notes ORDER BY body")]


async def test_passes_on_what_it_gets(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    big = "x" * 300_000
    await connection.execute("INSERT INTO notes VALUES ($1)", big)
    assert await bodies(connection) == [big]
    await connection.close()
    assert line.accepted == 1


async def test_a_lost_commit_reply_is_a_committed_transaction(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    trap = line.drop_next_reply(b"COMMIT")
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute("INSERT INTO notes VALUES ('kept')")
    assert trap.reached.is_set()
    assert await bodies(direct) == ["kept"]


async def test_a_lost_commit_is_no_transaction(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    trap = line.cut_before(b"COMMIT")
    with pytest.raises(LOST):
        async with connection.transaction():
            await connection.execute("INSERT INTO notes VALUES ('lost')")
    assert trap.reached.is_set()
    assert await bodies(direct) == []


async def test_a_prepared_statement_is_known_by_its_text(line: Proxy, direct: asyncpg.Connection) -> None:
    """It was prepared before the trap was set, and only its name travels."""
    connection = await asyncpg.connect(line.url)
    insert = await connection.prepare("INSERT INTO notes VALUES ($1)")
    await insert.fetch("one")
    trap = line.drop_next_reply(b"INSERT INTO notes")
    assert await connection.fetchval("SELECT 1") == 1
    assert not trap.reached.is_set()
    with pytest.raises(LOST):
        await insert.fetch("two")
    assert trap.reached.is_set()
    assert await bodies(direct) == ["one", "two"]


async def test_a_held_statement_waits_for_the_test(line: Proxy, direct: asyncpg.Connection) -> None:
    first, second = await asyncpg.connect(line.url), await asyncpg.connect(line.url)
    trap = line.hold_next(b"first")
    held = asyncio.create_task(first.execute("INSERT INTO notes VALUES ('first')"))
    await trap.reached.wait()
    await second.execute("INSERT INTO notes VALUES ('second')")
    assert await bodies(direct) == ["second"]
    trap.release()
    await held
    assert await bodies(direct) == ["first", "second"]
    await first.close()
    await second.close()


async def test_cut_resets_what_is_open_and_lets_new_ones_in(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    waiting = asyncio.create_task(connection.fetchval("SELECT pg_sleep(60)"))
    async with asyncio.timeout(20):
        while not await direct.fetchval("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"):
            pass
    line.cut()
    with pytest.raises(LOST):
        await waiting
    again = await asyncpg.connect(line.url)
    assert await again.fetchval("SELECT 1") == 1
    await again.close()


async def test_refuse_lasts_until_heal(line: Proxy) -> None:
    line.refuse()
    with pytest.raises((*LOST, OSError)):
        await asyncpg.connect(line.url, timeout=20)
    line.heal()
    connection = await asyncpg.connect(line.url)
    await connection.close()


async def test_a_blackhole_answers_nothing_and_executes_nothing(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    line.blackhole()
    with pytest.raises(TimeoutError):
        await connection.execute("INSERT INTO notes VALUES ('x')", timeout=0.2)
    assert await bodies(direct) == []
    line.heal()
    again = await asyncpg.connect(line.url)
    assert await again.fetchval("SELECT count(*) FROM notes") == 0
    await again.close()
    connection.terminate()


async def test_a_frozen_line_loses_nothing(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    line.freeze()
    asked = asyncio.create_task(connection.execute("INSERT INTO notes VALUES ('late')"))
    assert await bodies(direct) == []
    assert not asked.done()
    line.heal()
    await asked
    assert await bodies(direct) == ["late"]
    await connection.close()


async def test_delay_holds_answers_back(line: Proxy) -> None:
    connection = await asyncpg.connect(line.url)
    line.delay_s = 30
    with pytest.raises(TimeoutError):
        await connection.execute("SELECT 1", timeout=0.1)
    connection.terminate()


async def test_redis_executes_and_the_answer_is_lost(redis_line: Proxy, redis_url: str) -> None:
    async with client_of(redis_line.url) as client, client_of(redis_url) as direct:
        assert await client.incr("count") == 1
        trap = redis_line.drop_next_reply(b"INCRBY count")  # so does redis-py write INCR
        assert await client.set("other", "1")
        with pytest.raises(redis.ConnectionError):
            await client.incr("count")
        assert trap.reached.is_set()
        assert await direct.get("count") == "2"
        assert await client.incr("count") == 3  # a new connection is a good one


async def test_redis_cut_before_is_never_executed(redis_line: Proxy, redis_url: str) -> None:
    async with client_of(redis_line.url) as client, client_of(redis_url) as direct:
        trap = redis_line.cut_before()
        with pytest.raises(redis.ConnectionError):
            await client.incr("count")
        assert trap.reached.is_set()
        assert await direct.get("count") is None


async def test_redis_pipeline_and_binary_values_pass(redis_line: Proxy, redis_url: str) -> None:
    async with client_of(redis_line.url) as client, client_of(redis_url) as direct:
        async with client.pipeline(transaction=False) as pipe:
            for number in range(500):
                pipe.set(f"k{number}", f"a\r\n*3\r\n$1\r\n{'y' * 400}")
            await pipe.execute()
        assert await direct.dbsize() == 500
        assert await direct.get("k7") == f"a\r\n*3\r\n$1\r\n{'y' * 400}"
