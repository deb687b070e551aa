"""The server under test with its stores, its people and its processes: what each has cost, and how large it is."""

import asyncio
import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio as aioredis

from bench.demo.stage import Person, Stage, Wanted, cpu_each_s, descendants, stage

GATHER_S = 2.5
"""Workers carry their counts to /metrics every 2 s: what is read after this long is complete."""
_SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)", re.MULTILINE)
_WORKER = b"multiprocessing.spawn"


class Unreachable(Exception):
    """A server cannot be measured from here. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds used so far, user and system. `server` is the supervisor with all workers, `postgres` all its processes,
    `machine` everything that ran, and `at` the monotonic second of the look.
    """

    server: float
    redis: float
    postgres: float
    load: float
    machine: float
    at: float

    def since(self, before: "Usage") -> "Usage":
        return Usage(
            self.server - before.server,
            self.redis - before.redis,
            self.postgres - before.postgres,
            self.load - before.load,
            self.machine - before.machine,
            self.at - before.at,
        )

    def and_(self, more: "Usage") -> "Usage":
        """Both together, of spans that do not overlap."""
        return self.since(Usage(-more.server, -more.redis, -more.postgres, -more.load, -more.machine, -more.at))

    def beyond(self, quiet: "Usage") -> "Usage":
        """What is left when as much a second was used anyway as in the span `quiet`. Never below nothing."""
        share = self.at / max(quiet.at, 1e-9)
        return Usage(
            max(self.server - share * quiet.server, 0.0),
            max(self.redis - share * quiet.redis, 0.0),
            max(self.postgres - share * quiet.postgres, 0.0),
            max(self.load - share * quiet.load, 0.0),
            self.machine,
            self.at,
        )

    def others_share(self) -> float:
        """Cores that somebody else kept busy meanwhile; above a few hundredths the latencies are not to be trusted."""
        others = self.machine - (self.server + self.redis + self.postgres + self.load)
        # NaN, where one of them is unknown, stays NaN only as the first of two.
        return round(max(others, 0.0) / max(self.at, 1e-9), 3)

    def per(self, count: float) -> dict[str, float]:
        """Microseconds for each of `count`, by process."""
        used = {"server": self.server, "redis": self.redis, "postgres": self.postgres, "load_generator": self.load}
        return {name: round(seconds / count * 1e6, 1) for name, seconds in used.items()}


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load, ours or somebody else's. Processes that we cannot see are unknown: what they use is NaN."""

    url: str
    providers: tuple[Person, ...]
    customers: tuple[Person, ...]
    versions: dict[str, str]
    http: aiohttp.ClientSession
    redis: "aioredis.Redis | None"
    redis_pid: int | None
    postgres_pid: int | None
    stamp_file: Path | None
    """Where it stamps its offers; None: it does not, or we cannot read it."""
    listeners: tuple[int, ...]
    """Processes that listen on its port here; none: they are on another machine, or it is `Running`."""

    def usage(self) -> Usage:
        """What has been used until now. Raises RuntimeError where there is no /proc: nothing can be measured there."""
        return usage_of(self.server_pids(), self.redis_pid, self.postgres_pid)

    def server_pids(self) -> list[int]:
        """Processes that with all below them are the server; none: they are not here."""
        return self.worker_pids()

    def worker_pids(self) -> list[int]:
        """The worker processes; none: they cannot be seen from here."""
        return list(self.listeners)

    async def scrape(self) -> str:
        """/metrics as it stands. Raises aiohttp.ClientError, also when we may not read it."""
        token = os.environ.get("DISPATCH_METRICS_TOKEN")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.http.get(f"{self.url}/metrics", headers=headers) as response:
            response.raise_for_status()
            return await response.text()

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels, from /metrics; NaN when it cannot be read."""
        try:
            return total(await self.scrape(), name)
        except aiohttp.ClientError:
            return math.nan


@dataclass(frozen=True, slots=True)
class Running(Target):
    """A server that was started for this run, and is ready."""

    stage: Stage

    def server_pids(self) -> list[int]:
        return [self.stage.server_pid]

    def worker_pids(self) -> list[int]:
        """The supervisor's children but for Python's resource tracker."""
        return sorted(
            pid
            for pid in children(self.stage.server_pid)
            if _WORKER in (command := Path(f"/proc/{pid}/cmdline").read_bytes()) and b"resource_tracker" not in command
        )


@asynccontextmanager
async def server(
    *,
    market: str,
    providers: int,
    customers: int,
    workers: int,
    market_overrides: Mapping[str, object],
    say: Callable[[str], None],
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """Start it all, as an operator would. Raises StageError, EmbeddedError."""
    wanted = Wanted(market, providers, customers, workers, {market: market_overrides}, settings=settings or {})
    async with (
        stage(wanted, say) as running,
        aioredis.Redis.from_url(running.redis_url) as redis,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        yield Running(
            url=running.url,
            providers=running.providers,
            customers=running.customers,
            versions=running.versions,
            http=http,
            redis=redis,
            redis_pid=await redis_pid(redis),
            postgres_pid=await postgres_pid(running.database_url),
            stamp_file=running.stamp_file,
            listeners=(),
            stage=running,
        )


async def redis_pid(redis: "aioredis.Redis") -> int:
    """The process of the Redis that answers there."""
    facts: dict[str, Any] = await redis.info("server")
    return int(facts["process_id"])


async def postgres_pid(database_url: str) -> int:
    """The process of the Postgres that answers there: a backend's parent."""
    connection = await asyncpg.connect(database_url)
    try:
        return parent(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


def usage_of(server_pids: Sequence[int], redis_pid: int | None, postgres_pid: int | None) -> Usage:
    """What these processes, with all below them, have used until now; NaN of those that are not known. Raises RuntimeError where
    there is no /proc.
    """
    seconds = cpu_of([*server_pids, *(pid for pid in (redis_pid, postgres_pid) if pid is not None)])
    server = sum(seconds[pid] for pid in server_pids) if server_pids else math.nan
    valkey, postgres = (math.nan if pid is None else seconds[pid] for pid in (redis_pid, postgres_pid))
    return Usage(server, valkey, postgres, own_cpu_s(), busy_s(Path("/proc/stat").read_text()), time.monotonic())


def cpu_of(pids: Sequence[int]) -> dict[int, float]:
    """Seconds that each of these processes, with all below it, has used. Raises RuntimeError where there is no /proc."""
    seconds = cpu_each_s(pids)
    if seconds is None:
        raise RuntimeError("CPU can only be measured where there is /proc")
    return dict(zip(pids, seconds, strict=True))


def family(pid: int) -> set[int]:
    """A process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(path.name)] = parent(int(path.name))
    return descendants(pid, parents)


def own_cpu_s() -> float:
    """User and system seconds of this process, the load generator."""
    return sum(ticks_s(stat_of("self")))


def busy_s(stat: str) -> float:
    """Seconds that the cores were busy since boot, out of /proc/stat: all but idle and waiting for disks."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, stat.split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / 100


def stat_of(pid: int | str) -> list[str]:
    """Field 3 on of /proc/PID/stat. The name before it may hold anything; its closing bracket is the last one."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def ticks_s(stat: list[str]) -> tuple[float, float]:
    """(user, system) seconds out of `stat_of`. A tick is 10 ms on Linux, whatever the kernel's own is."""
    return int(stat[11]) / 100, int(stat[12]) / 100


def parent(pid: int) -> int:
    """The parent's pid."""
    return int(stat_of(pid)[1])


def children(pid: int) -> list[int]:
    """Direct children, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def listeners(port: int) -> tuple[int, ...]:
    """The processes of this machine that listen on a TCP port, as far as we may see."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    pids = sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return tuple(pid for pid in pids if _holds(pid, inodes)) if inodes else ()


def _holds(pid: int, inodes: set[str]) -> bool:
    with suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if fd.readlink().name.removeprefix("socket:[").removesuffix("]") in inodes:
                    return True
    return False


def rss_kib(status: str) -> int:
    """Resident memory out of /proc/PID/status."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ValueError("no VmRSS: the process has ended")
    return int(found[1])


def rss_of(pids: list[int]) -> int:
    """Resident KiB of these processes together."""
    return sum(rss_kib(Path(f"/proc/{pid}/status").read_text()) for pid in pids)


def total(text: str, name: str) -> float:
    """The sum of all samples of `name` in Prometheus' text format. Raises KeyError when there is none."""
    values = [float(value) for found, _, value in _SAMPLE.findall(text) if found == name]
    if not values:
        raise KeyError(name)
    return sum(values)


async def until(holds: Callable[[], bool], *, within_s: float, every_s: float = 0.01) -> bool:
    """Wait until it holds; False when it does not within that time."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(every_s)
    except TimeoutError:
        return False
    return True
