"""Plain-SQL migrations: one ordered list of files, applied once each, by one process at a time.

pogo reads the files and keeps its list of what was applied in `public._pogo_migration`. It has no lock, and its hash
is of a file's name; so a lock is put around it, and the hash of each file's content is kept beside its list: a file
that was edited after it ran would otherwise be taken for the one that ran.
"""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import asyncpg
from pogo_core.error import BadMigrationError
from pogo_core.migration import Migration, topological_sort
from pogo_core.util import sql as pogo_tables

LOCK_KEY = 0x64697370  # "disp": every process that migrates a database asks for this advisory lock
LOCK_POLL_S = 0.1
LOCK_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 10.0

_CHECKSUMS = """
CREATE TABLE IF NOT EXISTS public._migration_content (
    schema_name text NOT NULL,
    migration_id text NOT NULL,
    sha256 text NOT NULL,
    PRIMARY KEY (schema_name, migration_id)
)
"""


class MigrationError(RuntimeError):
    """The database cannot be brought up to date. The message is for people."""


async def migrate(
    url: str, folder: Path, *, schema: str = "dispatch", lock_timeout_s: float = LOCK_TIMEOUT_S
) -> list[str]:
    """Apply what is pending of `folder`, in order, and return the ids of what was applied now.

    The schema is created if missing and is the whole search_path while files run. Each file is one transaction together
    with the note that it was applied, unless it says `-- transaction: false`. Any number of processes may call this
    at once. Cancelling is safe. Raises MigrationError, OSError or asyncpg errors when the database is not reachable.
    """
    files = _read(folder)
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        await _take_lock(connection, lock_timeout_s)
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await connection.execute(f'SET search_path TO "{schema}"')
        await pogo_tables.ensure_pogo_sync(connection)
        await connection.execute(_CHECKSUMS)
        waiting = await _pending(connection, files, schema)
        for migration in waiting:
            await _apply(connection, migration, schema)
        return [migration.id for migration in waiting]
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


async def pending(url: str, folder: Path, *, schema: str = "dispatch") -> list[str]:
    """The ids that `migrate` would apply, in order; changes nothing. Raises as `migrate` does."""
    files = _read(folder)
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        return [migration.id for migration in await _pending(connection, files, schema)]
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


def _read(folder: Path) -> list[Migration]:
    """All files of `folder` in order of dependency, and of name where that leaves a choice."""
    paths = sorted(folder.glob("*.sql"))
    if not paths:
        raise MigrationError(f"There are no migrations in {folder}.")
    try:
        files = [Migration(path.stem, path, None) for path in paths]
        ordered = topological_sort([file.load() for file in files])
    except BadMigrationError as error:
        raise MigrationError(f"A migration in {folder} cannot be read: {error}.") from error
    for earlier, later in pairwise(ordered):
        if earlier.id > later.id or earlier.id not in later.depends_ids:
            raise MigrationError(
                f"Migrations are one line of files: {later.path.name} must say `-- depends: {earlier.id}` and come after it by name."
            )
    return ordered


async def _take_lock(connection: asyncpg.Connection, timeout_s: float) -> None:
    """Take the advisory lock; it is let go when the connection closes.

    It is polled: a session that *waits* for it keeps a snapshot open, and CREATE INDEX CONCURRENTLY in the
    process that has the lock waits for that snapshot: a deadlock.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
                await asyncio.sleep(LOCK_POLL_S)
    except TimeoutError as error:
        raise MigrationError(f"Another process has been migrating this database for {timeout_s:.0f} s.") from error


async def _pending(connection: asyncpg.Connection, files: Sequence[Migration], schema: str) -> list[Migration]:
    applied, known = await _applied(connection, schema)
    if strangers := applied - {file.id for file in files}:
        raise MigrationError(
            f"The database has migrations that this version does not know: {', '.join(sorted(strangers))}. "
            "It was migrated by a newer version; run that one, or restore a backup."
        )
    for file in files:
        if file.id in applied and known.get(file.id) != content_hash(file.path):
            raise MigrationError(
                f"{file.path.name} was changed after it had been applied to this database. "
                "Put its old content back and write the change as a new migration. Where the whole server came newer from its makers, "
                "before its first release: the data of an earlier commit is not carried over; move it away (.data, or the database) and start anew."
            )
    waiting = [file for file in files if file.id not in applied]
    done = len(files) - len(waiting)
    if waiting and files[done:] != waiting:
        raise MigrationError(f"{waiting[0].path.name} was never applied, but a later migration was.")
    return waiting


async def _applied(connection: asyncpg.Connection, schema: str) -> tuple[set[str], dict[str, str]]:
    """(ids that pogo lists, content hash by id), both empty for a database that was never migrated."""
    ids: set[str] = set()
    hashes: dict[str, str] = {}
    if await connection.fetchval("SELECT to_regclass('public._pogo_migration') IS NOT NULL"):
        ids = await pogo_tables.get_applied_migrations(connection, schema_name=schema)
    if await connection.fetchval("SELECT to_regclass('public._migration_content') IS NOT NULL"):
        rows = await connection.fetch(
            "SELECT migration_id, sha256 FROM public._migration_content WHERE schema_name = $1", schema
        )
        hashes = {row["migration_id"]: row["sha256"] for row in rows}
    return ids, hashes


async def _apply(connection: asyncpg.Connection, migration: Migration, schema: str) -> None:
    try:
        # Not pogo's own transaction: that one stays open when it is cancelled.
        async with connection.transaction() if migration.use_transaction else nullcontext():
            await migration.apply(connection)
            await pogo_tables.migration_applied(connection, migration.id, migration.hash, schema_name=schema)
            await connection.execute(
                "INSERT INTO public._migration_content (schema_name, migration_id, sha256) VALUES ($1, $2, $3)",
                schema,
                migration.id,
                content_hash(migration.path),
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.path.name} failed: {error}{_where(error)}") from error


def _where(error: asyncpg.PostgresError) -> str:
    """What Postgres adds to its error, for the writer of the file."""
    parts = [
        f"{name}: {value}" for name in ("detail", "hint", "context", "query") if (value := getattr(error, name, None))
    ]
    return "".join(f"\n{part}" for part in parts)


def content_hash(path: Path) -> str:
    """SHA-256 of a migration's text, line ends and trailing blanks apart."""
    text = re.sub(r"[ \t\r]+$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return hashlib.sha256(text.strip().encode()).hexdigest()
