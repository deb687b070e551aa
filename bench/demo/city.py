"""What the people of one run share: the clock of the city, the server's address, the tally, and the tasks."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from bench.demo.recording import Fare
from bench.demo.tally import Tally


class CityClock:
    """The time of the recorded day, `speed` times as fast as ours. It stands at its start until it is started."""

    def __init__(self, start: float, speed: float) -> None:
        self.speed = speed
        self.started = asyncio.Event()
        self._start = start
        self._began = 0.0

    def begin(self) -> None:
        """Let it run from here on."""
        self._began = time.monotonic()
        self.started.set()

    def now(self) -> float:
        """City time, seconds since 1970."""
        return self._start + self.elapsed_s() * self.speed

    def elapsed_s(self) -> float:
        """Wall seconds since it was started; 0 before."""
        return time.monotonic() - self._began if self.started.is_set() else 0.0

    def wall_s(self, moment: float) -> float:
        """How many wall seconds from now until that moment of the city; 0 if it is over."""
        return max(0.0, (moment - self.now()) / self.speed)


@dataclass(slots=True)
class City:
    """Shared by all cabs and customers of a run. Speeds are straight metres per wall second."""

    url: str
    clock: CityClock
    tally: Tally
    seed: int
    drive_mps: float
    # Before the clock runs, cabs are put where their trips have already brought them: as fast as the server believes.
    warm_mps: float
    # user id of the customer → the recorded trip that is under way when the clock starts
    warm: dict[str, Fare] = field(default_factory=dict)
    # Over: nobody answers or asks for anything new any more.
    closing: bool = False
    # Accepts without a final answer yet.
    asking: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    failure: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside the others. What it raises ends the run: a fault of the demo is not swallowed."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failure.done():
            self.failure.set_exception(error)

    async def end(self) -> None:
        """Cancel what still runs and wait for it."""
        while self.tasks:
            for task in set(self.tasks):
                task.cancel()
            await asyncio.wait(set(self.tasks))
