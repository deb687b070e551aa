"""Every task has a parent. Life-long duties and detached finishing work live here; nothing else starts a task."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.errors import DispatchError
from dispatch.kit.postgres import LOST, STUCK

T = TypeVar("T")

log = structlog.get_logger("tasks")


class Duty(Protocol):
    """One turn of a loop. It may run twice, on any worker, harmlessly."""

    def __call__(self) -> Awaitable[object]: ...


class Nursery:
    """Tasks that outlive the call that began them but not the worker. Held strongly: a loop knows its tasks only weakly.

    Used where work must finish although its asker is gone: an accept past its claim, facts past their commit.
    """

    def __init__(self, *, bound: int = 10_000) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._bound = bound

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def full(self) -> bool:
        """At the bound: whoever can still refuse work should."""
        return len(self._tasks) >= self._bound

    def start(self, work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        """Run `work` to its end. The caller may await the task through `asyncio.shield`. A failure nobody awaits is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # A refusal is an answer, and whoever asked has it.
        if task.cancelled() or (error := task.exception()) is None or isinstance(error, DispatchError):
            return
        if isinstance(error, (*LOST, *STUCK)):
            # A store that is away fails every task there is: a line each, no page each. The loops finish what they left.
            log.warning("task given up", task=task.get_name(), error=repr(error))
        else:
            log.error("task failed", task=task.get_name(), error=repr(error), exc_info=error)

    async def close(self, grace_s: float) -> None:
        """Let what runs finish for `grace_s`, then cancel the rest and wait for it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=grace_s)
        await cancel(set(self._tasks))


async def cancel(tasks: "set[asyncio.Task[Any]]") -> None:
    """Cancel until they are done. Once is not enough: a cancellation that meets a reply or a timeout inside a store's client may be
    swallowed there (seen with redis 8.1 on 3.11.2), and the loop around it goes on as if nothing had been said.
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.2)


async def each(items: Iterable[T], work: Callable[[T], Coroutine[Any, Any, None]]) -> None:
    """Run `work` on every item at the same time and return when all are done; the first failure cancels the others."""
    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(work(item))


async def repeat(
    duty: Duty,
    *,
    every_s: float,
    clock: Clock,
    name: str,
    on_failure: Callable[[str], None] | None = None,
    on_wake: Callable[[float, float], None] | None = None,
) -> None:
    """Run `duty` for ever, `every_s` between the end of one turn and the start of the next. A failed turn is logged and counted,
    and the loop goes on: a store that is down now may be up in the next turn. Ends by cancellation only.

    `on_wake` is told (when the next turn was due, when it began), in monotonic seconds: how late timers are is how busy the loop is.
    """
    failing = False
    while True:
        try:
            await duty()
            if failing:
                log.info("loop recovered", loop=name)
            failing = False
        except Exception as error:
            # Once per outage, not per turn: a store that is down for a minute is one event.
            if not failing:
                # A refusal that decided nothing, such as no free connection, has no more to tell than its words.
                passing = isinstance(error, DispatchError) and not error.decided
                log.warning("loop failed", loop=name, error=repr(error), exc_info=None if passing else error)
            failing = True
            if on_failure is not None:
                on_failure(name)
        due = clock.monotonic() + every_s
        await clock.sleep(every_s)
        if on_wake is not None:
            on_wake(due, clock.monotonic())


@asynccontextmanager
async def running(duties: Iterable[tuple[str, Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Run life-long duties while the block lasts, then cancel them and wait. One that ends by itself is a bug and is logged as one."""

    def ended(task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            log.critical("a loop ended", loop=task.get_name(), error=repr(task.exception()), exc_info=task.exception())

    tasks = [asyncio.get_running_loop().create_task(duty, name=name) for name, duty in duties]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        await cancel(set(tasks))
