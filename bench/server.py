"""The server under test with its stores, its people and its processes: what each has cost, and how large it is."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import redis.asyncio as aioredis

from bench.demo.stage import Stage, Wanted, cpu_s, stage

GATHER_S = 2.5
"""Workers carry their counts to /metrics every 2 s: what is read after this long is complete."""
_SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)", re.MULTILINE)
_WORKER = b"multiprocessing.spawn"


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
            max(0.0, self.server - share * quiet.server),
            max(0.0, self.redis - share * quiet.redis),
            max(0.0, self.postgres - share * quiet.postgres),
            max(0.0, self.load - share * quiet.load),
            self.machine,
            self.at,
        )

    def others_share(self) -> float:
        """Cores that somebody else kept busy meanwhile; above a few hundredths the latencies are not to be trusted."""
        ours = self.server + self.redis + self.postgres + self.load
        return round(max(0.0, self.machine - ours) / max(self.at, 1e-9), 3)

    def per(self, count: float) -> dict[str, float]:
        """Microseconds for each of `count`, by process."""
        used = {"server": self.server, "redis": self.redis, "postgres": self.postgres, "load_generator": self.load}
        return {name: round(seconds / count * 1e6, 1) for name, seconds in used.items()}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    stage: Stage
    redis: "aioredis.Redis"
    http: aiohttp.ClientSession
    redis_pid: int
    postgres_pid: int

    def usage(self) -> Usage:
        """What has been used until now. Raises RuntimeError where there is no /proc: nothing can be measured there."""
        return usage_of(self.stage.server_pid, self.redis_pid, self.postgres_pid)

    def worker_pids(self) -> list[int]:
        """The worker processes: the supervisor's children but for Python's resource tracker."""
        return sorted(
            pid
            for pid in children(self.stage.server_pid)
            if _WORKER in (command := Path(f"/proc/{pid}/cmdline").read_bytes()) and b"resource_tracker" not in command
        )

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels, from /metrics."""
        async with self.http.get(f"{self.stage.url}/metrics") as response:
            response.raise_for_status()
            return total(await response.text(), name)


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
        yield Running(running, redis, http, await redis_pid(redis), await postgres_pid(running.database_url))


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


def usage_of(server_pid: int, redis_pid: int, postgres_pid: int) -> Usage:
    """What these processes, with all below them, have used until now. Raises RuntimeError where there is no /proc."""
    server, valkey, postgres = (_known(cpu_s(pid)) for pid in (server_pid, redis_pid, postgres_pid))
    return Usage(server, valkey, postgres, own_cpu_s(), busy_s(Path("/proc/stat").read_text()), time.monotonic())


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


def _known(seconds: float | None) -> float:
    if seconds is None:
        raise RuntimeError("CPU can only be measured where there is /proc")
    return seconds


async def until(holds: Callable[[], bool], *, within_s: float, every_s: float = 0.01) -> bool:
    """Wait until it holds; False when it does not within that time."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(every_s)
    except TimeoutError:
        return False
    return True
