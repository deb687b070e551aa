"""What a measured stretch has cost: CPU seconds and memory of each process, and how long the server's loops stood still."""

import asyncio
import math
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from bench.figures import Row, cores, known
from bench.server import GATHER_S, Target, Usage, cpu_of, family, rss_of, total

LAG_LOOK_S: Final = 1.0
SELDOM_S: Final = 8.0
"""The gauges show the worst of the last ten seconds: whoever looks as often as this misses nothing, and an answer costs the server
some milliseconds, which are not to be part of what is measured.
"""


class Barometer:
    """The worst of some gauges while the block lasts; one worker's answer is of all of them."""

    def __init__(self, target: Target, every_s: float = LAG_LOOK_S) -> None:
        self._target = target
        self._every_s = every_s
        self.worst: Counter[str] = Counter()
        self.unread = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        with suppress(aiohttp.ClientError, TimeoutError):
            await self.look()

    async def look(self) -> dict[str, float]:
        """The gauges now."""
        text = await self._target.scrape()
        found = {}
        for name in ("dispatch_loop_lag_max_seconds", "dispatch_socket_waiting_bytes_max", "dispatch_sockets"):
            with suppress(KeyError):
                found[name] = total(text, name)
                self.worst[name] = max(self.worst[name], found[name])  # type: ignore[assignment]
        return found

    async def _look(self) -> None:
        while True:
            try:
                await self.look()
            except (aiohttp.ClientError, TimeoutError):
                self.unread += 1
            await asyncio.sleep(self._every_s)

    @property
    def lag_ms(self) -> float:
        """NaN: the gauges could not be read, not once."""
        if "dispatch_loop_lag_max_seconds" not in self.worst:
            return math.nan
        return round(self.worst["dispatch_loop_lag_max_seconds"] * 1e3, 1)

    @property
    def waiting_bytes(self) -> int:
        return int(self.worst["dispatch_socket_waiting_bytes_max"])


class Meter:
    """What was used while the block lasted. Loop lag is the server's own gauge: of this time and the ten to twenty seconds before."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._barometer = Barometer(target, SELDOM_S)
        self._workers: dict[int, float] = {}
        self._before: Usage | None = None
        self.used: Usage | None = None
        """Of the block; known once it has ended."""
        self.figures: dict[str, Any] = {}
        """cpu_s by process, workers: [{cpu_s, rss_mib}], rss_mib, loop_lag_ms_max, others_cores, took_s. NaN: unknown."""

    async def __aenter__(self) -> Self:
        await self._barometer.__aenter__()
        self._workers = cpu_of(self._target.worker_pids())
        self._before = self._target.usage()
        return self

    async def __aexit__(self, kind: object, *exc: object) -> None:
        if kind is not None:
            await self._barometer.__aexit__()
            return
        assert self._before is not None
        used = self.used = self._target.usage().since(self._before)
        # In a thread: the load may go on, and memory of fifty processes takes a while to be added up.
        workers, rss_mib = await asyncio.to_thread(self._sizes)
        await asyncio.sleep(GATHER_S)
        await self._barometer.__aexit__()
        self.figures = {
            "cpu_s": {
                "server": round(used.server, 2),
                "redis": round(used.redis, 2),
                "postgres": round(used.postgres, 2),
                "load_generator": round(used.load, 2),
            },
            "workers": workers,
            "rss_mib": rss_mib,
            "loop_lag_ms_max": self._barometer.lag_ms,
            "others_cores": used.others_share(),
            "took_s": round(used.at, 2),
        }

    def _sizes(self) -> tuple[list[dict[str, float]], dict[str, float]]:
        """What each worker has used since the beginning and how large it is; MiB by process. Those that were replaced are left out."""
        alive = [pid for pid in self._target.worker_pids() if pid in self._workers]
        seconds = cpu_of(alive)
        workers = [
            {"cpu_s": round(seconds[pid] - self._workers[pid], 2), "rss_mib": round(rss_of([pid]) / 1024, 1)}
            for pid in alive
        ]
        redis_pid, postgres_pid = self._target.redis_pid, self._target.postgres_pid
        return workers, {
            "workers": round(sum(one["rss_mib"] for one in workers), 1) if workers else math.nan,
            "redis": math.nan if redis_pid is None else round(rss_of([redis_pid]) / 1024, 1),
            "postgres": math.nan if postgres_pid is None else round(share_kib(postgres_pid) / 1024, 1),
        }


def rows_of(found: dict[str, Any]) -> list[Row]:
    """A meter's figures for a scenario's table."""
    took_s = found["took_s"]
    each = ", ".join(f"{one['cpu_s']:.1f} s {one['rss_mib']:.0f} MiB" for one in found["workers"])
    rss = found["rss_mib"]
    return [
        *(
            (f"CPU of {name.replace('_', ' ')}", f"{known(seconds, '.2f')} s, {cores(seconds / took_s)}", "")
            for name, seconds in found["cpu_s"].items()
        ),
        ("each worker: CPU, RSS", each or "unknown", ""),
        ("RSS: Redis, Postgres", f"{known(rss['redis'], '.0f')} MiB, {known(rss['postgres'], '.0f')} MiB", ""),
        ("loop lag max", f"{known(found['loop_lag_ms_max'], '.1f')} ms", ""),
        ("kept busy by others", cores(found["others_cores"]), ""),
    ]


def share_kib(pid: int) -> int:
    """KiB of a family of processes that share memory, each page counted once: the sum of their proportional shares."""
    kib = 0
    for one in family(pid):
        with suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{one}/smaps_rollup").read_text(), re.MULTILINE)
            kib += int(found[1]) if found else 0
    return kib
