"""Loops tell how late they were woken, and that is how busy a worker's loop is."""

import asyncio
from typing import Any

from dispatch.gauges import LAG_SHOWN_S, Gauges
from dispatch.kit.clock import ManualClock
from dispatch.kit.metrics import Metrics
from dispatch.kit.tasks import repeat


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_loop_says_when_it_was_due_and_when_it_was_woken() -> None:
    clock, woke = ManualClock(), list[tuple[float, float]]()

    async def duty() -> None:
        await clock.sleep(0.5)  # what a turn itself takes is no lateness

    task = asyncio.create_task(
        repeat(duty, every_s=1.0, clock=clock, name="x", on_wake=lambda due, now: woke.append((due, now)))
    )
    for seconds in (0.5, 1.0, 0.5, 1.75):
        await settled()
        clock.advance(seconds)
    await settled()
    task.cancel()
    await asyncio.wait([task])
    assert woke == [(1.5, 1.5), (3.0, 3.75)]


def test_the_worst_lateness_is_shown_for_ten_seconds_at_least_and_then_forgotten() -> None:
    none: Any = None
    gauges = Gauges(Metrics("lag"), *[none] * 12, slot=0)
    gauges.woke(100.0, 100.7)
    for n in range(101, 101 + int(LAG_SHOWN_S)):
        gauges.woke(n, n + 0.1)
        assert round(gauges.lag_s, 3) == 0.7
    for n in range(111, 131):
        gauges.woke(n, n + 0.1)
    assert round(gauges.lag_s, 3) == 0.1
