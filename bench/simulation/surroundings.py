"""What everything in one simulated world shares: the loop, the one source of chance, the weather, the trace."""

import hashlib
import random
from collections.abc import Callable
from typing import Any

from bench.simulation.faults import Weather
from bench.simulation.loop import OWNER, VirtualLoop


class Surroundings:
    """One per seed."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, *, story: bool = False) -> None:
        self.loop = loop
        self.chance = chance
        self.weather = Weather()
        self.skews: dict[str, float] = {}
        """Worker → how far its wall clock is off, seconds."""
        self.dead: set[str] = set()
        self.strike: Callable[[str, str], None] = lambda kind, worker: None
        """What the world does to a worker at the very moment that a model names."""
        self.fatal: BaseException | None = None
        """A model that cannot go on: the run is worth nothing."""
        self.story: list[tuple[float, str, str, str]] | None = [] if story else None
        """(second, where, who, what), if somebody will read it."""
        self._trace = hashlib.blake2b(digest_size=16)

    @property
    def now_ns(self) -> int:
        return round(self.loop.time() * 1e9)

    def wall_s(self) -> float:
        """The wall clock of whoever is running: a worker's own, the true one for everybody else."""
        owner = OWNER.get()
        return self.loop.time() + (0.0 if owner is None else self.skews.get(owner.name, 0.0))

    def is_dead(self, worker: str) -> bool:
        return worker in self.dead

    def note(self, where: str, who: str, what: Any, said: Any = "") -> None:
        """One step of the trace: what happened when, to whom. What was said is kept for whoever reads the story."""
        self._trace.update(f"{self.loop._now:.6f} {where} {who} {what}".encode())
        if self.story is not None:
            self.story.append((self.loop.time(), where, who, f"{what} {said!r}"))

    @property
    def trace_hash(self) -> str:
        return self._trace.hexdigest()

    def broken(self, error: BaseException) -> None:
        """A model failed: stop everything, loudly."""
        self.fatal = self.fatal or error
        self.loop.stop()
