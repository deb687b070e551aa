"""The client end of the model: what stands where asyncpg's pools, connections and transactions would."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import asyncpg

from bench.simulation.judge.tables import Row, Session

if TYPE_CHECKING:
    from bench.simulation.judge.server import PostgresModel


class Asked:
    """One statement under way."""

    __slots__ = ("args", "arrives", "at", "conn", "future", "gone", "session", "sql", "timer", "waits")

    def __init__(
        self, conn: "Connection", sql: str, args: tuple[Any, ...], future: "asyncio.Future[Any]", at: float
    ) -> None:
        self.conn = conn
        self.sql = sql
        self.args = args
        self.future = future
        self.at = at
        self.arrives = at
        self.session: Session | None = None
        """Of a statement by itself that has locked something and waits for more."""
        self.waits: tuple[str, Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.gone = False
        """Lost on its way: it never reaches the server."""


class Connection:
    """A connection of asyncpg, as far as the server uses one."""

    def __init__(self, server: "PostgresModel", role: str, worker: str) -> None:
        self._server = server
        self.role = role
        self.worker = worker
        self.closed = False
        self.session: Session | None = None
        """The transaction that is open on it."""
        self.asked: Asked | None = None
        self.idle_since = 0.0

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self._server.hang_up(self)

    async def _ask(self, sql: str, args: tuple[Any, ...]) -> Any:
        if self.closed:
            raise asyncpg.InterfaceError("connection is closed")
        if self.asked is not None:
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        asked = self._server.ask(self, sql, args)
        try:
            return await asked.future
        except asyncio.CancelledError:
            self._server.hang_up(self)  # asyncpg would ask for the statement's cancellation; the answer is never read
            raise

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        rows: list[Row] = await self._ask(sql, args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> Row | None:
        row: Row | None = await self._ask(sql, args)
        return row

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return await self._ask(sql, args)

    async def execute(self, sql: str, *args: Any) -> Any:
        return await self._ask(sql, args)


class Pool:
    """A pool of asyncpg of one role on one worker: at most `size` connections, opened when needed."""

    def __init__(self, server: "PostgresModel", role: str, worker: str, size: int) -> None:
        self._server = server
        self._role = role
        self._worker = worker
        self._size = size
        self._idle: list[Connection] = []
        self._out: set[Connection] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, *, timeout: float) -> Connection:
        async with asyncio.timeout(timeout):
            while len(self._out) >= self._size:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn
            while self._idle:
                conn = self._idle.pop()
                if not conn.closed:
                    self._out.add(conn)
                    return conn
            # The place is taken before the connection stands, as asyncpg's holder is.
            conn = Connection(self._server, self._role, self._worker)
            self._out.add(conn)
            try:
                await self._server.connect(conn)
            except BaseException:
                self._left(conn)
                raise
            return conn

    async def release(self, conn: Connection) -> None:
        if conn.session is not None and not conn.closed:
            self._server.hang_up(conn)  # asyncpg terminates what comes back in a transaction
        if not conn.closed:
            self._idle.append(conn)
        self._left(conn)

    def _left(self, conn: Connection) -> None:
        self._out.discard(conn)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def get_size(self) -> int:
        return len(self._out) + len(self._idle)

    def get_idle_size(self) -> int:
        return len(self._idle)
