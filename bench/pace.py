"""Open loops: what is due is sent at its moment, or late, and never left out; latency counts from the moment.

A load that waits for answers before it goes on asks a slow server less, and so never meets the queue that people would stand in.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from bench.fleet import Phone
from protocol.codec import wire_time

TICK_S: Final = 0.001
"""The finest that an event loop's timers go. At 2,000 a second this is two frames a wake-up, for two workers."""


class Pace:
    """An even stream that waits for nobody: how many are due by now. Pure."""

    def __init__(self, rate: float, began_s: float) -> None:
        self._rate = rate
        self._began_s = began_s
        self.sent = 0
        self.late_s_max = 0.0

    def due(self, now_s: float) -> int:
        """How many have come due since the last call; they count as sent. What is late is sent late, never left out."""
        count = int((now_s - self._began_s) * self._rate) + 1 - self.sent
        if count <= 0:
            return 0
        self.late_s_max = max(self.late_s_max, now_s - self._began_s - self.sent / self._rate)
        self.sent += count
        return count


class Drive:
    """All phones send positions, evenly and in turn, until the block ends."""

    def __init__(self, phones: Sequence[Phone], rate: float) -> None:
        """`rate` is of all phones together, per second."""
        self._phones = phones
        self._rate = rate
        self._task: asyncio.Task[None] | None = None
        self._began = datetime.now(UTC)
        self.pace = Pace(rate, 0.0)

    async def __aenter__(self) -> Self:
        self._began = datetime.now(UTC)
        self.pace = Pace(self._rate, asyncio.get_running_loop().time())
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass

    @property
    def sent(self) -> int:
        return self.pace.sent

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        phones, count = self._phones, len(self._phones)
        while True:
            first = self.pace.sent
            due = self.pace.due(loop.time())
            stamped = -1
            for number in range(first, first + due):
                # The moment that was its, also when it is sent late: its age counts from there. The wire knows milliseconds.
                moment_ms = int(number * 1000 / self._rate)
                if moment_ms != stamped:
                    stamped = moment_ms
                    stamp = wire_time(self._began + timedelta(milliseconds=moment_ms)).encode()
                phones[number % count].locate(stamp)
            await asyncio.sleep(TICK_S)


def arrivals(rate: float, seconds: float, *, seed: int) -> list[float]:
    """Moments of a Poisson process in [0, seconds), in order. The same for the same seed."""
    dice = random.Random(seed)
    moments: list[float] = []
    at = dice.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += dice.expovariate(rate)
    return moments


def bursts(rate: float, seconds: float, *, of: int) -> list[float]:
    """Moments in [0, seconds), in order: so many in one instant, and as many instants as make that rate. Pure."""
    instants = int(seconds * rate / of)
    return [number * of / rate for number in range(instants) for _ in range(of)]


async def at_moments(moments: Sequence[float], work: Callable[[int, int], Coroutine[Any, Any, object]]) -> float:
    """Start `work(number, due)` at each of the moments, in s from now, whatever has become of those before, and wait for all; `due` is
    CLOCK_MONOTONIC ns. How late the latest was started, in s. The first that fails cancels the others (ExceptionGroup).
    """
    began_ns = time.monotonic_ns()
    late_ns = 0
    async with asyncio.TaskGroup() as group:
        for number, moment in enumerate(moments):
            due_ns = began_ns + round(moment * 1e9)
            while (left_ns := due_ns - time.monotonic_ns()) > 0:
                await asyncio.sleep(left_ns / 1e9)
            late_ns = max(late_ns, -left_ns)
            group.create_task(work(number, due_ns))
            if number % 64 == 63:
                await asyncio.sleep(0)  # many that are late at once must not keep answers from being read
    return late_ns / 1e9
