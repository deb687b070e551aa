"""One worker of the shipped modules on the models' doors: wired as `dispatch.app` wires it, with its own loops.

Models here: tokens and tickets (they are judged elsewhere), the HTTP upgrade, and a payroll that books nothing: money is judged
on real processes.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson
import structlog

from bench.simulation.chance import START_S
from bench.simulation.hurry import RedisModel
from bench.simulation.judge import PostgresModel
from bench.simulation.loop import Owner
from bench.simulation.surroundings import Surroundings
from bench.simulation.wire import Line
from dispatch.accounts import Accounts, Answer, Idempotency, fingerprint_of
from dispatch.accounts import Claims as TokenClaims
from dispatch.admin import Admin
from dispatch.claims import Claims
from dispatch.duties import duties
from dispatch.gateway import Door
from dispatch.greeter import Greeter
from dispatch.inbox import Inbox
from dispatch.jobs import Completed, Jobs
from dispatch.kit.errors import DispatchError, Overloaded
from dispatch.kit.ids import new_word
from dispatch.kit.postgres import LOST, STUCK, Actor, Postgres, Tx
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery
from dispatch.markets import Markets
from dispatch.matching import Matching, Shifts
from dispatch.presence import Presence
from dispatch.providers import Providers
from dispatch.tracking import Tracking
from protocol.lifecycle import AdminAction, ServiceType
from protocol.resources import JobRequest, Place

log = structlog.get_logger("simulation")

CENTRE = (13.75, 100.5)
MARKET = "bkk"
GONE_AFTER_S = 7.0
LOOPS = frozenset(
    [
        "copier",
        "hand_over",
        "positions",
        "gate_refresher",
        "offer_expirer",
        "job_waker",
        "reconciler",
        "event_relay",
        "unacked_repusher",
        "ack_writer",
        "socket_poller",
        "socket_revoker",
        "socket_sweeper",
        "lost_noter",
        "presence_sweeper",
        "redis_watcher",
        "redis_rebuilder",
        "canary",
        "silence_sweeper",
        "beat",
        "undertaker",
    ]
)
"""The duties that belong to the protocol core."""
LEFT_OUT = frozenset(
    {
        "fix_hand_over", "fix_canary", "round_noter", "tracker", "trail_flusher", "job_teller", "offer_nudger", "key_refresher", "gauges",
        "job_counter", "gate_judge", "delivery_rescuer", "payout_rescuer", "paper_sweeper", "deferred_suspender", "performance", "forgetter",
    }
)  # fmt: skip
"""Tracking, issuers' keys, books, papers, messages, pushes, gauges and old age: they have their own tests."""


@cache
def markets(policy: str = "waves", redispatch: bool = True) -> Markets:
    """One city whose rounds are short, so that much happens in little virtual time."""
    return Markets.load(
        {
            MARKET: {
                "policy": policy,
                "wave_size": 5,
                "offer_ttl_s": 4,
                "offers_at_once": 1 if policy == "nearest" else 3,
                "research_s": 1.5,
                "lapse_cooldown_s": 2,
                "job_ttl_s": 3600,
                "redispatch": redispatch,
                "radius_first_m": 5000,
            }
        }
    )


class WorkerClock:
    """A worker's clocks: the wall may be off and jump, the steady one runs."""

    def __init__(self, around: Surroundings, name: str) -> None:
        self._around = around
        self._name = name

    def now(self) -> datetime:
        return datetime.fromtimestamp(START_S + self._around.loop.time() + self._around.skews.get(self._name, 0.0), UTC)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def monotonic(self) -> float:
        return self._around.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class NoPay:
    """A payroll that books nothing."""

    async def pay(self, tx: Tx, done: Completed) -> Sequence[tuple[UUID, str, bytes]]:
        return ()


class NoNotices:
    """Messages of other channels than the socket are not part of this world."""

    async def write(self, tx: Tx, notices: Sequence[Any]) -> list[tuple[UUID, str, bytes]]:
        return []


_ACCESS = SimpleNamespace(
    jwt_secrets=(), issuers=(), link_key=b"", email_link_template="", password_link_template="", access_ttl_s=0, refresh_ttl_days=0,
    attempts_per_user=0, attempts_per_address=0, attempts_window_s=0, sends_per_user=0, sends_per_address=0, sends_window_s=0,
)  # fmt: skip
"""Nobody signs in here: people come with their claims."""


