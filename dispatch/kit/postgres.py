"""Postgres, the judge. Two pools on one database: `app` acts for a person under row security, `system` for the server."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from dispatch.kit.errors import Overloaded

Tx: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Row: TypeAlias = "asyncpg.Record"

# Numbers of reliability.md §3: a statement of ours takes a few ms; what takes longer is stuck and must not hold locks.
SESSION = {
    "search_path": "dispatch",
    "statement_timeout": "2000",
    "lock_timeout": "500",
    "idle_in_transaction_session_timeout": "3000",
    "client_connection_check_interval": "1000",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "timezone": "UTC",
}
"""What every connection of the server has set: a benchmark that asks Postgres itself takes the same. Plans are made once and kept: one that
was made while a table was small has to go along an index too.
"""
_ACQUIRE_TIMEOUT_S = 2.0

ANSWER_WITHIN_S = 3.0
"""The server ends a statement after 2 s, so a line that has said nothing for a second more is dead: nobody waits on it longer. Whoever
raises `statement_timeout` must say so with each call, as its own `timeout`: `patient` does both.
"""
_MARGIN_S = 1.0
"""From the server's end of a statement to the moment at which its silence means that the line is dead."""


class Unreachable(Exception):
    """Postgres did not answer. Whether a statement that was under way took effect is unknown."""


LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a line that broke between two messages: "cannot switch to state"
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    ConnectionError,
    OSError,
)
"""What asyncpg raises when the line or the server went away: for a write under way, «unknown», never «failed»."""

STUCK = (
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.OutOfMemoryError,
    TimeoutError,
)
"""What a statement raises that was held up for too long, or found no room: ask again, under the same id. All but one of them were rolled
back and decided nothing. TimeoutError is a line that fell silent: whether its statement took effect is unknown, as with `LOST`.
"""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, from the token and from nothing else."""

    user_id: UUID
    roles: frozenset[str] = frozenset()
    locale: str = "th"
    address: str = ""

    @property
    def admin(self) -> bool:
        return "admin" in self.roles


async def _init(conn: "asyncpg.Connection[Any]") -> None:
    # Wire JSON is made in SQL and passed through: bytes in, bytes out, parsed by nobody in between.
    await conn.set_type_codec("json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)


async def _no_reset(conn: "asyncpg.Connection[Any]") -> None:
    """Nothing to reset: all session state is set in transactions (SET LOCAL), and a reset costs a round trip."""


async def patient(tx: Tx, for_s: int) -> float:
    """Let each statement of this transaction take `for_s`, its waits for locks among that. Returns the `timeout`, in seconds, that each
    of these calls must be given: without it the line would be given up after `ANSWER_WITHIN_S`.
    """
    await tx.execute(f"SET LOCAL statement_timeout = '{for_s}s'; SET LOCAL lock_timeout = '{for_s}s'")
    return for_s + _MARGIN_S


def _once(name: str) -> Any:
    async def asked(line: "_Line", *args: Any, **words: Any) -> Any:
        try:
            return await getattr(super(_Line, line), name)(*args, **words)
        except TimeoutError:
            line.terminate()
            raise

    return asked


class _Line(asyncpg.Connection):
    """A connection that is closed at the first answer that does not come in time. A ROLLBACK, a COMMIT or being given back would wait on the
    silent line once more, and whether they are tried must not hang on what became of the exception on its way.
    """

    __slots__ = ()
    execute, executemany, fetch, fetchmany, fetchrow, fetchval = (
        _once(name) for name in ("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval")
    )


class Postgres:
    """The two pools, and beside them one connection that no crowd can take. Open with `Postgres.open`, an async context manager."""

    def __init__(self, app: "asyncpg.Pool[Any]", system: "asyncpg.Pool[Any]", reserved: "asyncpg.Pool[Any]") -> None:
        self._app = app
        self._system = system
        self._reserved = reserved

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, size: int = 8, answer_within_s: float = ANSWER_WITHIN_S
    ) -> AsyncIterator["Postgres"]:
        """`size` connections at most in each pool. Raises OSError or asyncpg errors when the database cannot be reached.

        A statement that is not answered within `answer_within_s` raises TimeoutError, and its connection is thrown away.
        """
        async with AsyncExitStack() as stack:
            pools = []
            for role, most in (("dispatch_app", size), ("dispatch_system", size), ("dispatch_system", 1)):
                pool = await stack.enter_async_context(
                    asyncpg.create_pool(
                        url,
                        connection_class=_Line,
                        min_size=1,
                        max_size=most,
                        init=_init,
                        reset=_no_reset,
                        command_timeout=answer_within_s,
                        max_inactive_connection_lifetime=60,
                        server_settings=SESSION | {"role": role, "application_name": role},
                    )
                )
                pools.append(pool)
            yield cls(*pools)

    @asynccontextmanager
    async def acting(self, actor: Actor) -> AsyncIterator[Tx]:
        """A transaction of `actor` under row security. Commits at the end, rolls back on any exception."""
        async with self._acquired(self._app) as conn:
            # One round trip for both, by the simple protocol: a UUID and a word of ours need no quoting.
            begin = f"BEGIN; SET LOCAL app.user_id = '{actor.user_id}'; SET LOCAL app.admin = '{'on' if actor.admin else ''}'"
            async with _transaction(conn, begin):
                yield conn

    @asynccontextmanager
    async def app(self) -> AsyncIterator[Tx]:
        """A connection of the app role in autocommit, without a person: only for functions that carry their own checks."""
        async with self._acquired(self._app) as conn:
            yield conn

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Tx]:
        """A connection of the system role in autocommit: loops, sessions, questions of the server to itself."""
        async with self._acquired(self._system) as conn:
            yield conn

    @asynccontextmanager
    async def reserved(self) -> AsyncIterator[Tx]:
        """A connection of the system role that is kept for what must not wait behind clients: the word that this worker lives."""
        async with self._acquired(self._reserved) as conn:
            yield conn

    @asynccontextmanager
    async def system_tx(self) -> AsyncIterator[Tx]:
        """A transaction of the system role."""
        async with self._acquired(self._system) as conn, _transaction(conn, "BEGIN"):
            yield conn

    def idle(self) -> Iterable[tuple[str, int, int]]:
        """(pool, size, idle) of each pool, for gauges."""
        return [
            ("app", self._app.get_size(), self._app.get_idle_size()),
            ("system", self._system.get_size(), self._system.get_idle_size()),
        ]

    @asynccontextmanager
    async def _acquired(self, pool: "asyncpg.Pool[Any]") -> AsyncIterator[Tx]:
        try:
            conn = await pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
        except TimeoutError as error:
            raise Overloaded("no free Postgres connection within 2 s") from error
        try:
            yield conn
        finally:
            await pool.release(conn)


@asynccontextmanager
async def _transaction(conn: Tx, begin: str) -> AsyncIterator[None]:
    """Commits at the end, rolls back on any exception."""
    try:
        # Who is cancelled while he begins may have begun: he rolls back too.
        await conn.execute(begin)
        yield
    except BaseException:
        try:
            await conn.execute("ROLLBACK")
        except BaseException as failed:
            # The line is gone, so nothing will be committed; or nobody waits for it, and it must not go back to the pool as it is.
            with suppress(asyncpg.InterfaceError):  # the pool has it back already
                conn.terminate()
            if not isinstance(failed, Exception):
                raise
        # What went wrong first is what must be told.
        raise
    # A transaction in which a statement failed answers COMMIT with ROLLBACK, and no error.
    if await conn.execute("COMMIT") != "COMMIT":
        raise RuntimeError("a failed statement was swallowed inside a transaction: nothing was committed")
