"""Objects on their way to a row: from before their first byte until the transaction that writes the row, or until they are gone again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.errors import Invalid, Overloaded
from dispatch.kit.objects import Objects, StorageUnavailable
from dispatch.kit.postgres import LOST, STUCK, Postgres
from dispatch.providers.documents.store import Q

_SWEEP_MAX = 100
_LATER: Final = (StorageUnavailable, Overloaded, *LOST, *STUCK)

_PATIENCE_S = 10.0
_BYTES_PER_S = 8 * 1024
T = TypeVar("T")

log = structlog.get_logger("uploads")


class Pace:
    """Waits for a sender, `_PATIENCE_S` in all and a second more for each `_BYTES_PER_S` that have come: who stalls holds nothing for long.

    The store's time is not counted, for he cannot help it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waited_s = 0.0
        self._bytes = 0

    async def each(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """What comes, as it comes. Raises: Invalid, when it comes too slowly."""
        while True:
            since = self._clock.monotonic()
            try:
                async with asyncio.timeout(max(0.0, _PATIENCE_S + self._bytes / _BYTES_PER_S - self._waited_s)):
                    one = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                problem = "came too slowly"
                raise Invalid(f"the upload {problem}", fields=[{"field": "file", "problem": problem}]) from error
            finally:
                self._waited_s += self._clock.monotonic() - since
            if isinstance(one, bytes):
                self._bytes += len(one)
            yield one


class Uploads:
    """The book of objects without a row. Their end is in the row's own transaction: see `document_add`."""

    def __init__(self, pg: Postgres, objects: Objects) -> None:
        self._pg = pg
        self._objects = objects

    async def begin(self, path: str) -> None:
        """An object is about to be written."""
        async with self._pg.system() as conn:
            await conn.execute(Q["upload_begin"], path)

    async def abandon(self, path: str) -> None:
        """Take an object back, unless its row was committed after all. What cannot be done now, the sweep does."""
        try:
            async with self._pg.system() as conn:
                if not await conn.fetchval(Q["upload_open"], path):
                    return
            await self._objects.delete([path])
            async with self._pg.system() as conn:
                await conn.execute(Q["upload_end"], [path])
        except _LATER as error:
            log.warning("an upload is left to the sweep", path=path, error=repr(error))

    async def sweep(self) -> int:
        """Delete one batch of objects that have had no row for an hour. Replaced and rejected documents have one. Returns how many."""
        async with self._pg.system() as conn:
            paths = [row["storage_path"] for row in await conn.fetch(Q["uploads_stale"], _SWEEP_MAX)]
        if paths:
            await self._objects.delete(paths)
            async with self._pg.system() as conn:
                await conn.execute(Q["upload_end"], paths)
        return len(paths)
