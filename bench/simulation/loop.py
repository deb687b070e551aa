"""An event loop whose time is virtual: when nothing is ready it jumps to the next timer. One thread, no sockets, no waiting.

Every callback belongs to an `Owner`, or to the world. A frozen owner's callbacks wait until he thaws; a dead owner's never run:
that is a crash at whichever await each of his tasks stood, without a `finally` of his doing anything.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

OWNER: ContextVar["Owner | None"] = ContextVar("simulated_owner", default=None)


class Stuck(RuntimeError):
    """Nothing is ready and no timer is set: the simulation would stand still for ever."""


class Owner:
    """A process that may be frozen or killed. What it runs is found by the context of each callback."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.held: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(OWNER.set, self)


class _Call:
    """Something to call in the world: cheaper than a handle with a context of its own."""

    __slots__ = ("args", "work")

    def __init__(self, work: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.work = work
        self.args = args


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` is seconds since the beginning, and moves in jumps."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._number = 0
        self._timers: list[tuple[float, int, asyncio.Handle | _Call]] = []
        self._turn: deque[asyncio.Handle | _Call] = deque()
        self.steps = 0
        self.world = Context()
        """Whose callbacks belong to nobody: stores, phones, the nemesis."""
        self.failures: list[str] = []
        """What went wrong in a callback or a task that nobody awaits."""
        self.set_exception_handler(self._failed)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "Future exception was never retrieved" in str(context.get("message")):
            return  # the answer to a call whose caller died
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def time(self) -> float:
        return self._now

    def after(self, seconds: float, work: Callable[..., object], *args: Any) -> None:
        """Call `work` in the world, `seconds` from now."""
        self._number += 1
        heapq.heappush(self._timers, (self._now + seconds, self._number, _Call(work, args)))

    def timer(self, seconds: float, work: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """The same, with a handle to cancel it by."""
        return self.call_at(self._now + seconds, work, *args, context=self.world)

    def soon(self, work: Callable[..., object], *args: Any) -> None:
        """Call `work` in the world, at this very instant."""
        self._turn.append(_Call(work, args))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._number += 1
        # By number too: timers of one instant keep their order, and no comparison runs in Python.
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._turn.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays where it is and does nothing when its time comes."""

    def thaw(self, owner: Owner) -> None:
        """What waited for `owner` runs now, in its order; his timers late."""
        owner.frozen = False
        self._turn.extend(owner.held)
        owner.held = []

    def _run_once(self) -> None:
        """Not once but until somebody says stop: a call for each turn costs as much as a turn."""
        turn, timers, pop = self._turn, self._timers, heapq.heappop
        while not self._stopping:  # type: ignore[attr-defined]
            if not turn:
                if not timers:
                    raise Stuck("nothing is ready and no timer is set")
                when = timers[0][0]
                self._now = max(self._now, when)
            while timers and timers[0][0] <= self._now:
                turn.append(pop(timers)[2])
            for _ in range(len(turn)):
                handle = turn.popleft()
                if isinstance(handle, _Call):
                    self.steps += 1
                    handle.work(*handle.args)
                    continue
                if handle._cancelled:
                    continue
                owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
                if owner is not None and (owner.frozen or owner.dead):
                    owner.held.append(handle)
                    continue
                self.steps += 1
                handle._run()

    def _process_events(self, event_list: object) -> None:
        """There are none: nothing here reads a socket."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""
