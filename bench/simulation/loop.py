"""An event loop whose time is virtual: when nothing is ready it jumps to the next timer. One thread, no sockets, no waiting.

Every callback belongs to an `Owner`, or to the world. A frozen owner's callbacks wait until he thaws; a dead owner's never run:
that is a crash at whichever await each of his tasks stood, without a `finally` of his doing anything.
"""

import asyncio
import heapq
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


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` is seconds since the beginning, and moves in jumps."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
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

    def after(self, seconds: float, work: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call `work` in the world, `seconds` from now."""
        return self.call_at(self._now + seconds, work, *args, context=self.world)

    def soon(self, work: Callable[..., object], *args: Any) -> asyncio.Handle:
        """Call `work` in the world, at this very instant."""
        return self.call_soon(work, *args, context=self.world)

    def thaw(self, owner: Owner) -> None:
        """What waited for `owner` runs now, in its order; his timers late."""
        owner.frozen = False
        self._ready.extend(owner.held)  # type: ignore[attr-defined]
        owner.held = []

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(timers)._scheduled = False
        if not ready:
            if not timers:
                raise Stuck("nothing is ready and no timer is set")
            self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None:
                if owner.frozen or owner.dead:
                    owner.held.append(handle)
                    continue
            self.steps += 1
            handle._run()

    def _process_events(self, event_list: object) -> None:
        """There are none: nothing here reads a socket."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""
