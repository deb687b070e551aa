"""Tables held as dicts, with what the models need of Postgres: transactions, row locks, committed reads, unique indexes.

A row is a dict that is never changed in place. A statement runs at one point of virtual time. What a transaction writes lies in
its own overlay until it commits; whoever else reads sees the rows as they were. A row lock is held until the end of the
transaction, and who must wait is run again from the start of his statement when he gets it: «lock first, read later» makes that
the same as going on.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = Any

NAMES = [
    "history",
    "users",
    "providers",
    "provider_gate",
    "provider_log",
    "jobs",
    "job_events",
    "offers",
    "events",
    "inbox_head",
    "inbox_marks",
    "sockets",
    "workers",
    "idem",
    "audit",
]


class Blocked(Exception):
    """Somebody else holds this lock."""

    def __init__(self, lock: tuple[str, Key]) -> None:
        super().__init__(lock)
        self.lock = lock


class Lock:
    """Who holds one row: many who share it, or one alone."""

    __slots__ = ("alone", "sharing")

    def __init__(self) -> None:
        self.alone: Session | None = None
        self.sharing: set[Session] = set()


class Tables:
    """What is committed, and who holds what."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in NAMES}
        self.locks: dict[tuple[str, Key], Lock] = {}
        self.commits = 0


class Session:
    """One transaction, or one statement by itself. `role` is app or system; `user` and `admin` are what SET LOCAL said."""

    __slots__ = ("_fresh", "_writes", "admin", "failed", "held", "role", "tables", "user")

    def __init__(self, tables: Tables, role: str, user: UUID | None = None, admin: bool = False) -> None:
        self.tables = tables
        self.role = role
        self.user = user
        self.admin = admin
        self.failed = False
        self.held: dict[tuple[str, Key], bool] = {}
        """Lock → whether it is held alone."""
        self._writes: dict[str, dict[Key, Row | None]] = {}
        self._fresh: dict[str, dict[Key, Row | None]] = {}

    # --- who asks

    def require(self, *users: UUID | None) -> None:
        """`ctx_require`: a request may touch rows of its own user, or as an admin anybody's."""
        if self.role == "app" and not self.admin and (self.user is None or self.user not in users):
            raise asyncpg.InsufficientPrivilegeError("the acting user may not do this to these rows")

    def may(self, user: UUID | None) -> bool:
        """`ctx_may`."""
        return self.role != "app" or self.admin or (self.user is not None and self.user == user)

    @property
    def now(self) -> datetime:
        """`clock_timestamp()`: the one clock that decides anything."""
        return self.tables.clock()

    # --- reading

    def get(self, table: str, key: Key) -> Row | None:
        if self._fresh and (fresh := self._fresh.get(table)) is not None and key in fresh:
            return fresh[key]
        if self._writes and (written := self._writes.get(table)) is not None and key in written:
            return written[key]
        return self.tables.rows[table].get(key)

    def all(self, table: str) -> Iterable[Row]:
        """Every row, in the order of their making."""
        return [row for _, row in self.pairs(table)]

    def pairs(self, table: str) -> Iterable[tuple[Key, Row]]:
        """The same, each with its key."""
        base: Mapping[Key, Row | None] = self.tables.rows[table]
        for layer in (self._writes.get(table), self._fresh.get(table)):
            if layer:
                base = {**base, **layer}
        return [(key, row) for key, row in base.items() if row is not None]

    def of_job(self, job_id: UUID) -> list[Row]:
        """The offers of a job."""
        return [offer for offer in self.all("offers") if offer["job_id"] == job_id]

    # --- writing

    def put(self, table: str, key: Key, row: Row) -> Row:
        self._fresh.setdefault(table, {})[key] = row
        return row

    def change(self, table: str, key: Key, **fields: Any) -> Row:
        """UPDATE of one row: takes its lock, as UPDATE does."""
        self.lock(table, key)
        row = self.get(table, key)
        assert row is not None, f"no row {key} in {table}"
        return self.put(table, key, {**row, **fields})

    def drop(self, table: str, key: Key) -> None:
        self.lock(table, key)
        self._fresh.setdefault(table, {})[key] = None

    # --- locks

    def lock(self, table: str, key: Key, *, share: bool = False, skip: bool = False) -> bool:
        """FOR UPDATE, or with `share` FOR SHARE. With `skip` False where it would have to wait. Raises Blocked."""
        name = (table, key)
        if self.held.get(name) or (share and name in self.held):
            return True
        lock = self.tables.locks.get(name)
        if lock is None:
            lock = self.tables.locks[name] = Lock()
        others = len(lock.sharing) - (self in lock.sharing)
        if lock.alone is not None or (others and not share):
            if skip:
                return False
            raise Blocked(name)
        if share:
            lock.sharing.add(self)
        else:
            lock.alone = self
        self.held[name] = not share
        return True

    # --- ends

    def statement_done(self) -> None:
        """What the statement wrote is the transaction's."""
        for table, rows in self._fresh.items():
            self._writes.setdefault(table, {}).update(rows)
        self._fresh = {}

    def statement_undone(self) -> None:
        self._fresh = {}

    def commit(self) -> None:
        base = self.tables.rows
        for table, rows in self._writes.items():
            into = base[table]
            for key, row in rows.items():
                if row is None:
                    into.pop(key, None)
                else:
                    into[key] = row
        if self._writes:
            self.tables.commits += 1
        self.end()

    def end(self) -> None:
        """Let go of everything; what was written and not committed never was."""
        self._writes, self._fresh = {}, {}
        locks = self.tables.locks
        for name in self.held:
            lock = locks[name]
            if lock.alone is self:
                lock.alone = None
            lock.sharing.discard(self)
            if lock.alone is None and not lock.sharing:
                del locks[name]
        self.held = {}


def unique(constraint: str) -> asyncpg.UniqueViolationError:
    """What asyncpg raises when an index refuses a row."""
    error = asyncpg.UniqueViolationError(f'duplicate key value violates unique constraint "{constraint}"')
    error.constraint_name = constraint
    return error
