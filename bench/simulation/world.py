"""One world of a seed: stores, workers, people, nemesis; its history, judged."""

import asyncio
import gc
import random
import sys
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from bench.faults.checkers import Looked, Violation, judge
from bench.faults.history import History, Op, Told
from bench.simulation import reading
from bench.simulation.chance import START_S, RealSource, sealed
from bench.simulation.hurry import RedisModel
from bench.simulation.judge import PostgresModel, providers
from bench.simulation.loop import VirtualLoop
from bench.simulation.nemesis import Nemesis
from bench.simulation.people import TEMPERS, Customer, Provider
from bench.simulation.phone import Asking, Phone
from bench.simulation.surroundings import Surroundings
from bench.simulation.worker import CENTRE, LOOPS, Worker, markets
from dispatch.kit.errors import DispatchError
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import LOST, STUCK
from dispatch.kit.redis import DOWN

_WEATHER = (*LOST, *STUCK, *DOWN, DispatchError)


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a world is and how rough. Drawn from the seed unless given."""

    workers: int
    providers: int
    customers: int
    jobs: int
    faults: int
    turmoil_s: float
    rest_s: float = 45.0
    cancels: float = 0.1
    suspensions: int = 0
    blocks: int = 0
    """Users who are shut out for a while."""
    policy: str = "waves"
    redispatch: bool = True
    spares: int = 0
    """Second devices: of a provider, whom only one may serve at a time, and of a customer."""

    @classmethod
    def drawn(cls, chance: random.Random) -> "Shape":
        long = chance.random() < 0.06
        return cls(
            workers=chance.choice((2, 2, 3)),
            providers=chance.randint(6, 9),
            customers=chance.randint(2, 4),
            jobs=chance.randint(9, 14) * (2 if long else 1),
            faults=chance.randint(4, 12) * (3 if long else 1),
            turmoil_s=chance.uniform(30, 50) if long else chance.uniform(9, 15),
            suspensions=chance.choice((0, 1, 1, 2)),
            blocks=int(chance.random() < 0.4),
            policy=chance.choice(("waves", "waves", "waves", "broadcast", "nearest")),
            redispatch=chance.random() < 0.7,
            spares=int(chance.random() < 0.25),
        )


@dataclass(slots=True)
class Outcome:
    """What one seed came to."""

    seed: int
    history: History
    violations: list[Violation]
    trace_hash: str
    steps: int
    virtual_s: float
    story: list[tuple[float, str, str, str]] = field(default_factory=list)
    looked: Looked = field(default_factory=Counter)
    """How often the checkers had something to judge, by their names for it."""

    @property
    def faults_by_kind(self) -> dict[str, int]:
        """How many of each kind met somebody."""
        return dict(Counter(fault.kind for fault in self.history.faults if fault.met > 0))


class World:
    """Everything of one seed."""

    def __init__(
        self, around: Surroundings, shape: Shape, postgres: type[PostgresModel], redis: type[RedisModel]
    ) -> None:
        self.around = around
        self.shape = shape
        self.chance = around.chance
        self.postgres = postgres(around)
        self.redis = redis(around)
        self.workers: dict[str, Worker] = {}
        self.phones: list[Phone] = []
        self.spares: list[Phone] = []
        self.providers: list[Provider] = []
        self.customers: list[Customer] = []
        self.ops: list[Op] = []
        self.told: list[Told] = []
        self.complaints: list[str] = []
        self.healing = False
        self.barred = 0
        self.unanswered: list[str] = []
        """Requests that stood undecided when all had had its time to rest."""
        """Suspensions and blocks that the office has not taken back yet: nobody goes home before."""
        self.office = Phone(self, new_id(), "office")

    # --- what others ask of it

    def some_worker(self) -> Worker | None:
        living = [worker for worker in self.workers.values() if not worker.owner.dead]
        return self.chance.choice(living) if living else None

    def somewhere(self) -> tuple[float, float]:
        """A place within a kilometre or two of the centre."""
        return CENTRE[0] + self.chance.uniform(-0.012, 0.012), CENTRE[1] + self.chance.uniform(-0.012, 0.012)

    def http(self, phone: Phone, asking: Asking, tries: int) -> None:
        """One HTTP request to any worker: its answer may come, late or never."""
        self.around.loop.after(0.01 + self.chance.random() * 0.03, self._http, phone, asking, tries)

    def _http(self, phone: Phone, asking: Asking, tries: int) -> None:
        worker = self.some_worker()
        assert asking.http is not None
        if worker is None or not worker.ready:
            self._back(phone, asking, tries, ("OVERLOADED", b""))
            return
        work = worker.http(phone.user, *asking.http, asking.op.key)
        task = worker.run(work, f"http {asking.op.kind}")
        task.add_done_callback(lambda done: self._answered(phone, asking, tries, done), context=self.around.loop.world)

    def _answered(self, phone: Phone, asking: Asking, tries: int, done: "asyncio.Task[Any]") -> None:
        if not done.cancelled() and done.exception() is None:
            self.around.loop.after(0.01 + self.chance.random() * 0.03, self._back, phone, asking, tries, done.result())

    def _back(self, phone: Phone, asking: Asking, tries: int, said: tuple[str, bytes]) -> None:
        phone.answered_http(asking, tries, *said)

    def kill(self, worker: Worker) -> int:
        """A worker dies, and a moment later another process takes its place."""
        met = worker.kill()
        self.around.loop.after(0.3 + self.chance.random() * 2, self.hire)
        return met

    def hire(self) -> None:
        city = markets(self.shape.policy, self.shape.redispatch)
        worker = Worker(self.around, self.postgres, self.redis, len(self.workers) + 1, city)
        self.workers[worker.name] = worker
        worker.start()

    def complain(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """What the server logs as an error: weather, or a bug of its own."""
        error = event.get("exc_info")
        if error is True:
            error = sys.exc_info()[1]
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, _WEATHER):
            self.complaints.append(f"{event.get('event')}: {event.get('error') or error!r} {event}")
        raise structlog.DropEvent

    # --- its course

    def people(self) -> None:
        """Users, providers and their gates, as an earlier day left them."""
        rows, shape = self.postgres.tables.rows, self.shape
        now = self.postgres.clock()
        rows["history"][True] = {"epoch": "simulated"}
        for number in range(shape.providers):
            user, provider = new_id(), new_id()
            rows["users"][user] = {"first_name": f"P{number}", "last_name": "Seeded", "phone_number": f"+66{number}"}
            row = {
                "id": provider, "user_id": user, "provider_uid": f"PRV-{number}", "status": "approved", "first_name": f"P{number}",
                "last_name": "Seeded", "email": f"p{number}@test.invalid", "phone_number": f"+66{number}", "service_types": ["ride"],
                "service_radius_m": 10_000, "rating": None, "created_at": now, "approved_at": now, "suspended_at": None,
                "suspension_cause": None, "suspension_reason": None, "rejection_reason": None, "last_lat": None, "last_lng": None,
                "located_at": None, "updated_at": now,
            }  # fmt: skip
            rows["providers"][provider] = row
            rows["provider_gate"][provider] = providers.gate_of(row, ["ride"], now)
            temper = TEMPERS[number % len(TEMPERS)]
            self.providers.append(Provider(self, user, provider, f"p{number}", temper))
        for number in range(shape.customers):
            user = new_id()
            rows["users"][user] = {"first_name": f"C{number}", "last_name": None, "phone_number": f"+67{number}"}
            self.customers.append(Customer(self, user, f"c{number}"))
        self.phones = [*self.providers, *self.customers]
        for _ in range(shape.spares):
            worked, rider = self.chance.choice(self.providers), self.chance.choice(self.customers)
            twin = Provider(self, worked.user, worked.provider, f"{worked.device}b", "eager")
            self.spares += [twin, Customer(self, rider.user, f"{rider.device}b")]

    async def run(self) -> None:
        """Turmoil, healing, rest."""
        loop, chance, shape = self.around.loop, self.chance, self.shape
        self.people()
        for _ in range(shape.workers):
            self.hire()
        for phone in self.phones:
            loop.after(0.3 + chance.random() * 0.7, phone.connect)
            loop.after(5.0 + chance.random(), phone.look)
        for phone in self.spares:
            loop.after(3.0 + chance.random() * (shape.turmoil_s - 4), phone.connect)
        for provider in self.providers:
            loop.after(2.0 + chance.random() * 5, provider.walk)
        for _ in range(shape.jobs):
            loop.after(1.5 + chance.random() * (shape.turmoil_s - 3), chance.choice(self.customers).want)
        for _ in range(shape.suspensions):
            loop.after(2 + chance.random() * (shape.turmoil_s - 4), self.suspend, chance.choice(self.providers))
        for _ in range(shape.blocks):
            loop.after(2 + chance.random() * (shape.turmoil_s - 4), self.block, chance.choice(self.phones))
        for _ in range(int(shape.providers * shape.turmoil_s / 300) + 1):
            loop.after(3 + chance.random() * (shape.turmoil_s - 3), chance.choice(self.providers).switch_off)
        loop.after(4 + chance.random() * (shape.turmoil_s - 4), self.release)
        nemesis = Nemesis(self)
        nemesis.plan(shape.faults, shape.turmoil_s)
        await asyncio.sleep(shape.turmoil_s)
        self.healing = True
        for phone in self.spares:
            phone.retire()
        nemesis.heal()
        self.around.note("nemesis", "all", "healed")
        rested_at = loop.time() + shape.rest_s
        while loop.time() < rested_at:
            await asyncio.sleep(0.5)
            if self.calm():
                break
        self.unanswered = reading.unanswered(self)
        for phone in (*self.phones, *self.spares, self.office):
            phone.give_up()

    def suspend(self, provider: Provider) -> None:
        """The office suspends somebody, and takes it back later."""
        self._bar("suspend", "reinstate", str(provider.user), provider.provider)

    def block(self, phone: Phone) -> None:
        """The office shuts a user out, and lets him in again later."""
        self._bar("block", "unblock", str(phone.user), phone.user)

    def _bar(self, begin: Any, end: Any, target: str, whom: UUID) -> None:
        """As often as not for so long that what he was told and refused meanwhile can be judged."""
        chance = self.chance
        long_s = chance.uniform(2, 7) if chance.random() < 0.5 else chance.uniform(8, 16)
        self.barred += 1
        self._office(begin, target, whom, lambda op, data: self.around.loop.after(long_s, back))

        def back() -> None:
            self._office(end, target, whom, let_in)

        def let_in(op: Op, data: Any) -> None:
            self.barred -= 1

    def _office(self, kind: Any, target: str, whom: UUID, then: Any) -> None:
        op = Op(
            at=self.around.now_ns, client="office", user=str(self.office.user), kind=kind, key=str(new_id()),
            body=f"{kind} {whom}", target=target,
        )  # fmt: skip
        self.office.ask(op, then, http=(kind, whom))

    def release(self) -> None:
        """The office takes a job back from its provider."""
        held = [job for job in self.postgres.tables.rows["jobs"].values() if job["status"] in ("accepted", "arrived")]
        if not held or self.healing:
            return
        job = self.chance.choice(held)["id"]
        # No kind of the record: what it does to the job is in the job's history.
        op = Op(
            at=self.around.now_ns,
            client="office",
            user=str(self.office.user),
            kind="withdraw",
            key=str(new_id()),
            job=str(job),
        )
        self.office.ask(op, _heard, http=("release", job))

    def calm(self) -> bool:
        """Nothing is under way any more, and everybody knows all there is to know."""
        if self.barred or self.office.asking or any(phone.asking for phone in self.phones):
            return False
        tables = self.postgres.tables.rows
        if any(job["status"] not in ("completed", "cancelled") for job in tables["jobs"].values()):
            return False
        if any(offer["status"] == "live" for offer in tables["offers"].values()):
            return False
        return all(
            phone.session.live and phone.session.seq == reading.head_of(self, phone.user) for phone in self.phones
        )

    def ended_loops(self) -> list[str]:
        """Loops of living workers that have ended: each is a bug."""
        return [
            f"{worker.name}: the loop {task.get_name()} ended: {task!r}"
            for worker in self.workers.values()
            if not worker.owner.dead
            for task in worker._tasks
            if task.get_name() in LOOPS and task.done()
        ]


def _heard(op: Op, data: Any) -> None:
    """The record is all that is wanted."""


def run_seed(
    seed: int,
    *,
    postgres: type[PostgresModel] = PostgresModel,
    redis: type[RedisModel] = RedisModel,
    shape: Shape | None = None,
    story: bool = False,
) -> Outcome:
    """Run one seed and judge it. A mutant is a subclass of a model, or shipped code that the caller has patched.

    `shape`: how large and how rough; drawn from the seed unless given. `story`: keep every step, to be read.
    Raises what a model raises that cannot go on: an unknown statement or command, a real clock asked.
    """
    chance = random.Random(seed)
    shape = shape or Shape.drawn(chance)
    loop = VirtualLoop()
    around = Surroundings(loop, chance, story=story)
    logging = structlog.get_config()
    gc_was_on = gc.isenabled()
    gc.disable()
    try:
        with sealed(chance, lambda: START_S + around.wall_s(), loop.time) as heard:
            world = World(around, shape, postgres, redis)
            structlog.configure(
                processors=[world.complain],
                wrapper_class=structlog.make_filtering_bound_logger("error"),
                cache_logger_on_first_use=False,
            )
            try:
                _run(loop, around, world)
                if heard:
                    raise RealSource(f"real sources were asked: {sorted(set(heard))}")
                history = reading.history_of(world)
                complaints = [*world.complaints, *loop.failures, *world.ended_loops()]
                trace_hash, virtual_s, steps = around.trace_hash, loop.time(), loop.steps
                told, around.story = around.story or [], None
            finally:
                _tear_down(world)
    finally:
        structlog.configure(**logging)
        asyncio.set_event_loop(None)
        loop.close()
        if gc_was_on:
            gc.enable()
    looked: Looked = Counter()
    violations = judge(history, looked) + [Violation("errors", text) for text in complaints]
    return Outcome(seed, history, violations, trace_hash, steps, virtual_s, told, looked)


def _run(loop: VirtualLoop, around: Surroundings, world: World) -> None:
    main = loop.create_task(world.run())
    try:
        loop.run_until_complete(main)
    except RuntimeError:
        if around.fatal is None:
            raise
    if around.fatal is not None:
        raise around.fatal


def _tear_down(world: World) -> None:
    """End what still runs, on dead workers too: nobody looks any more."""
    loop = world.around.loop
    world.postgres.crash()
    world.redis.crash(empty=True)
    for _ in range(3):
        tasks = asyncio.all_tasks(loop)
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        for worker in world.workers.values():
            worker.owner.dead = False
            loop.thaw(worker.owner)
        loop.run_until_complete(_ended(tasks))
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]


async def _ended(tasks: "set[asyncio.Task[Any]]") -> None:
    await asyncio.wait(tasks, timeout=10)
