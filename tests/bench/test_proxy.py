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


async def test_half_open_loses_one_direction_and_heals_by_a_reset(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    line.half_open("replies")
    with pytest.raises(TimeoutError):
        await connection.execute("INSERT INTO notes VALUES ('unheard')", timeout=0.3)
    async with asyncio.timeout(5):
        while await bodies(direct) != ["unheard"]:
            await asyncio.sleep(0.01)
    line.heal()
    with pytest.raises(LOST):
        await connection.execute("SELECT 1")
    again = await asyncpg.connect(line.url)
    line.half_open("requests")
    with pytest.raises(TimeoutError):
        await again.execute("INSERT INTO notes VALUES ('never asked')", timeout=0.3)
    line.heal()
    assert await bodies(direct) == ["unheard"]


async def test_a_throttled_line_is_slow_and_whole(redis_line: Proxy) -> None:
    async with client_of(redis_line.url) as client:
        await client.set("big", "x" * 20_000)
        redis_line.bytes_per_s = 40_000
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await client.get("big") == "x" * 20_000
        assert 0.4 < loop.time() - began < 5
        redis_line.heal()
        began = loop.time()
        assert await client.get("big") == "x" * 20_000
        assert loop.time() - began < 0.4


async def test_a_share_of_the_replies_is_lost_and_each_is_told(redis_url: str) -> None:
    struck: list[tuple[str, bytes]] = []
    async with Proxy(redis_url, seed=7, struck=lambda action, message: struck.append((action, message))) as line:
        standing = line.drop_some([b"INCRBY count"], 0.5)
        lost = 0
        async with client_of(line.url) as client, client_of(redis_url) as direct:
            for _ in range(40):
                assert await client.set("other", "1"), "not among those that it is about"
                try:
                    await client.incr("count")
                except redis.ConnectionError:
                    lost += 1
            assert 8 < lost < 32 and len(struck) == lost and {action for action, _ in struck} == {"drop_reply"}
            assert await direct.get("count") == "40", "all of them were executed"
            line.end(standing)
            assert await client.incr("count") == 41


async def test_a_lie_is_told_in_place_of_the_truth(redis_line: Proxy, redis_url: str) -> None:
    async with client_of(redis_line.url) as client, client_of(redis_url) as direct:
        await client.set("word", "truth")
        lie = redis_line.lie([b"GET word"], [b"$3\r\nlie\r\n"])
        assert await client.get("word") == "lie"
        assert await client.incr("count") == 1, "others hear the truth, on the same line too"
        redis_line.end(lie)
        assert await client.get("word") == await direct.get("word") == "truth"


async def test_what_is_under_way_and_what_was_lost_is_counted(line: Proxy) -> None:
    connection = await asyncpg.connect(line.url)
    trap = line.hold_next(b"pg_sleep")
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(0)"))
    await trap.reached.wait()
    assert line.in_flight == 1
    trap.release()
    await asked
    assert (line.in_flight, line.lost) == (0, 0)
    line.hold_next(b"pg_sleep")
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(0)"))
    async with asyncio.timeout(5):
        while not line.in_flight:
            await asyncio.sleep(0.001)
    line.cut()
    with pytest.raises(LOST):
        await asked
    assert (line.in_flight, line.lost) == (0, 1)


async def test_what_a_store_says_unasked_is_no_call_that_was_slowed(redis_line: Proxy, redis_url: str) -> None:
    async with client_of(redis_line.url) as listener, client_of(redis_url) as direct, listener.pubsub() as heard:
        await heard.subscribe("news")
        async with asyncio.timeout(5):
            while await heard.get_message(timeout=5) is None:
                pass
            redis_line.delay_s = 0.05
            await direct.publish("news", "x")
            while await heard.get_message(timeout=5) is None:
                pass
        assert redis_line.slowed == 0
        assert await listener.echo("x") == "x"
        assert redis_line.slowed == 1


async def test_a_server_that_ends_is_heard_of_with_its_last_words(line: Proxy, direct: asyncpg.Connection) -> None:
    connection = await asyncpg.connect(line.url)
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    asked = asyncio.create_task(connection.execute("SELECT pg_sleep(20)"))
    async with asyncio.timeout(5):
        while not await direct.fetchval("SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'", pid):
            await asyncio.sleep(0.01)
    await direct.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(LOST, match="administrator command"):
        await asked
    async with asyncio.timeout(5):
        while not connection.is_closed():
            await asyncio.sleep(0.01)


async def test_bytes_of_clients_pass_by_http_and_are_refused_when_nobody_listens() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy(f"http://127.0.0.1:{port}") as line:
        reader, writer = await asyncio.open_connection(line.host, line.port)
        writer.write(b"hello")
        assert await reader.read() == b"hello", "and the end of the answer came through as an end"
        writer.close()
        server.close()
        await server.wait_closed()
        reader, writer = await asyncio.open_connection(line.host, line.port)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        assert line.refused == 1
        writer.close()