class _Absent:
    """A part of the server that this world has not. Its loops are not run; asking it for one is how the list of duties is made."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **given: Any) -> Any:
        return None


class Worker:
    """One process. `start` runs its loops; `kill` ends it at whatever await it stands."""

    def __init__(
        self, around: Surroundings, postgres: PostgresModel, redis: RedisModel, number: int, city: Markets
    ) -> None:
        self.around = around
        self.number = number
        self.owner = Owner(f"w{number}")
        self.name = self.owner.name
        self._models = (postgres, redis)
        self._city = city
        self.lines: dict[Line, None] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self.ready = False
        self.inbox: Inbox
        self.door: Door
        self.claims: Claims
        self.jobs: Jobs
        self.admin: Admin
        self.owner.context.run(self._build)

    def _build(self) -> None:
        around, (postgres, redis_model) = self.around, self._models
        self.clock = clock = WorkerClock(around, self.name)
        app, system, reserved = postgres.pools(self.name)
        pg = Postgres(cast("Any", app), cast("Any", system), cast("Any", reserved))
        plain = redis_model.client(self.name, retries=1, timeout_s=1.0)
        once = redis_model.client(self.name, retries=0, timeout_s=0.5)
        self.redis = redis = Redis(cast("Any", plain), cast("Any", once), "model:")
        nursery = self.nursery = Nursery()
        places = self._city
        self.idempotency = idempotency = Idempotency(pg)
        self.accounts = Accounts(cast("Any", _ACCESS), pg, redis, clock)
        notices, nobody = cast("Any", NoNotices()), cast("Any", None)
        self.inbox = inbox = Inbox(
            pg,
            redis,
            clock,
            nursery,
            worker_id=f"{self.number}-{new_word()}",
            state_of=lambda user_id: matching.state_of(user_id),
        )
        self.providers = providers = Providers(pg, inbox, nobody, notices, idempotency)
        presence = Presence(redis, places, clock, fresh_s=30.0)
        tracking = Tracking(pg, redis, places, clock, nursery, every_s=5.0, stale_after_s=15.0)
        self.jobs = jobs = Jobs(pg, inbox, places, idempotency, trails=tracking, payroll=NoPay())
        self.matching = matching = Matching(pg, inbox, presence, providers, places, idempotency, nursery, clock)
        shifts = Shifts(pg, inbox, presence, matching, idempotency)
        self.claims = claims = Claims(
            pg, redis, inbox, presence, providers, matching, places, nursery, clock, filter=True
        )
        self.admin = Admin(inbox, matching, notices, idempotency)
        jobs.on_search.append(matching.search)
        presence.on_move(tracking.move)
        presence.on_free(matching.freed)
        inbox.on_fact(presence.hear)
        inbox.on_fact(tracking.hear)
        greeter = Greeter(self.accounts, inbox, presence, providers, tracking, nursery)
        inbox.on_fact(greeter.registered)
        settings = cast("Any", SimpleNamespace(tick_s=0.25, gone_after_s=GONE_AFTER_S, allowed_origins=()))
        rules = greeter.rules(settings, jobs, matching, shifts, claims)
        rules.by_ticket = lambda ticket, address: greeter._identity(self._claims(UUID(ticket)), address)
        self.door = Door(rules, clock, nursery, handshake_rate=1000)
        greeter.door = self.door
        absent = _Absent()
        parts = {
            name: absent
            for name in (
                [
                    "documents",
                    "why",
                    "teller",
                    "nudges",
                    "sender",
                    "payouts",
                    "consumer",
                    "expiry",
                    "aggregates",
                    "api",
                    "health",
                    "gauges",
                    "tracking",
                ]
            )
        }
        self._app = SimpleNamespace(
            **parts,
            settings=settings, clock=clock, pg=pg, redis=redis, nursery=nursery, inbox=inbox, presence=presence,
            providers=providers, jobs=jobs, matching=matching, shifts=shifts, claims=claims, admin=self.admin, door=self.door,
            accounts=self.accounts, lost=greeter.lost,
        )  # fmt: skip

    def run(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run something as this process."""
        task = self.around.loop.create_task(work, name=name, context=self.owner.context.copy())
        self._tasks.append(task)
        return task

    def start(self) -> None:
        self.run(self._start(), "start")

    async def _start(self) -> None:
        while True:
            try:
                await self.inbox.beat()
                break
            except (*LOST, *STUCK, Overloaded):
                await asyncio.sleep(0.5)  # a process that cannot start is started again
        await self.redis.watch()
        for name, duty in duties(cast("Any", self._app)):
            if name in LOOPS:
                self.run(duty, name)
            else:
                duty.close()
        self.ready = True

    # --- doors

    def _claims(self, user_id: UUID) -> TokenClaims:
        """What a good token of this user says."""
        return TokenClaims(user_id, frozenset({"customer"}), self.clock.now() + timedelta(days=1))

    async def serve(self, line: Line, user_id: UUID) -> None:
        """A socket after its upgrade: as `Door.handle` goes on from there."""
        conn = self.door.enter(cast("Any", line.transport), "")
        try:
            # A ticket here is the name of who bought it: whether he may come in is for the shipped door to ask.
            identity = await self.door._redeem(conn, str(user_id), "")
            if identity is not None:
                self.door.identify(conn, identity)
            await self.door._read(cast("Any", line.ws), conn)
        finally:
            self.door.leave(conn)
            line.transport.closed = True
            line.reset()

    async def http(self, user_id: UUID, what: str, body: Any, key: str) -> tuple[str, bytes]:
        """One request past the HTTP door: (word, body)."""
        admin = Actor(user_id, frozenset({"admin"}), "en")
        try:
            if what in ("block", "unblock"):
                return await self._shut(admin, body, what == "block", key)
            office = what in ("release", "suspend", "reinstate")
            actor = admin if office else await self.accounts.actor(self._claims(user_id))
            match what:
                case "create":
                    pickup = Place(body[0], body[1], "Rama I Road")
                    answer = await self.jobs.create(actor, JobRequest(ServiceType.RIDE, pickup), key)
                case "cancel":
                    answer = await self.jobs.cancel(actor, body, None, key)
                case "release":
                    answer = await self.jobs.release(actor, body, "asked for", key)
                case "suspend" | "reinstate":
                    action = AdminAction.SUSPEND if what == "suspend" else AdminAction.REACTIVATE
                    answer = await self.admin.act(actor, body, action, "because", key)
                case "accept":
                    job_id, offer_id, round = body
                    won = await self.claims.accept(actor, job_id, offer_id, round, key)
                    return "ok", b'{"job":' + won.job + b"}"
                case _:
                    raise ValueError(what)
            return "ok", answer.body
        except DispatchError as error:
            return _word_of(error), orjson.dumps(error.details)
        except (*STUCK, *LOST):
            return "OVERLOADED", b""
        except Exception as error:
            log.error("request failed", what=what, error=repr(error), exc_info=error)
            return "INTERNAL_ERROR", b""

    async def _shut(self, admin: Actor, user_id: UUID, blocked: bool, key: str) -> tuple[str, bytes]:
        """What `Office.block` does, without its view. With the key, or a first try that was held up would shut him out once more."""
        async with self.idempotency.once(
            admin, key, fingerprint_of("block", {"user_id": user_id, "blocked": blocked})
        ) as turn:
            if turn.replay is None:
                await self.accounts.blocked_set(turn.tx, user_id, blocked, "because")
                turn.keep(Answer(b"{}"))
        self.accounts.forget([user_id])
        return "ok", b"{}"

    # --- ends

    def drain(self) -> None:
        """SIGTERM: ask everybody to come back elsewhere, take no newcomers, sign off. The process ends a moment later."""
        self.run(self._drain(), "drain")

    async def _drain(self) -> None:
        await self.door.drain(0.5)
        await asyncio.sleep(1.0)
        try:
            await self.inbox.sign_off()
        except (*LOST, *STUCK, Overloaded):
            log.debug("not signed off; the undertaker finds it")

    def kill(self) -> int:
        """SIGKILL. Returns how many calls and connections it met."""
        postgres, _ = self._models
        self.owner.dead = True
        self.around.dead.add(self.name)
        met = postgres.bereaved(self.name) + len(self.lines)
        for line in tuple(self.lines):
            line.reset()
        self.lines.clear()
        return met

    @property
    def busy(self) -> int:
        """What is under way here: connections and calls."""
        return len(self.lines) + len(self.nursery)


def _word_of(error: DispatchError) -> str:
    status = error.details.get("status")
    return str(status) if error.code == "JOB_NOT_AVAILABLE" and status else str(error.code)


__all__ = ["CENTRE", "MARKET", "Worker", "markets"]
