"""Real Postgres and Valkey for tests: one pair per test process, a fresh database per test.

The pair lives on a thread with its own event loop, so that tests on any loop, or on none (hypothesis machines), can use
it. One pair per pytest-xdist worker rather than one for all: Redis channels and functions, and Postgres roles, belong to
a whole server, so tests that run at the same time would hear each other.
"""

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import redis.asyncio as redis

from dispatch.kit.embedded import Stores, stores
from dispatch.kit.migrate import migrate

T = TypeVar("T")

TEMPLATE = "template_migrated"
MIGRATIONS = Path(__file__).resolve().parents[2] / "dispatch" / "migrations"
REDIS_DATABASES = 64
START_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0


class TestStores:
    """The pair of this test process. Every method is synchronous and may be called from any thread but its own."""

    __test__ = False

    def __init__(self, loop: asyncio.AbstractEventLoop, stores: Stores, admin: asyncpg.Connection) -> None:
        self.stores = stores
        self._loop = loop
        self._admin = admin
        self._numbers = itertools.count(1)
        self._redis_numbers = itertools.cycle(range(1, REDIS_DATABASES))
        self._migrated = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the stores' loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """A new database without any table; dropped afterwards, connections or not."""
        with self._database("template1") as url:
            yield url

    @contextmanager
    def migrated_database(self) -> Iterator[str]:
        """A clone of the database with all migrations of `dispatch/migrations`; dropped afterwards."""
        if not self._migrated:
            self.run(self._migrate())
            self._migrated = True
        with self._database(TEMPLATE) as url:
            yield url

    def clean_redis(self) -> str:
        """The address of an empty Redis database; the whole server was flushed."""
        self.run(_flush(self.stores.redis_url))
        return f"{self.stores.redis_url}?db={next(self._redis_numbers)}"

    @contextmanager
    def _database(self, template: str) -> Iterator[str]:
        name = f"test_{next(self._numbers)}"
        self.run(self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        try:
            yield self._url(name)
        finally:
            self.run(self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))

    async def _migrate(self) -> None:
        await self._admin.execute(f'CREATE DATABASE "{TEMPLATE}"')
        await migrate(self._url(TEMPLATE), MIGRATIONS)
        await self._admin.execute(f'ALTER DATABASE "{TEMPLATE}" ALLOW_CONNECTIONS false')

    def _url(self, database: str) -> str:
        return self.stores.database_url.replace("/dispatch?", f"/{database}?")


@contextmanager
def running_test_stores() -> Iterator[TestStores]:
    """Start a throw-away pair on a thread of its own; stop and remove it afterwards."""
    ready: Future[TestStores] = Future()
    stop: Future[asyncio.Event] = Future()

    async def main() -> None:
        leave = asyncio.Event()
        stop.set_result(leave)
        async with stores(None, fast=True) as pair:
            admin = await asyncpg.connect(pair.database_url)
            ready.set_result(TestStores(asyncio.get_running_loop(), pair, admin))
            await leave.wait()
            await admin.close(timeout=CALL_TIMEOUT_S)

    def thread() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    runner = threading.Thread(target=thread, name="test-stores", daemon=True)
    runner.start()
    test_stores = ready.result(START_TIMEOUT_S)
    try:
        yield test_stores
    finally:
        test_stores._loop.call_soon_threadsafe(stop.result().set)
        runner.join(CALL_TIMEOUT_S)


async def _flush(url: str) -> None:
    client = redis.from_url(url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
