"""Who breaks things: a plan of faults drawn from the seed, and how each is begun, ended and healed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.faults.history import Fault
from bench.simulation.judge import Session

if TYPE_CHECKING:
    from bench.simulation.worker import Worker
    from bench.simulation.world import World

STRETCHES: dict[str, tuple[float, float]] = {
    "postgres_slow": (1.0, 4.0),
    "postgres_line_lost": (1.0, 4.0),
    "postgres_reply_lost": (1.0, 4.0),
    "postgres_half_open": (0.5, 2.0),
    "postgres_stall": (0.5, 2.0),
    "postgres_down": (0.5, 5.0),
    "redis_slow": (1.0, 5.0),
    "redis_line_lost": (1.0, 5.0),
    "redis_reply_lost": (1.0, 5.0),
    "redis_hang": (1.0, 4.0),
    "redis_lies": (2.0, 8.0),
    "redis_down": (0.5, 6.0),
    "redis_failover": (0.3, 2.0),
    "pubsub_lost": (2.0, 8.0),
    "pubsub_disorder": (2.0, 8.0),
    "pubsub_deaf": (2.0, 10.0),
    "row_held": (1.0, 10.0),
    "worker_clock": (2.0, 15.0),
    "worker_freeze": (1.0, 15.0),
    "phone_slow": (1.0, 5.0),
    "phone_half_open": (1.0, 5.0),
    "phone_stalled": (1.0, 6.0),
    "redis_clock": (2.0, 10.0),
    "crash_at_commit": (1.0, 5.0),
    "freeze_at_commit": (1.0, 5.0),
}
"""Faults with a length: the shortest and the longest, s."""

MOMENTS = (
    "postgres_terminated",
    "redis_flushed",
    "functions_lost",
    "redis_stale",
    "worker_crash",
    "worker_restart",
    "phone_cut",
    "phone_cut",
    "phone_storm",
)
KINDS = tuple(sorted({*STRETCHES, *MOMENTS}))


class Nemesis:
    """One per world. It counts a fault's effect, or the models do."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.around = world.around
        self.chance = world.around.chance
        self._backup = world.redis.data.kept()
        self._lifting: dict[int, Callable[[], None]] = {}
        self._under_way: list[Fault] = []
        self.around.strike = self._at_commit

    def plan(self, count: int, within_s: float) -> None:
        """Set the times of so many faults."""
        kinds = [*STRETCHES, *MOMENTS]
        for _ in range(count):
            self.around.loop.after(
                0.5 + self.chance.random() * (within_s - 0.5), self.strike, self.chance.choice(kinds)
            )
        self.around.loop.after(within_s * 0.3, self._keep)

    def _keep(self) -> None:
        self._backup = self.world.redis.data.kept()

    def strike(self, kind: str) -> None:
        """Begin a fault now."""
        if self.world.healing:
            return
        fault = self.around.weather.begin(self.around.now_ns, kind)
        lift = getattr(self, f"_{kind}", _only_weather)(fault)
        self.around.note("nemesis", kind, fault.target)
        if kind in STRETCHES:
            low, high = STRETCHES[kind]
            self._under_way.append(fault)
            if lift is not None:
                self._lifting[id(fault)] = lift
            self.around.loop.after(low + self.chance.random() * (high - low), self.lift, fault)
        else:
            self.around.weather.end(fault, self.around.now_ns)

    def lift(self, fault: Fault) -> None:
        if fault not in self._under_way:
            return
        self._under_way = [one for one in self._under_way if one is not fault]
        self.around.weather.end(fault, self.around.now_ns)
        self.around.note("nemesis", fault.kind, "over")
        lift = self._lifting.pop(id(fault), None)
        if lift is not None:
            lift()

    def heal(self) -> None:
        """Everything that is under way ends now."""
        for fault in tuple(self._under_way):
            self.lift(fault)
        for worker in self.world.workers.values():
            self._thaw(worker)

    # --- one by one

    def _postgres_down(self, fault: Fault) -> Callable[[], None]:
        fault.met += self.world.postgres.crash()
        return self._postgres_up

    def _postgres_up(self) -> None:
        self.world.postgres.up = self.around.weather.on("postgres_down") is None

    def _postgres_terminated(self, fault: Fault) -> None:
        fault.met += self.world.postgres.terminate()

    def _row_held(self, fault: Fault) -> Callable[[], None]:
        """Somebody outside holds the row of a job, a gate or a head."""
        tables = self.world.postgres.tables
        table = self.chance.choice(("jobs", "provider_gate", "inbox_head"))
        keys = list(tables.rows[table])
        session = Session(tables, "system")
        if keys:
            session.lock(table, self.chance.choice(keys), skip=True)
        return lambda: self.world.postgres._over(session, commit=False)

    def _redis_down(self, fault: Fault) -> Callable[[], None]:
        fault.met += self.world.redis.crash(empty=False)
        return self._redis_up

    def _redis_failover(self, fault: Fault) -> Callable[[], None]:
        fault.met += self.world.redis.crash(empty=True)
        return self._redis_up

    def _redis_up(self) -> None:
        weather = self.around.weather
        self.world.redis.up = weather.on("redis_down") is None and weather.on("redis_failover") is None

    def _redis_flushed(self, fault: Fault) -> None:
        fault.met += self.world.redis.flush()

    def _redis_stale(self, fault: Fault) -> None:
        """A restart on an old backup: what was written since is gone, what was deleted is back."""
        old, now = self._backup[0], self.world.redis.data.keys
        fault.met += sum(old.get(key) != now.get(key) for key in {*old, *now})
        self.world.redis.data.restore(self._backup)

    def _functions_lost(self, fault: Fault) -> None:
        # It has no length: who finds them gone, met it.
        self.world.redis.unloaded_by = fault
        self.world.redis.loaded.clear()

    def _redis_clock(self, fault: Fault) -> Callable[[], None]:
        redis = self.world.redis
        redis.clock_skew_s = self.chance.uniform(-3600, 3600)
        fault.met += len(redis.data.lapse_ms)

        def right() -> None:
            redis.clock_skew_s = 0.0

        return right

    def _pubsub_deaf(self, fault: Fault) -> None:
        if (worker := self.world.some_worker()) is not None:
            fault.target = worker.name

    def _worker_clock(self, fault: Fault) -> Callable[[], None]:
        worker = self.world.some_worker()
        if worker is None:
            return _nothing
        fault.target = worker.name
        fault.met += worker.busy
        self.around.skews[worker.name] = self.chance.choice((-3600.0, 3600.0, self.chance.uniform(-5, 5), -40.0, 40.0))
        return lambda: self.around.skews.update({worker.name: 0.0})

    def _worker_freeze(self, fault: Fault) -> Callable[[], None]:
        worker = self.world.some_worker()
        if worker is None or worker.owner.frozen:
            return _nothing
        fault.target = worker.name
        fault.met += worker.busy
        worker.owner.frozen = True

        return lambda: self._thaw(worker)

    def _worker_crash(self, fault: Fault) -> None:
        worker = self.world.some_worker()
        if worker is not None:
            fault.target = worker.name
            fault.met += self.world.kill(worker)

    def _at_commit(self, kind: str, name: str) -> None:
        """Postgres has just committed for this worker, which does not know it yet."""
        worker = self.world.workers[name]
        if kind == "crash_at_commit":
            self.world.kill(worker)
        elif not worker.owner.frozen:
            worker.owner.frozen = True
            self.around.loop.after(0.3 + self.chance.random() * 4, self._thaw, worker)

    def _thaw(self, worker: "Worker") -> None:
        if worker.owner.frozen and not worker.owner.dead:
            self.around.loop.thaw(worker.owner)

    def _worker_restart(self, fault: Fault) -> None:
        """In order: drained, then gone, and another comes."""
        worker = self.world.some_worker()
        if worker is not None and not worker.door.draining:
            fault.target = worker.name
            fault.met += worker.busy
            worker.drain()
            self.around.loop.after(2.0, self._gone, worker)

    def _gone(self, worker: "Worker") -> None:
        if not worker.owner.dead:
            self.world.kill(worker)

    def _phone(self, fault: Fault) -> Any:
        phones = [phone for phone in self.world.phones if phone.line is not None]
        if not phones:
            return None
        phone = self.chance.choice(phones)
        fault.target = phone.device
        return phone.line

    def _phone_cut(self, fault: Fault) -> None:
        if (line := self._phone(fault)) is not None:
            fault.met += 1
            line.reset()

    def _phone_storm(self, fault: Fault) -> None:
        for phone in self.world.phones:
            if phone.line is not None and self.chance.random() < 0.6:
                fault.met += 1
                phone.line.reset()

    def _phone_half_open(self, fault: Fault) -> Callable[[], None]:
        line = self._phone(fault)
        if line is None:
            return _nothing
        line.half_open = True
        # What was swallowed is gone: no TCP carries on after it.
        return lambda: line.reset()

    def _phone_stalled(self, fault: Fault) -> Callable[[], None]:
        """Its owner's phone reads, but seconds late."""
        line = self._phone(fault)
        if line is None:
            return _nothing
        fault.met += 1
        line.slow = True

        def quick() -> None:
            line.slow = False

        return quick


def _only_weather(fault: Fault) -> None:
    """The models look at the weather themselves."""


def _nothing() -> None:
    """There was nobody to hit."""
