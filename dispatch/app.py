"""The wiring, and nothing else: opens the stores, builds the services by constructor, hands the doors their handlers."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from uuid import UUID

import structlog
from aiohttp import web

from dispatch import __version__
from dispatch.accounts import RESET_JOB, Accounts, Idempotency, Pending, Tell, Voice
from dispatch.accounts import Claims as TokenClaims
from dispatch.accounts import routes as accounts_routes
from dispatch.admin import Admin, Expiry, Office
from dispatch.admin import routes as admin_routes
from dispatch.api import NEXT_REQUEST_WITHIN_S, SWEEP_EVERY_S, Api, ApiRules
from dispatch.api.docs import add_docs
from dispatch.claims import Claims
from dispatch.claims import routes as claims_routes
from dispatch.duties import duties
from dispatch.earnings import Corrections, Earnings, Payroll, Tips
from dispatch.earnings import routes as earnings_routes
from dispatch.gateway import Door
from dispatch.gauges import Gauges
from dispatch.greeter import Greeter
from dispatch.health import Health
from dispatch.inbox import Inbox, append
from dispatch.incentives import Counting, Incentives
from dispatch.incentives import routes as incentives_routes
from dispatch.jobs import Jobs, Teller
from dispatch.jobs import routes as jobs_routes
from dispatch.kit.address import Proxies
from dispatch.kit.clock import Clock, SystemClock
from dispatch.kit.ids import new_word
from dispatch.kit.metrics import Metrics
from dispatch.kit.objects import Seals
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.queue import Consumer
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery, repeat, running
from dispatch.ledger import configure
from dispatch.markets import Markets
from dispatch.matching import Matching, Nudges, Quotes, Recorder, Shifts, Why
from dispatch.matching import routes as matching_routes
from dispatch.notifications import Centre, DeadLetters, Notice, Notifications, Sender, doors_of
from dispatch.notifications import routes as notifications_routes
from dispatch.notifications.store import OfAccounts
from dispatch.performance import Aggregates, Performances
from dispatch.performance import routes as performance_routes
from dispatch.presence import Presence
from dispatch.providers import Providers
from dispatch.providers import routes as providers_routes
from dispatch.providers.documents import Documents, objects_of
from dispatch.providers.documents import routes as documents_routes
from dispatch.providers.review import Review
from dispatch.providers.review import routes as review_routes
from dispatch.providers.vehicles import Vehicles
from dispatch.providers.vehicles import routes as vehicles_routes
from dispatch.ratings import Ratings
from dispatch.ratings import routes as ratings_routes
from dispatch.settings import Settings
from dispatch.support import Support
from dispatch.support import routes as support_routes
from dispatch.tracking import Tracking
from dispatch.wallets import BankAccounts, Marks, Payouts, Vault, Wallets, Withdrawals, door_of, way_of
from dispatch.wallets import routes as wallets_routes
from protocol.notices import Channel, NoticeType

log = structlog.get_logger("app")


COLLECT_AFTER: Final = (700, 10, 100)
"""The collector's three generations; the last (10 by default) after so many passes over the second, some 700,000 objects more."""


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
    documents: Documents
    jobs: Jobs
    matching: Matching
    why: Why
    shifts: Shifts
    claims: Claims
    tracking: Tracking
    teller: Teller
    nudges: Nudges
    sender: Sender
    payouts: Payouts
    consumer: Consumer
    admin: Admin
    expiry: Expiry
    aggregates: Aggregates
    door: Door
    api: Api
    health: Health
    gauges: Gauges
    lost: list[UUID]

    @asynccontextmanager
    async def listen(self, listener: socket.socket) -> AsyncIterator[None]:
        """Serve on `listener`, which is bound; at the end of the block take no more, and drain."""
        runner = web.AppRunner(
            self.api.app,
            access_log=None,
            handler_cancellation=False,
            shutdown_timeout=2.0,
            keepalive_timeout=NEXT_REQUEST_WITHIN_S,
        )
        await runner.setup()
        assert runner.server is not None
        server = runner.server

        async def sweep() -> None:
            self.api.strangers.sweep(server.connections)

        site = web.SockSite(runner, listener, backlog=1024)
        await site.start()
        # What was made until now lives as long as the process: the collector need not look at it again. Never later: what is
        # frozen in a cycle is never freed.
        gc.collect()
        gc.freeze()
        # A full pass stops the loop for about a microsecond per object, a hundred objects per open socket; by default it comes a
        # dozen times while a storm of sockets returns. Closed ones are no cycles (gateway/door.py), so it may be rare.
        gc.set_threshold(*COLLECT_AFTER)
        sweeping = repeat(sweep, every_s=SWEEP_EVERY_S, clock=self.clock, name="stranger_sweeper")
        try:
            async with running([("stranger_sweeper", sweeping)]):
                yield
        finally:
            await self.door.drain(self.settings.drain_s)
            await self._until_closed(3.0)
            await self.door.closed(2.0)
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
        stack.callback(accounts.close)
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
        sender = Sender(
            pg,
            doors_of(settings, clock),
            OfAccounts(accounts),
            clock,
            timeout_s=settings.send_timeout_s,
            base_s=settings.retry_base_s,
        )
        stack.push_async_callback(sender.close)
        notifications = Notifications(sender.circuits)
        vault = Vault.of(settings)
        payouts = Payouts(
            pg,
            inbox,
            notifications,
            door_of(settings),
            way_of(settings),
            vault,
            clock,
            timeout_s=settings.payout_timeout_s,
            base_s=settings.retry_base_s,
        )
        stack.push_async_callback(payouts.close)
        consumer = Consumer(
            _needed(settings.database_url),
            role="dispatch_system",
            search_path="dispatch",
            schema="dispatch_queue",
            work={f"notify.{channel}": sender.handle for channel in Channel}
            | {"payout": payouts.handle, RESET_JOB: accounts.sessions.send_reset},
            stale_after_s=sender.lease_s,
        )
        accounts.speak(Voice(_teller(notifications), append, inbox.deliver))
        providers = Providers(pg, inbox, accounts, notifications, once)
        await providers.require(settings.required_documents, settings.vehicle_services)
        documents = Documents(
            pg,
            inbox,
            objects_of(settings),
            Seals([secret.get_secret_value() for secret in settings.jwt_secrets]),
            clock,
            once,
            link_s=settings.file_link_s,
            uploads_per_hour=settings.uploads_per_hour,
        )
        presence = Presence(redis, markets, clock, fresh_s=settings.fresh_s)
        tracking = Tracking(
            pg, redis, markets, clock, nursery, every_s=settings.track_every_s, stale_after_s=settings.stale_after_s
        )
        async with pg.system() as conn:
            await configure(conn, debt_limit_minor=settings.debt_limit_minor)
        payroll = Payroll(markets, notifications, Counting(markets))
        jobs = Jobs(pg, inbox, markets, once, trails=tracking, payroll=payroll)
        why = Why(pg, clock)
        matching = Matching(
            pg,
            inbox,
            presence,
            providers,
            markets,
            once,
            nursery,
            clock,
            stamp=stamp,
            why=why if settings.explain else None,
        )
        if settings.decision_log is not None:
            # A worker that is started again must not write over what the last one has left.
            named = Path(f"{settings.decision_log}.{slot}.{clock.now():%Y%m%dT%H%M%S}.gz")
            matching.on_decision.append(stack.enter_context(Recorder(named)))
        shifts = Shifts(pg, inbox, presence, matching, once)
        claims = Claims(
            pg, redis, inbox, presence, providers, matching, markets, nursery, clock, filter=settings.claims
        )
        teller, nudges = Teller(pg, inbox, notifications), Nudges(pg, inbox, notifications)
        support = Support(pg, inbox, notifications, once)
        wallets = Wallets(pg, markets)
        withdrawals = Withdrawals(
            pg,
            inbox,
            notifications,
            once,
            vault,
            wallets,
            minimum_minor=settings.withdrawal_min_minor,
            way=way_of(settings),
        )
        aggregates = Aggregates(pg, markets)
        admin = Admin(inbox, matching, notifications, once)
        expiry = Expiry(pg, notifications, clock, deliver=inbox.deliver, search=matching.search)

        jobs.on_search.append(matching.search)
        presence.on_move(tracking.move)
        presence.on_free(matching.freed)
        inbox.on_fact(presence.hear)
        inbox.on_fact(tracking.hear)

        greeter = Greeter(accounts, inbox, presence, providers, tracking, nursery)
        inbox.on_fact(greeter.registered)
        door = Door(
            greeter.rules(settings, jobs, matching, shifts, claims),
            clock,
            nursery,
            handshake_rate=settings.handshake_rate,
            read_every_s=settings.read_every_ms / 1000,
        )
        greeter.door = door
        api = Api(_api_rules(settings, accounts), clock)
        metrics = metrics or Metrics()
        health = Health(settings, redis, [inbox.ear, tracking.ear], door, metrics, clock)
        gauges = Gauges(
            metrics, pg, redis, door, api, inbox, presence, matching, why, claims, tracking, sender, nursery, slot=slot
        )
        for routes in (
            accounts_routes.routes(accounts),
            matching_routes.routes(matching, shifts, Quotes(jobs, presence), why),
            jobs_routes.routes(jobs),
            claims_routes.routes(claims),
            providers_routes.routes(providers, accounts),
            documents_routes.routes(documents, within_s=settings.upload_within_s),
            vehicles_routes.routes(Vehicles(pg, inbox, once)),
            review_routes.routes(Review(pg, inbox, notifications, once)),
            notifications_routes.routes(Centre(pg, once, loopback=settings.webpush_loopback), DeadLetters(pg, once)),
            support_routes.routes(support),
            earnings_routes.routes(
                Earnings(pg, markets, Marks()),
                Tips(inbox, markets, notifications, once),
                Corrections(inbox, markets, once),
            ),
            incentives_routes.routes(Incentives(pg, markets, once)),
            wallets_routes.routes(wallets, BankAccounts(pg, once, vault), withdrawals),
            admin_routes.routes(
                admin, Office(pg, redis, clock, accounts, lambda: {**sender.circuits(), **payouts.circuits()})
            ),
            ratings_routes.routes(Ratings(pg, inbox, notifications, once)),
            performance_routes.routes(Performances(pg, matching, markets), aggregates),
        ):
            api.add(routes)
        api.app.router.add_get("/v1/socket", door.handle)
        health.add_to(api.app)
        add_docs(api.app, api.routes, __version__)

        app = App(
            settings, clock, pg, redis, nursery, accounts, inbox, presence, providers, documents, jobs, matching, why, shifts, claims, tracking, teller, nudges, sender, payouts, consumer, admin, expiry, aggregates, door, api,
            health, gauges, greeter.lost,
        )  # fmt: skip
        async with running(duties(app)), consumer.consuming(grace_s=settings.send_timeout_s / 2):
            yield app
            await nursery.close(1.0)
        await inbox.sign_off()


def _teller(notifications: Notifications) -> Tell:
    async def tell(tx: Tx, user_id: UUID, kind: NoticeType, data: Mapping[str, str], key: str | None) -> list[Pending]:
        return await notifications.write(tx, [Notice(user_id, kind, data, key)])

    return tell


def _api_rules(settings: Settings, accounts: Accounts) -> ApiRules:
    async def by_token(token: str, address: str) -> tuple[Actor, TokenClaims]:
        claims = await accounts.read(token)
        return await accounts.actor(claims, address=address), claims

    return ApiRules(
        by_token,
        has_role=lambda actor, role: role in actor.roles,
        locale_of=lambda actor: str(actor.locale),
        key_of=lambda actor: actor.user_id,
        user_rate=settings.user_rate,
        user_burst=settings.user_burst,
        address_rate=settings.address_rate,
        origins=frozenset(settings.allowed_origins),
        proxies=Proxies(settings.trusted_proxies),
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
