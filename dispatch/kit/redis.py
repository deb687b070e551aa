"""Redis or Valkey, the hurry. Whatever it says or loses, no promise depends on it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import hiredis
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as LineLost
from redis.exceptions import DataError, RedisError, ResponseError

from dispatch.kit.cluster import Cluster, Shard, Topology
from dispatch.kit.lua import scripts

Argument = str | bytes | int | float

DOWN = (RedisError, OSError, TimeoutError, asyncio.TimeoutError)
"""What a call raises when Redis is away, slow or confused. The caller goes on without it."""

CLAIM_TIMEOUT_S = 0.15
"""reliability.md §3 step 2: an accept waits this long for its load filter, then goes to the judge."""


class _Line:
    """Beside a connection class of redis-py: a line that was closed under it is a lost line on every loop.

    asyncio says so by a ConnectionError; uvloop by a RuntimeError, which redis-py would neither retry nor count as its own.

    Commands are packed by hiredis, which redis-py does on its lines without asyncio only: a third of the cost.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Words are str, bytes, int or float; the first may be two of them ("CLIENT SETNAME"). Raises DataError for anything else."""
        first = args[0]
        if type(first) is str and " " in first:
            args = (*first.split(), *args[1:])
        try:
            return [hiredis.pack_command(args)]
        except TypeError as error:
            raise DataError(str(error)) from error

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]:
        """A pipeline: one piece, written in one go."""
        return [b"".join([packed for command in commands for packed in self.pack_command(*command)])]

    async def send_packed_command(self, *args: Any, **given: Any) -> None:
        try:
            await super().send_packed_command(*args, **given)  # type: ignore[misc]
        except RuntimeError as error:
            raise LineLost(f"the line to Redis is closed: {error}") from error
        except AttributeError as error:
            if error.obj is not None:
                raise
            # Its writer is gone: another who uses it has given it up between our looking and our writing.
            raise LineLost("the line to Redis was closed by another") from error

    async def read_response(self, *args: Any, **given: Any) -> Any:
        try:
            return await super().read_response(*args, **given)  # type: ignore[misc]
        except RuntimeError as error:
            # Of two who use a subscription, both may open its line again, and each then reads its first answer.
            raise LineLost(f"the line to Redis is read by another: {error}") from error


def _lined(client: "aioredis.Redis") -> "aioredis.Redis":
    """`client`, which has no connection yet, on such lines: TCP, TLS or a Unix socket, as its address says."""
    pool = client.connection_pool
    pool.connection_class = type("Line", (_Line, pool.connection_class), {})
    return client


def addresses(url: str) -> list[str]:
    """Of REDIS_URL: one server, or nodes of a cluster with commas between them; a cluster of which one is known has a comma behind it."""
    return [one.strip() for one in url.split(",") if one.strip()]


def _plain(url: str) -> "aioredis.Redis":
    return _lined(
        aioredis.Redis.from_url(
            url,
            socket_timeout=1.0,
            socket_connect_timeout=1.0,
            retry=Retry(ExponentialWithJitterBackoff(0.2, 0.02), 1),
            max_connections=64,
        )
    )


def _once(url: str) -> "aioredis.Redis":
    return _lined(
        aioredis.Redis.from_url(
            url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0), max_connections=256
        )
    )


class Redis:
    """Two clients on one server, or on each primary of a cluster. `plain` retries once, for what may run twice. `once` never re-sends:
    redis-py would repeat a command whose reply was lost, and a claim executed twice tells its winner that he lost.
    """

    def __init__(self, plain: "aioredis.Redis", once: "aioredis.Redis", url: str) -> None:
        self.plain = plain
        self.once = once
        self.url = url
        self._cluster = plain if isinstance(plain, Cluster) else None
        self.reachable = False
        self._loaded = False

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Redis"]:
        """Does not connect: the server starts and serves without Redis. `url`: as `addresses` reads it."""
        nodes = addresses(url)
        topology = Topology()
        # A cluster stands where a client of one server would: it takes the same words and gives the same answers and errors.
        plain, once = (
            cast("aioredis.Redis", Cluster(nodes, make, topology)) if "," in url else make(url)
            for make in (_plain, _once)
        )
        try:
            yield cls(plain, once, url)
        finally:
            await plain.aclose()
            await once.aclose()

    @property
    def clustered(self) -> bool:
        return self._cluster is not None

    async def shards(self, *, anew: bool = False) -> tuple[Shard, ...]:
        """The primaries of a cluster and their slots; none of a single server. `anew`: also when nothing casts doubt on what was heard.
        Raises what `DOWN` lists.
        """
        return await self._cluster.look(anew=anew) if self._cluster is not None else ()

    @property
    def shards_version(self) -> int:
        """Grows whenever `shards` has changed."""
        return self._cluster.topology.version if self._cluster is not None else 0

    async def load(self) -> None:
        """Load every function with REPLACE. Safe at any time on any worker; functions survive FLUSHALL."""
        async with self.plain.pipeline(transaction=False) as pipe:
            for script in scripts():
                pipe.execute_command("FUNCTION", "LOAD", "REPLACE", script.library)
            await pipe.execute()
        self._loaded = True

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Argument], *, once: bool = False) -> Any:
        """Run the function `name`. A server that lost its functions gets them again, and the call is made once more: a call
        refused with «Function not found» has executed nothing.
        """
        client = self.once if once else self.plain
        command = ("FCALL", name, len(keys), *keys, *args)
        if not self._loaded:
            await self.load()
        try:
            return await cast("Any", client.execute_command(*command))
        except ResponseError as error:
            if "not found" not in str(error).lower():
                raise
            await self.load()
            return await cast("Any", client.execute_command(*command))

    async def watch(self) -> None:
        """One beat of the reachability probe: PING on the client that never retries."""
        try:
            await cast("Any", self.once.execute_command("PING"))
            self.reachable = True
        except DOWN:
            self.reachable = False

    def subscriber(self, channel: str) -> "aioredis.client.PubSub":
        """A pub/sub connection of its own, to where this sharded channel is. Lossy by design: carries wake-ups and hand-overs, never truth."""
        if self._cluster is not None:
            return self._cluster.pubsub(channel, ignore_subscribe_messages=True)
        return self.plain.pubsub(ignore_subscribe_messages=True)
