"""Does to a cluster what the plan says, heals it, and counts whom each fault met."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bench.chaos.asking import now_ns
from bench.chaos.city import City
from bench.chaos.cluster import Cluster, Node
from bench.chaos.phones import Phone
from bench.chaos.plan import Planned
from bench.chaos.recorder import Recorder
from bench.faults.history import Fault
from bench.faults.proxy import Action, Struck

AIM_WITHIN_S = 3.0
"""A fault without a length waits this long for somebody to be hit: what meets nobody proves nothing."""
COMMITS = (b"COMMIT", b"accept_job(")
CLAIM = b"FCALL claim 1"
WORDS = (b"first", b"yours", b"pending", b"committed", b"stale")
_KEY = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Skipped(Exception):
    """This fault cannot be done here; the text says why."""


@dataclass(slots=True)
class Resume:
    """From a worker's death to a phone of his that is live and has everything again, ns."""

    killed_at: int
    device: str
    done_at: int = 0


@dataclass(slots=True)
class Marks:
    """Moments that figures are made of, wall-clock ns."""

    resumes: list[Resume] = field(default_factory=list)
    redis_dead: list[tuple[int, int]] = field(default_factory=list)
    postgres_up: list[int] = field(default_factory=list)
    doubts: list[tuple[str, int]] = field(default_factory=list)
    """Requests whose commit's answer was lost: (key, when)."""
    outages: list[tuple[int, int, str]] = field(default_factory=list)
    """When which fault was on: (from, until, kind)."""
    lies: int = 0


Blow = Callable[["Nemesis", Planned, random.Random], Awaitable[tuple[str, int]]]
"""One fault from strike to heal: (whom, how many calls it met)."""


def name_of(node: Node) -> str:
    return f"worker {node.worker.number}"


class Nemesis:
    """One per run."""

    def __init__(self, cluster: Cluster, city: City, recorder: Recorder, marks: Marks, blows: dict[str, Blow]) -> None:
        self.cluster = cluster
        self.city = city
        self.marks = marks
        self.skipped: dict[str, str] = {}
        self.under_way: Counter[str] = Counter()
        self.splits = 0
        self._recorder = recorder
        self._blows = blows
        self._locks = {"postgres": cluster.judge.turn, "redis": cluster.hurry.turn}
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []

    async def run(self, plan: Sequence[Planned]) -> None:
        """All of the plan, each at its time, whether the one before is over or not; returns when all are healed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            for planned in plan:
                await asyncio.sleep(max(0.0, began + planned.at_s - loop.time()))
                task = asyncio.create_task(self._strike(planned))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            tasks = [*self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _strike(self, planned: Planned) -> None:
        at = now_ns()
        fault = Fault(at=at, kind=planned.kind)
        self.under_way[planned.kind] += 1
        try:
            fault.target, fault.met = await self._blows[planned.kind](self, planned, random.Random(planned.chance))
        except Skipped as why:
            fault.skipped = self.skipped[planned.kind] = str(why)
        except Exception as error:  # noqa: BLE001 what went wrong in doing it is told, and never counts
            fault.skipped = f"it failed: {error!r}"
            self.failures.append(f"{planned.kind}: {error!r}")
        finally:
            self.under_way[planned.kind] -= 1
        fault.until = now_ns()
        self._recorder.fault(fault)
        self.marks.outages.append((at, fault.until, planned.kind))

    # --- what blows share

    def lock(self, what: str) -> asyncio.Lock:
        """One blow at a time to one process."""
        return self._locks.setdefault(what, asyncio.Lock())

    def node(self, dice: random.Random) -> Node:
        """One that somebody is connected to, if there is one: the others are down already."""
        return dice.choice([node for node in self.cluster.nodes if self.clients_of(node)] or self.cluster.nodes)

    def clients_of(self, node: Node) -> list[Phone]:
        return [phone for phone in self.city.phones if phone.live and phone.node == node.worker.number]

    def calls_at(self, node: Node) -> int:
        """Requests of clients and statements of this worker that are under way."""
        return self.city.in_flight(node.worker.number) + node.store_calls

    async def aim(self, calls: Callable[[], int]) -> int:
        """Wait for a moment at which `calls` are under way; how many are."""
        began = time.monotonic()
        while (found := calls()) == 0 and time.monotonic() - began < AIM_WITHIN_S:
            await asyncio.sleep(0.002)
        return found

    def store_calls(self, store: str) -> int:
        return sum(getattr(node, store).in_flight for node in self.cluster.nodes)

    def refused(self, store: str) -> int:
        """Connections to a store that found nobody, so far."""
        return sum(getattr(node, store).refused for node in self.cluster.nodes)


def stricken(recorder: Recorder, marks: Marks) -> Callable[[int, str], Struck]:
    """What the links tell of single statements: each that lost its reply is a fault of its own."""

    def of(number: int, store: str) -> Struck:
        def struck(action: Action, message: bytes) -> None:
            if action == "lie":
                marks.lies += 1
                return
            at = now_ns()
            if store == "postgres":
                marks.doubts.extend((key.decode(), at) for key in _KEY.findall(message))
            kind = "dropped-commit" if store == "postgres" else "dropped-claim"
            recorder.fault(Fault(at=at, until=at, kind=kind, target=f"worker {number}", met=1))

        return struck

    return of
