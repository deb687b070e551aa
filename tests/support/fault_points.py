"""A server that dies between two statements of a transaction: by an exception, or with the connection cut under it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from dispatch.kit.postgres import Actor
from tests.support.server import Server

STATEMENTS = ("fetch", "fetchrow", "fetchval", "execute")


class Died(Exception):
    """Here the process ended."""


class _Counted:
    """A connection whose n-th statement is never sent."""

    def __init__(self, conn: Any, at: int, kill: Any) -> None:
        self._conn = conn
        self._left = at
        self._kill = kill
        self.sent: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name not in STATEMENTS:
            return getattr(self._conn, name)

        async def run(query: str, *args: Any, **given: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                await self._kill(self._conn)
                raise Died(query)
            self.sent.append(query)
            return await getattr(self._conn, name)(query, *args, **given)

        return run


@dataclass
class Death:
    """Where it came: after these statements, and whether the next would have been the commit."""

    sent: list[str] = field(default_factory=list)
    at_commit: bool = False


@asynccontextmanager
async def dying(server: Server, at: int, *, cut: bool = False) -> AsyncIterator[Death]:
    """While the block lasts, a transaction of a person dies before its statement number `at` (from 0).

    `cut`: the backend is ended too, as when a process is gone and the server notices; the commit is the statement after the last.
    """
    pg = server.app.pg
    whole = type(pg).acting.__get__(pg)
    death = Death()

    async def kill(conn: Any) -> None:
        if cut:
            await server.sql("SELECT pg_terminate_backend($1)", conn.get_server_pid())

    @asynccontextmanager
    async def acting(actor: Actor) -> AsyncIterator[Any]:
        async with whole(actor) as conn:
            counted = _Counted(conn, at, kill)
            try:
                yield counted
            finally:
                death.sent = counted.sent
            if counted._left <= 0:
                death.at_commit = True
                await kill(conn)
                raise Died("COMMIT")

    pg.acting = acting  # type: ignore[method-assign]
    try:
        yield death
    finally:
        del pg.acting


DIED = (Died, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What comes out of a transaction that died."""
