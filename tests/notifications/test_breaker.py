"""The breaker: five failures, sixty seconds, one probe."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.kit.breaker import Breaker, CircuitOpen, State
from dispatch.kit.clock import ManualClock


class Down(Exception):
    pass


async def fail() -> None:
    raise Down


async def succeed() -> None:
    return None


async def ask(breaker: Breaker, what: Callable[[], Awaitable[None]]) -> str:
    try:
        with breaker.call():
            await what()
    except Down:
        return "failed"
    except CircuitOpen:
        return "not asked"
    return "done"


async def opened() -> tuple[Breaker, ManualClock]:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(5):
        assert await ask(breaker, fail) == "failed"
    assert breaker.state is State.OPEN
    return breaker, clock


async def test_five_failures_in_a_row_open_it_for_sixty_seconds() -> None:
    breaker, clock = await opened()
    clock.advance(59.9)
    assert await ask(breaker, succeed) == "not asked"
    clock.advance(0.1)
    assert breaker.state is State.HALF_OPEN
    assert await ask(breaker, succeed) == "done"
    assert breaker.state is State.CLOSED


async def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker(ManualClock())
    for _ in range(4):
        for what in (fail, fail, fail, fail, succeed):
            await ask(breaker, what)
    assert breaker.state is State.CLOSED


async def test_of_twenty_that_come_when_the_pause_is_over_exactly_one_probes() -> None:
    breaker, clock = await opened()
    clock.advance(60)
    gate, asked = asyncio.Event(), 0

    async def slow() -> None:
        nonlocal asked
        asked += 1
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(breaker, slow)) for _ in range(20)]
        while sum(task.done() for task in tasks) < 19:
            await asyncio.sleep(0)
        assert asked == 1
        gate.set()
    assert sorted(task.result() for task in tasks) == ["done"] + ["not asked"] * 19
    assert breaker.state is State.CLOSED


async def test_a_failed_probe_opens_it_again_for_as_long() -> None:
    breaker, clock = await opened()
    clock.advance(60)
    assert await ask(breaker, fail) == "failed"
    assert breaker.state is State.OPEN
    clock.advance(59)
    assert await ask(breaker, succeed) == "not asked"


async def test_a_cancelled_probe_is_no_failure_and_gives_its_place_away() -> None:
    breaker, clock = await opened()
    clock.advance(60)
    probe = asyncio.create_task(ask(breaker, asyncio.Event().wait))
    await asyncio.sleep(0)
    assert await ask(breaker, succeed) == "not asked"
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert breaker.state is State.HALF_OPEN
    assert await ask(breaker, succeed) == "done"


async def test_cancelled_calls_never_open_it() -> None:
    breaker = Breaker(ManualClock())
    for _ in range(20):
        task = asyncio.create_task(ask(breaker, asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert breaker.state is State.CLOSED


async def test_calls_from_before_it_opened_say_nothing_about_after() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    gates = [asyncio.Event(), asyncio.Event()]

    async def late_success() -> None:
        await gates[0].wait()

    async def late_failure() -> None:
        await gates[1].wait()
        raise Down

    early = [asyncio.create_task(ask(breaker, what)) for what in (late_success, late_failure)]
    await asyncio.sleep(0)
    for _ in range(5):
        await ask(breaker, fail)
    gates[0].set()
    await early[0]
    assert breaker.state is State.OPEN, "an old success closed it"
    clock.advance(60)
    await ask(breaker, succeed)
    gates[1].set()
    await early[1]
    for _ in range(4):
        await ask(breaker, fail)
    assert breaker.state is State.CLOSED, "an old failure was counted in the new era"


async def test_an_answer_that_is_no_failure_of_the_service_counts_as_one_that_came() -> None:
    breaker = Breaker(ManualClock())
    for _ in range(20):
        with pytest.raises(Down), breaker.call(lambda error: not isinstance(error, Down)):
            raise Down
    assert breaker.state is State.CLOSED


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from(["ok", "bad"]), st.floats(0, 90)), max_size=60))
async def test_it_asks_only_when_closed_or_as_the_one_probe(steps: list[str | float]) -> None:
    """Against a model: the number of failures in a row, and when it opened."""
    clock = ManualClock()
    breaker = Breaker(clock)
    in_row, opened_at = 0, None
    for step in steps:
        if isinstance(step, float):
            clock.advance(step)
            continue
        may = opened_at is None or clock.monotonic() >= opened_at + 60
        answer = await ask(breaker, succeed if step == "ok" else fail)
        assert (answer != "not asked") == may
        if not may:
            continue
        if step == "ok":
            in_row, opened_at = 0, None
        else:
            in_row += 1
            if opened_at is not None or in_row >= 5:
                opened_at, in_row = clock.monotonic(), 0
