"""The wiring, and nothing else: opens the stores, builds the services by constructor, hands the doors their handlers."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import structlog
from aiohttp import web

from dispatch import __version__
from dispatch.accounts import Accounts, Idempotency
from dispatch.accounts import Claims as TokenClaims
from dispatch.accounts import routes as accounts_routes
from dispatch.admin import Admin
from dispatch.admin import routes as admin_routes
from dispatch.api import Api, ApiRules
from dispatch.api.docs import add_docs
from dispatch.claims import Claims
from dispatch.claims import routes as claims_routes
from dispatch.claims import sockets as claims_sockets
from dispatch.gateway import Connection, Door, Identity, SocketRules
from dispatch.gauges import Gauges
from dispatch.health import Health
from dispatch.inbox import Greeting, Inbox
from dispatch.jobs import Jobs
from dispatch.jobs import routes as jobs_routes
from dispatch.jobs import sockets as jobs_sockets
from dispatch.kit.clock import Clock, SystemClock
from dispatch.kit.errors import Forbidden
from dispatch.kit.ids import new_word
from dispatch.kit.metrics import Metrics
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery, repeat, running
from dispatch.markets import Markets
from dispatch.matching import Matching, Quotes, Shifts
from dispatch.matching import routes as matching_routes
from dispatch.matching import sockets as matching_sockets
from dispatch.presence import Presence
from dispatch.presence import sockets as presence_sockets
from dispatch.providers import Providers
from dispatch.providers import routes as providers_routes
from dispatch.settings import Settings
from dispatch.tracking import Tracking
from dispatch.tracking import sockets as tracking_sockets
from protocol.errors import CloseCode
from protocol.frames import Ack, Auth, Hello

log = structlog.get_logger("app")


@dataclass(slots=True, eq=False)
class App:
    """One worker's server, built and running its loops; `listen` gives it a socket."""

    settings: Settings
    clock: Clock
    pg: Postgres
    redis: Redis
    nursery: Nursery
    accounts: Accounts
    inbox: Inbox
    presence: Presence
    providers: Providers
    jobs: Jobs
    matching: Matching
    shifts: Shifts
    claims: Claims
    tracking: Tracking
    admin: Admin
    door: Door
    api: Api
    health: Health
    gauges: Gauges
    lost: list[UUID]

    @asynccontextmanager
    async def listen(self, listener: socket.socket) -> AsyncIterator[None]:
        """Serve on `listener`, which is bound; at the end of the block take no more, and drain."""
        runner = web.AppRunner(self.api.app, access_log=None, handler_cancellation=False, shutdown_timeout=2.0)
        await runner.setup()
        site = web.SockSite(runner, listener, backlog=1024)
        await site.start()
        # What was made until now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            await self.door.drain(self.settings.drain_s)
            await self._until_closed(3.0)
            await site.stop()
            await self.nursery.close(5.0)
            await runner.cleanup()

    async def _until_closed(self, within_s: float) -> None:
        for _ in range(int(within_s / 0.05)):
            if not self.door.connections:
                return
            await self.clock.sleep(0.05)
        for conn in tuple(self.door.connections.values()):
            conn.abort()


