"""Time as an argument. Nothing outside kit reads a clock of its own."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the server may know about time."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC. Never decides who wins: that is Postgres' clock alone."""

    def now_ms(self) -> int:
        """The same in whole milliseconds since 1970, rounded down: a quarter of the cost, for what is asked with each fix."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards. For durations and cadences."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`. Cancelling is safe."""


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands until it is moved. `advance` wakes whoever slept long enough, in order of their deadlines."""

    def __init__(self, start: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def monotonic(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._elapsed_s + seconds, woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds` and wake the sleepers whose deadline has come. They run when the caller next awaits."""
        self._elapsed_s += seconds
        due = sorted((s for s in self._sleepers if s[0] <= self._elapsed_s), key=lambda s: s[0])
        self._sleepers = [s for s in self._sleepers if s[0] > self._elapsed_s]
        for _, woken in due:
            if not woken.done():
                woken.set_result(None)


def monotonic_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds: the same for all processes of one machine, so two of them can be subtracted."""
    return time.monotonic_ns()
