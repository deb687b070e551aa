"""Lines to Redis that are closed under a call, on the loop that servers run on."""

import asyncio
from typing import Any

import pytest
import redis.asyncio as aioredis
import uvloop
from redis.exceptions import DataError

from dispatch.kit.redis import DOWN, Redis, _Line


async def aborted(client: Any) -> None:
    """Close the line of the next call between its being chosen and its being written to."""
    conn = await client.connection_pool.get_connection()
    await conn.connect()
    conn._writer.transport.abort()
    with pytest.raises(DOWN):
        await conn.send_command("PING")
    await client.connection_pool.release(conn)


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("name", ["plain", "once"])
def test_a_line_that_is_closed_under_a_call_is_redis_being_away(redis_url: str, loop_factory: Any, name: str) -> None:
    async def scene() -> None:
        async with Redis.open(redis_url) as redis:
            await aborted(getattr(redis, name))
            await redis.watch()
            assert redis.reachable, "the next call has a new line"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scene())


async def test_a_line_that_two_read_at_once_is_redis_being_away(redis_url: str) -> None:
    """Both who use a subscription may open its line again at one moment: that is no bug to be logged as one."""
    async with Redis.open(redis_url) as redis:
        conn = await redis.plain.connection_pool.get_connection()
        await conn.connect()
        first = asyncio.ensure_future(conn.read_response(timeout=5.0))
        await asyncio.sleep(0)
        with pytest.raises(DOWN):
            await conn.read_response()
        await asyncio.wait([first])
        await redis.plain.connection_pool.release(conn)


async def test_a_line_that_another_closes_before_it_is_written_to_is_redis_being_away(redis_url: str) -> None:
    """Of two who use a subscription, one gives its line up while the other is about to write."""
    async with Redis.open(redis_url) as redis:
        conn = await redis.plain.connection_pool.get_connection()
        await conn.connect()
        conn.check_health = lambda: conn.disconnect(nowait=True)
        with pytest.raises(DOWN):
            await conn.send_command("PING")
        await redis.plain.connection_pool.release(conn)


@pytest.mark.parametrize(
    "words",
    [
        ("PING",),
        ("FUNCTION LIST", "WITHCODE"),
        ("SET", "ก", "ข", "PX", 1_000),
        ("ZADD", "k", "XX", -1, b"\x00\xff", 1e-7, "b", 13.7563, "c", 2**53),
        ("GEOADD", "k", *[word for n in range(2_000) for word in (100.5 + n * 1e-5, 13.7, f"member-{n}")]),
    ],
)
def test_a_command_is_packed_as_redis_py_packs_it(words: tuple[Any, ...]) -> None:
    theirs, ours = aioredis.Connection(), type("Line", (_Line, aioredis.Connection), {})()
    assert b"".join(ours.pack_command(*words)) == b"".join(theirs.pack_command(*words))
    assert b"".join(ours.pack_commands([words, words])) == b"".join(theirs.pack_commands([words, words]))


@pytest.mark.parametrize("word", [None, object(), True, [1]])
def test_what_is_no_word_of_a_command_is_refused_before_it_is_sent(word: object) -> None:
    ours = type("Line", (_Line, aioredis.Connection), {})()
    with pytest.raises(DataError):
        ours.pack_command("SET", "k", word)
