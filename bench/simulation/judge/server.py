"""The server end of the model: sessions, latency, lock waits, and everything that may happen to a statement on its way.

`Postgres` of the kit runs on top of it unchanged: the model's pools stand where asyncpg's would.
"""

import asyncio
import random
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from bench.simulation.judge import statements
from bench.simulation.judge.lines import Asked, Connection, Pool
from bench.simulation.judge.tables import Blocked, Session, Tables
from dispatch.kit.postgres import ANSWER_WITHIN_S

if TYPE_CHECKING:
    from bench.simulation.surroundings import Surroundings

LOCK_TIMEOUT_S = 0.5
STATEMENT_TIMEOUT_S = 2.0
IDLE_IN_TRANSACTION_S = 3.0
_COMMITS = frozenset({"COMMIT", "job_create", "accept_job", "offers_create", "offers_close", "offers_lapse"})
_BEGIN = re.compile(r"BEGIN; SET LOCAL app.user_id = '([0-9a-f-]{36})'; SET LOCAL app.admin = '(on|)'")
_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class PostgresModel:
    """One server for all workers. Faults come out of `Surroundings.weather`; a mutant overrides `execute`."""

    POOL = 8

    def __init__(self, around: "Surroundings") -> None:
        self.around = around
        self.loop = around.loop
        self.chance: random.Random = around.chance
        self.tables = Tables(self.clock)
        self.connections: dict[Connection, None] = {}
        self.parked: list[Asked] = []
        self.up = True
        self.executed = 0

    def clock(self) -> datetime:
        """Postgres' own clock, which nobody shifts: virtual time."""
        return _START + timedelta(seconds=self.loop.time())

    def pools(self, worker: str) -> tuple[Pool, Pool, Pool]:
        """Those of the two roles, and the one connection that is kept for a worker's word that it lives."""
        sizes = (("app", self.POOL), ("system", self.POOL), ("system", 1))
        app, system, reserved = (Pool(self, role, worker, size) for role, size in sizes)
        return app, system, reserved

    # --- on the way in

    async def connect(self, conn: Connection) -> None:
        """Raises ConnectionRefusedError while the server is down."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.loop.after(self._latency(), self._opened, conn, future)
        await future

    def _opened(self, conn: Connection, future: "asyncio.Future[None]") -> None:
        if future.done():
            return
        if not self.up:
            self._met("postgres_down")
            future.set_exception(ConnectionRefusedError("Postgres is down"))
        elif self.around.is_dead(conn.worker):
            conn.closed = True
        else:
            self.connections[conn] = None
            future.set_result(None)

    def ask(self, conn: Connection, sql: str, args: tuple[Any, ...]) -> Asked:
        asked = Asked(conn, sql, args, self.loop.create_future(), self.loop.time())
        conn.asked = asked
        latency = self._latency()
        asked.arrives += latency
        self.loop.after(latency, self._arrived, asked)
        return asked

    def _latency(self) -> float:
        base = 0.0004 + self.chance.random() * 0.0016
        if (fault := self.around.weather.on("postgres_slow")) is not None:
            fault.met += 1
            base += self.chance.random() * 0.4
        return base

    def _met(self, kind: str) -> None:
        if (fault := self.around.weather.on(kind)) is not None:
            fault.met += 1

    def _arrived(self, asked: Asked) -> None:
        conn = asked.conn
        if asked.gone or conn.closed:
            return
        if not self.up:
            self._met("postgres_down")
            return self._lost(asked)
        chance = self.chance
        if (fault := self.around.weather.on("postgres_line_lost")) is not None and chance.random() < 0.05:
            fault.met += 1
            return self._lost(asked)
        if (fault := self.around.weather.on("postgres_stall")) is not None and chance.random() < 0.08:
            fault.met += 1
            # Held up by something that is no row lock, until statement_timeout.
            self.loop.after(STATEMENT_TIMEOUT_S, self._refused, asked, asyncpg.QueryCanceledError("statement timeout"))
            return None
        self.execute(asked)
        return None

    # --- execution

    def execute(self, asked: Asked) -> None:
        """Run one statement now, or park it behind a lock."""
        conn = asked.conn
        if asked.gone:
            return
        self.executed += 1
        session, sql = conn.session, asked.sql
        if sql in ("COMMIT", "ROLLBACK"):
            return self._end(asked, sql)
        if sql.startswith("BEGIN"):
            conn.session = self._begun(conn, sql)
            return self._answer(asked, None)
        if session is not None and session.failed:
            return self._refused(asked, asyncpg.InFailedSQLTransactionError("current transaction is aborted"))
        mine = session or asked.session or Session(self.tables, conn.role)
        try:
            value = self.answer_of(mine, sql, asked.args)
        except Blocked as blocked:
            mine.statement_undone()
            return self._park(asked, mine, blocked.lock)
        except asyncpg.PostgresError as error:
            mine.statement_undone()
            self._unpark(asked)
            if session is None:
                self._over(mine, commit=False)
            else:
                session.failed = True
            return self._refused(asked, error)
        except BaseException as error:
            self.around.broken(error)
            raise
        self._unpark(asked)
        mine.statement_done()
        if session is None:
            self._over(mine, commit=True)
        return self._answer(asked, value)

    def answer_of(self, session: Session, sql: str, args: tuple[Any, ...]) -> Any:
        """What the statement says: overridden by mutants."""
        return statements.run(session, sql, args)

    def _begun(self, conn: Connection, sql: str) -> Session:
        acting = _BEGIN.fullmatch(sql)
        if acting is not None:
            return Session(self.tables, conn.role, UUID(acting[1]), acting[2] == "on")
        if sql != "BEGIN":
            raise statements.UnknownStatement(sql)
        return Session(self.tables, conn.role)

    def _end(self, asked: Asked, sql: str) -> None:
        session = asked.conn.session
        asked.conn.session = None
        if session is None:
            return self._answer(asked, sql)
        well = sql == "COMMIT" and not session.failed
        self._over(session, commit=well)
        self._answer(asked, "COMMIT" if well else "ROLLBACK")
        return None

    def _over(self, session: Session, *, commit: bool) -> None:
        """End a transaction, and run again whoever waited for what it held."""
        freed = list(session.held)
        if commit:
            session.commit()
        else:
            session.end()
        if freed and self.parked:
            self._wake(freed)

    def _wake(self, freed: list[tuple[str, Any]]) -> None:
        names = set(freed)
        for asked in self.parked:
            if asked.waits in names:
                asked.waits = None
                self.loop.soon(self._again, asked)

    def _again(self, asked: Asked) -> None:
        if asked in self.parked and asked.waits is None:
            self.execute(asked)

    def _park(self, asked: Asked, session: Session, lock: tuple[str, Any]) -> None:
        asked.waits = lock
        if asked not in self.parked:
            if asked.conn.session is None:
                asked.session = session  # by itself, it keeps what it has locked while it waits
            self.parked.append(asked)
            asked.timer = self.loop.timer(LOCK_TIMEOUT_S, self._waited, asked)
        self._expire(lock)

    def _expire(self, lock: tuple[str, Any]) -> None:
        """idle_in_transaction_session_timeout, looked after when somebody waits for it."""
        held = self.tables.locks[lock]
        for conn in self.connections:
            session = conn.session
            if session is not None and conn.asked is None and (held.alone is session or session in held.sharing):
                left = conn.idle_since + IDLE_IN_TRANSACTION_S - self.loop.time()
                self.loop.after(max(0.0, left), self._too_idle, conn, session)

    def _too_idle(self, conn: Connection, session: Session) -> None:
        idle = self.loop.time() - conn.idle_since
        if conn.session is session and conn.asked is None and idle >= IDLE_IN_TRANSACTION_S - 1e-6:
            self.drop(conn)

    def _unpark(self, asked: Asked) -> None:
        if asked.timer is not None:
            asked.timer.cancel()
            asked.timer = None
            self.parked.remove(asked)

    def _waited(self, asked: Asked) -> None:
        asked.timer = None
        self.parked.remove(asked)
        if asked.session is not None:
            self._over(asked.session, commit=False)
        elif asked.conn.session is not None:
            asked.conn.session.failed = True
        self._met("row_held")
        self._refused(asked, asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))

    # --- on the way back

    def _answer(self, asked: Asked, value: Any) -> None:
        self.around.note("postgres", asked.conn.worker, statements.name_of(asked.sql), value)
        if statements.name_of(asked.sql) in _COMMITS and not self.around.is_dead(asked.conn.worker):
            for kind, odds in (("crash_at_commit", 0.3), ("freeze_at_commit", 0.3)):
                if (
                    (fault := self.around.weather.on(kind)) is not None
                    and not fault.met
                    and self.chance.random() < odds
                ):
                    # What was decided stands; whoever asked learns of it late, or never.
                    fault.met += 1
                    fault.target = asked.conn.worker
                    self.around.strike(kind, asked.conn.worker)
        for kind, odds in (("postgres_reply_lost", 0.08), ("postgres_half_open", 0.05)):
            if (fault := self.around.weather.on(kind)) is not None and self.chance.random() < odds:
                fault.met += 1
                if kind == "postgres_reply_lost":
                    return self._lost(asked)
                # Nothing comes any more: the client gives up by itself, and has learnt nothing.
                left = asked.at + ANSWER_WITHIN_S - self.loop.time()
                self.loop.after(max(0.0, left), self._given_up, asked)
                return None
        self.loop.after(self._latency(), self._told, asked, value)
        return None

    def _refused(self, asked: Asked, error: BaseException) -> None:
        self.around.note("postgres", asked.conn.worker, statements.name_of(asked.sql), type(error).__name__)
        self.loop.after(self._latency(), self._told, asked, error)

    def _told(self, asked: Asked, value: Any) -> None:
        conn = asked.conn
        if conn.asked is asked:
            conn.asked = None
            conn.idle_since = self.loop.time()
        if asked.future.done():
            return
        if isinstance(value, BaseException):
            asked.future.set_exception(value)
        else:
            asked.future.set_result(value)

    def _given_up(self, asked: Asked) -> None:
        self.drop(asked.conn)
        if not asked.future.done():
            asked.future.set_exception(TimeoutError())

    def _lost(self, asked: Asked) -> None:
        """The line broke: its transaction is rolled back, and whoever waits learns only that."""
        self.drop(asked.conn)

    def drop(self, conn: Connection) -> None:
        """End a connection from the server's side, as a crash, a reset or an administrator does."""
        asked, conn.asked = conn.asked, None
        self.hang_up(conn)
        if asked is not None and not asked.future.done():
            self.around.note("postgres", conn.worker, statements.name_of(asked.sql), "line lost")
            asked.future.set_exception(
                asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            )

    def hang_up(self, conn: Connection) -> None:
        """The line is closed: what was open on it is rolled back, what waits for a lock is forgotten."""
        conn.closed = True
        self.connections.pop(conn, None)
        for asked in [asked for asked in self.parked if asked.conn is conn]:
            asked.gone = True
            self._unpark(asked)
            if asked.session is not None:
                self._over(asked.session, commit=False)
        session, conn.session = conn.session, None
        if session is not None:
            self._over(session, commit=False)

    # --- what happens to the whole of it

    def crash(self) -> int:
        """All backends die; committed rows stay. Returns how many statements were under way."""
        self.up = False
        met = sum(conn.asked is not None for conn in self.connections)
        for conn in tuple(self.connections):
            self.drop(conn)
        return met

    def terminate(self) -> int:
        """End one backend, by preference one that is at work. Returns whether it was."""
        conns = list(self.connections)
        if not conns:
            return 0
        busy = [conn for conn in conns if conn.asked is not None or conn.session is not None]
        conn = self.chance.choice(busy or conns)
        self.drop(conn)
        return int(bool(busy))

    def bereaved(self, worker: str) -> int:
        """A worker died: of its statements under way some arrive, some do not, and its transactions are rolled back."""
        met = 0
        for conn in [conn for conn in self.connections if conn.worker == worker]:
            asked = conn.asked
            met += asked is not None or conn.session is not None
            left = -1.0 if asked is None else asked.arrives - self.loop.time()
            if left > 0 and self.chance.random() < 0.5:
                # It is on the wire already, and its session lives until it has been dealt with.
                self.loop.after(left + 1e-4, self.hang_up, conn)
                continue
            if asked is not None:
                asked.gone = True
            self.hang_up(conn)
        return met
