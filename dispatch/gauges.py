"""Numbers of all slices, gathered every few seconds: hot paths count in plain integers, and this carries the growth to Prometheus."""

from collections.abc import Iterator

from dispatch.api import Api
from dispatch.claims import Claims
from dispatch.gateway import Door
from dispatch.inbox import Inbox
from dispatch.jobs import counted
from dispatch.kit.metrics import Metrics
from dispatch.kit.postgres import Postgres
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery
from dispatch.matching import Matching, Why
from dispatch.notifications import Sender
from dispatch.presence import Presence
from dispatch.tracking import Tracking

LAG_SHOWN_S = 10.0


class Gauges:
    """One per worker."""

    def __init__(
        self,
        metrics: Metrics,
        pg: Postgres,
        redis: Redis,
        door: Door,
        api: Api,
        inbox: Inbox,
        presence: Presence,
        matching: Matching,
        why: Why,
        claims: Claims,
        tracking: Tracking,
        sender: Sender,
        nursery: Nursery,
        *,
        slot: int,
    ) -> None:
        self._pg, self._redis, self._door, self._api, self._inbox = pg, redis, door, api, inbox
        self._why = why
        self._presence, self._matching, self._claims, self._tracking, self._nursery = (
            presence,
            matching,
            claims,
            tracking,
            nursery,
        )
        self._sender = sender
        self._slot = slot
        self._counters = {
            "frames": metrics.counter("frames_in_total", "Socket frames read"),
            "frames_limited": metrics.counter("frames_limited_total", "Socket frames over the rate, dropped unread"),
            "refused": metrics.counter("refused_total", "Socket refusals by code", ["code"]),
            "answers": metrics.counter("http_answers_total", "HTTP answers by route and status", ["route", "status"]),
            "positions": metrics.counter("positions_total", "Fixes taken"),
            "positions_refused": metrics.counter("positions_refused_total", "Fixes refused, by reason", ["why"]),
            "offers": metrics.counter("offers_total", "Offers made"),
            "rounds": metrics.counter("rounds_total", "Rounds made"),
            "lapsed": metrics.counter("offers_lapsed_total", "Offers that lapsed"),
            "unexplained": metrics.counter("rounds_unexplained_total", "Rounds that nobody will be able to explain"),
            "fell_back": metrics.counter("windows_apart_total", "Windows whose jobs were searched for one by one"),
            "accepts": metrics.counter("accepts_total", "Accepts by outcome", ["outcome"]),
            "tracked": metrics.counter("tracked_total", "Positions sent to customers"),
            "repeated": metrics.counter("events_repeated_total", "Events sent again for want of an ack"),
            "caught_up": metrics.counter("events_caught_up_total", "Events that no hint brought"),
            "copies_dropped": metrics.counter("copies_dropped_total", "Facts that never reached their Redis copy"),
            "deliveries": metrics.counter(
                "deliveries_total", "Tries to deliver, by channel and end", ["channel", "end"]
            ),
            "loops_failed": metrics.counter("loops_failed_total", "Failed turns of loops", ["loop"]),
        }
        self._gauges = {
            "sockets": metrics.gauge("sockets", "Open sockets"),
            "providers": metrics.gauge("providers", "Providers with a socket"),
            "tasks": metrics.gauge("tasks", "Work under way that outlives its asker"),
            "pool": metrics.gauge("postgres_connections", "Connections by pool and state", ["pool", "state"]),
            "circuits": metrics.gauge(
                "circuits_shut", "Workers that find this service's circuit not closed", ["service"]
            ),
            "redis": metrics.gauge("redis_reachable", "Workers that reach Redis"),
            # Of the whole database, and so the same in every worker: the largest is as good as any.
            "lag": metrics.gauge(
                "loop_lag_max_seconds", "Longest that a due timer waited for its worker lately", mode="livemax"
            ),
            "waiting": metrics.gauge(
                "socket_waiting_bytes_max", "Most that waits for the reader of one socket", mode="livemax"
            ),
            "jobs": metrics.gauge("jobs", "Jobs by market and status", ["market", "status"], mode="livemax"),
        }
        self._before: dict[tuple[str, tuple[str, ...]], float] = {}
        self._known: set[tuple[str, str]] = set()
        self.loop_failures: dict[str, int] = {}
        self._lag_window_at = self._lag = self._lag_before = 0.0

    def failed(self, loop: str) -> None:
        """A turn of this loop failed."""
        self.loop_failures[loop] = self.loop_failures.get(loop, 0) + 1

    def woke(self, due: float, now: float) -> None:
        """A loop of this worker, some forty times a second with all of them: how late is that? What was worst is shown for 10 s at least, so
        that nobody who looks that often misses it.
        """
        if now - self._lag_window_at >= LAG_SHOWN_S:
            self._lag_before, self._lag, self._lag_window_at = self._lag, 0.0, now
        self._lag = max(self._lag, now - due)

    @property
    def lag_s(self) -> float:
        """The longest that a due timer has waited lately."""
        return max(self._lag, self._lag_before)

    def _numbers(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        yield "frames", (), self._door.frames_in
        yield "frames_limited", (), self._door.frames_limited
        yield "positions", (), self._presence.positions
        yield "offers", (), self._matching.offered
        yield "rounds", (), self._matching.rounds
        yield "lapsed", (), self._matching.lapsed
        yield "unexplained", (), self._why.dropped
        yield "fell_back", (), self._matching.fell_back
        yield "tracked", (), self._tracking.sent
        yield "repeated", (), self._inbox.repeated
        yield "caught_up", (), self._inbox.caught_up
        yield "copies_dropped", (), self._inbox.copier.dropped
        yield from (("refused", (str(code),), n) for code, n in self._door.refused.items())
        yield from (("positions_refused", (str(why),), n) for why, n in self._presence.refused.items())
        yield from (("accepts", (str(outcome),), n) for outcome, n in self._claims.outcomes.items())
        yield from (("answers", (route, str(status)), n) for (route, status), n in self._api.answers.items())
        yield from (("deliveries", ends, n) for ends, n in self._sender.outcomes.items())
        yield from (("loops_failed", (loop,), n) for loop, n in self.loop_failures.items())

    def gather(self) -> None:
        """Carry what has grown since the last time to the counters, and set the gauges of this worker."""
        for name, labels, now in self._numbers():
            grown = now - self._before.get((name, labels), 0)
            if grown > 0:
                self._counters[name].add(*labels, by=grown)
                self._before[(name, labels)] = now
        self._gauges["lag"].set(to=self.lag_s)
        self._gauges["waiting"].set(to=self._door.waiting_bytes_max)
        self._gauges["sockets"].set(to=len(self._door))
        self._gauges["providers"].set(to=len(self._presence))
        self._gauges["tasks"].set(to=len(self._nursery))
        self._gauges["redis"].set(to=1 if self._redis.reachable else 0)
        shut: dict[str, int] = {}
        for name, state in self._sender.circuits().items():
            service = name.partition(" ")[0]  # a browser's push service has its host behind it, which is no label
            shut[service] = shut.get(service, 0) + (state != "closed")
        for service, n in shut.items():
            self._gauges["circuits"].set(service, to=n)
        for pool, size, idle in self._pg.idle():
            self._gauges["pool"].set(pool, "idle", to=idle)
            self._gauges["pool"].set(pool, "busy", to=size - idle)

    async def count_jobs(self) -> None:
        """Jobs by market and status: one query, from one worker."""
        if self._slot != 0:
            return
        async with self._pg.system() as conn:
            found = await counted(conn)
        for key in self._known - found.keys():
            self._gauges["jobs"].set(*key, to=0)
        for key, n in found.items():
            self._gauges["jobs"].set(*key, to=n)
        self._known |= found.keys()