@asynccontextmanager
async def build(
    settings: Settings, *, slot: int = 0, clock: Clock | None = None, metrics: Metrics | None = None
) -> AsyncIterator[App]:
    """Everything of one worker, in order of rank. The loops run while the block lasts."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        pg = await stack.enter_async_context(Postgres.open(_needed(settings.database_url), size=settings.pool_size))
        redis = await stack.enter_async_context(Redis.open(_needed(settings.redis_url)))
        await redis.watch()
        markets = Markets.load(settings.markets)
        nursery = Nursery()
        stamp = None if settings.stamp_file is None else stack.enter_context(_Stamps(f"{settings.stamp_file}.{slot}"))

        accounts = Accounts(settings, pg, redis, clock)
        once = Idempotency(pg)
        inbox = Inbox(
            pg,
            redis,
            clock,
            nursery,
            worker_id=f"{slot}-{new_word()}",
            state_of=lambda user_id: matching.state_of(user_id),
        )
        await inbox.beat()
        providers = Providers(pg, inbox, once)
        presence = Presence(redis, markets, clock, fresh_s=settings.fresh_s)
        tracking = Tracking(
            pg, redis, markets, clock, nursery, every_s=settings.track_every_s, stale_after_s=settings.stale_after_s
        )
        jobs = Jobs(pg, inbox, markets, once, trails=tracking)
        matching = Matching(pg, inbox, presence, providers, markets, once, nursery, stamp=stamp)
        shifts = Shifts(pg, inbox, presence, matching, once)
        claims = Claims(pg, redis, inbox, presence, providers, matching, markets, nursery, filter=settings.claims)
        admin = Admin(inbox, matching, once)

        jobs.on_search.append(matching.search)
        presence.on_move(tracking.move)
        presence.on_free(matching.freed)
        inbox.on_fact(presence.hear)
        inbox.on_fact(tracking.hear)

        greeter = _Greeter(accounts, inbox, presence, providers, tracking, nursery)
        inbox.on_fact(greeter.registered)
        door = Door(
            greeter.rules(settings, jobs, matching, shifts, claims),
            clock,
            nursery,
            handshake_rate=settings.handshake_rate,
        )
        greeter.door = door
        api = Api(_api_rules(settings, accounts), clock)
        metrics = metrics or Metrics()
        health = Health(settings, redis, inbox, door, metrics, clock)
        gauges = Gauges(metrics, pg, redis, door, api, inbox, presence, matching, claims, tracking, nursery, slot=slot)
        for routes in (
            accounts_routes.routes(accounts),
            matching_routes.routes(matching, shifts, Quotes(jobs, presence)),
            jobs_routes.routes(jobs),
            claims_routes.routes(claims),
            providers_routes.routes(providers, accounts),
            admin_routes.routes(admin),
        ):
            api.add(routes)
        api.app.router.add_get("/v1/socket", door.handle)
        health.add_to(api.app)
        add_docs(api.app, api.routes, __version__)

        app = App(
            settings, clock, pg, redis, nursery, accounts, inbox, presence, providers, jobs, matching, shifts, claims, tracking, admin, door, api,
            health, gauges, greeter.lost,
        )  # fmt: skip
        async with running(_duties(app)):
            yield app
            await nursery.close(1.0)
        await inbox.sign_off()


def _duties(app: App) -> Sequence[tuple[str, Coroutine[Any, Any, None]]]:
    """Every loop of a worker. Each runs on all workers, in bounded batches, and may run twice harmlessly."""
    settings, clock = app.settings, app.clock

    def loop(name: str, every_s: float, duty: Callable[[], Any]) -> tuple[str, Coroutine[Any, Any, None]]:
        return name, repeat(duty, every_s=every_s, clock=clock, name=name, on_failure=app.gauges.failed)

    async def beat() -> None:
        await app.inbox.beat()
        app.health.postgres_at = clock.monotonic()

    async def flush_trails() -> None:
        await app.tracking.flush({live.busy for live in app.presence if live.busy is not None})

    turns = 0

    async def relay() -> None:
        # While Redis is away the heads are all there is: asked twice as often.
        nonlocal turns
        turns += 1
        if turns % 2 == 0 or not app.redis.reachable:
            await app.inbox.poll_heads()

    async def note_lost() -> None:
        lost, app.lost[:] = app.lost[:], []
        if lost:
            try:
                await app.inbox.lost(lost)
            except BaseException:
                app.lost.extend(lost)
                raise

    async def revoke() -> None:
        users = app.inbox.users()
        blocked = await app.accounts.blocked_of(users) if users else []
        app.accounts.forget(blocked)
        for user_id in blocked:
            for seat in tuple(app.inbox.seats_of(user_id)):
                app.inbox.close(seat.line.conn_id, CloseCode.BLOCKED)

    async def gather() -> None:
        app.gauges.gather()

    async def freeze() -> None:
        gc.freeze()

    async def forget() -> None:
        while await app.inbox.forget_events(days=settings.keep_events_days):
            await clock.sleep(0.1)
        while await app.accounts.forget_request_ids(hours=settings.keep_idem_hours):
            await clock.sleep(0.1)

    return [
        ("copier", app.inbox.copier.run()),
        ("hand_over", app.inbox.listen()),
        ("fix_hand_over", app.tracking.listen()),
        loop("positions", settings.tick_s, app.presence.tick),
        loop("gate_refresher", settings.tick_s, lambda: app.presence.refresh(app.providers.states)),
        loop("tracker", 0.25, app.tracking.tick),
        loop("offer_expirer", 0.25, app.matching.turn),
        loop("job_waker", 0.2, app.matching.wake),
        loop("reconciler", 1.0, app.matching.settle),
        loop("event_relay", 0.5, relay),
        loop("unacked_repusher", 1.0, app.inbox.repeat),
        loop("ack_writer", 1.0, app.inbox.flush_acks),
        loop("socket_poller", 1.0, app.inbox.poll_sockets),
        loop("socket_revoker", 1.0, revoke),
        loop("socket_sweeper", 1.0, app.door.sweep),
        loop("lost_noter", 0.5, note_lost),
        loop("presence_sweeper", 2.0, lambda: app.shifts.sweep(settings.gone_after_s)),
        loop("redis_watcher", 0.5, app.redis.watch),
        loop("redis_rebuilder", 1.0, app.presence.watch_epoch),
        loop("canary", 1.0, app.inbox.canary),
        loop("beat", 1.0, beat),
        loop("trail_flusher", 30.0, flush_trails),
        loop("gauges", 2.0, gather),
        loop("job_counter", 5.0, app.gauges.count_jobs),
        loop("freezer", 60.0, freeze),
        loop("forgetter", 3600.0, forget),
    ]


class _Greeter:
    """Connections meet slices here: who somebody is, what a greeting does, what a closed line leaves."""

    def __init__(
        self,
        accounts: Accounts,
        inbox: Inbox,
        presence: Presence,
        providers: Providers,
        tracking: Tracking,
        nursery: Nursery,
    ) -> None:
        self._accounts = accounts
        self._inbox = inbox
        self._presence = presence
        self._providers = providers
        self._tracking = tracking
        self._nursery = nursery
        self.door: Door
        self.lost: list[UUID] = []

    def rules(self, settings: Settings, jobs: Jobs, matching: Matching, shifts: Shifts, claims: Claims) -> SocketRules:
        requests = {
            Auth: self._auth,
            **jobs_sockets.requests(jobs),
            **matching_sockets.requests(matching, shifts),
            **claims_sockets.requests(claims),
            **tracking_sockets.requests(self._tracking),
        }
        signals = {Ack: self._ack, **presence_sockets.signals(self._presence, self._tracking.walk)}
        return SocketRules(
            self._by_token,
            self._by_ticket,
            self._greet,
            self._left,
            requests,
            signals,
            frozenset(settings.allowed_origins),
        )

    async def _by_token(self, token: str, address: str) -> Identity:
        return await self._identity(self._accounts.read(token), address)

    async def _by_ticket(self, ticket: str, address: str) -> Identity:
        return await self._identity(await self._accounts.redeem_ticket(ticket), address)

    async def _identity(self, claims: TokenClaims, address: str) -> Identity:
        actor = await self._accounts.actor(claims, address=address, fresh=True)
        return Identity(claims.user_id, claims.expires_at, actor.locale, actor)

    async def _auth(self, conn: Connection, frame: Auth) -> bytes:
        identity = await self._by_token(frame.token, conn.address)
        if identity.user_id != conn.user_id:
            raise Forbidden("the token is another user's")
        self.door.identify(conn, identity)
        return b"{}"

    def _ack(self, conn: Connection, frame: Ack) -> None:
        if conn.seat is not None:
            self._inbox.ack(conn.seat, frame.seq)

    async def _greet(self, conn: Connection, hello: Hello) -> None:
        state = await self._providers.state(conn.user_id)
        expires_at: datetime = conn.identity.expires_at
        conn.seat = await self._inbox.greet(conn, conn.session, hello, Greeting(state is not None, expires_at))
        if conn.seat is not None and state is not None:
            await self._arrive(conn.user_id, conn.conn_id)

    async def _arrive(self, user_id: UUID, conn_id: UUID) -> None:
        # Asked after the seat stands, and again if a fact overtook the answer: presence never starts from a stale one.
        while True:
            before = self._presence.revision(user_id)
            state = await self._providers.state(user_id)
            if state is None or conn_id not in self.door.connections:
                return
            self._presence.arrive(state, conn_id)
            if self._presence.revision(user_id) == before:
                return

    def registered(self, user_id: UUID, name: str, body: bytes) -> None:
        """A user who became a provider while connected is one from now on."""
        if name == "provider.updated" and self._presence.of(user_id) is None:
            for seat in self._inbox.seats_of(user_id):
                seat.solo = True
                self._nursery.start(self._arrive(user_id, seat.line.conn_id), "arrive")

    def _left(self, conn: Connection) -> None:
        if conn.seat is not None:
            self._inbox.leave(conn.seat)
            self._tracking.leave(conn)
            self._presence.depart(conn.user_id, conn.conn_id)
            self.lost.append(conn.conn_id)


def _api_rules(settings: Settings, accounts: Accounts) -> ApiRules:
    async def by_token(token: str, address: str) -> tuple[Actor, TokenClaims]:
        claims = accounts.read(token)
        return await accounts.actor(claims, address=address), claims

    return ApiRules(
        by_token,
        admin=lambda actor: bool(actor.admin),
        locale_of=lambda actor: str(actor.locale),
        key_of=lambda actor: actor.user_id,
        user_rate=settings.user_rate,
        user_burst=settings.user_burst,
        address_rate=settings.address_rate,
        origins=frozenset(settings.allowed_origins),
    )


class _Stamps:
    """Commit stamps of offers for benchmarks: `offer_id<TAB>CLOCK_MONOTONIC ns`, one a line."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1, encoding="ascii")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        return self

    def __call__(self, offers: Sequence[UUID], at_ns: int) -> None:
        self._file.write("".join(f"{offer}\t{at_ns}\n" for offer in offers))

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _needed(url: str | None) -> str:
    if url is None:
        raise ValueError("a store's URL is missing: the command line starts embedded stores and passes theirs")
    return url


async def worker_main(settings: Settings, slot: int, port: int, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """A worker process: build, listen on the shared port, say so, and drain when told."""
    from dispatch.supervisor import listen

    async with build(settings, slot=slot) as app, app.listen(listen(settings.host, port)):
        log.info("listening", port=port, worker=app.inbox.worker_id)
        ready()
        await stop.wait()
        log.info("draining", sockets=len(app.door))
