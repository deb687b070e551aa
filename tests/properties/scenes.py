"""The stage of the property tests: one server per test, fresh people per example, and a city that is cleared between them."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from dispatch.kit.clock import SystemClock
from dispatch.kit.postgres import Actor
from dispatch.markets import Markets
from dispatch.presence import Live
from dispatch.presence import keys as presence_keys
from dispatch.providers import seed
from protocol.client import Client
from protocol.http import Http
from protocol.lifecycle import ServiceType
from tests.support.server import BANGKOK, WITHIN_S, Person, Server, serving

PROPERTY = settings(
    max_examples=100,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""One server for all examples: what an example leaves behind, `Scene.clear` takes away before the next. Without the phase that
explains failures: it traces every line, and a traced server is too slow to be the same server."""

MARKETS = Markets.load()
BROADCAST = {"bkk": {"policy": "broadcast"}}

kind = st.sampled_from([str(service) for service in ServiceType])
kinds = st.lists(kind, min_size=1, max_size=5, unique=True)

_EARTH_M = 6_371_008.8
_STOCK = 120

_OFFER = """SELECT word, offered, offered_to, round FROM offers_create($1, $2, $3, $4, $5, make_interval(secs => $6), 0,
  interval '5 s', interval '0 s')"""


def place(north_m: float, east_m: float, near: tuple[float, float] = BANGKOK) -> tuple[float, float]:
    """(lat, lng) of a point so many metres north and east of `near`."""
    metres = math.radians(1) * _EARTH_M
    return near[0] + north_m / metres, near[1] + east_m / metres / math.cos(math.radians(near[0]))


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Along the great circle, by the law of cosines on vectors: not the server's formula."""

    def vector(lat: float, lng: float) -> tuple[float, float, float]:
        north, east = math.radians(lat), math.radians(lng)
        return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)

    return 2 * _EARTH_M * math.asin(min(1.0, math.dist(vector(*a), vector(*b)) / 2))


class HastyClock(SystemClock):
    """The machine's clock, on which the losers of an accept are told at once: a hundred examples need not wait a hundred times."""

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        await super().sleep(0 if task is not None and task.get_name() == "losers" else seconds)


class Scene:
    """A server and the people of one example."""

    def __init__(
        self, server: Server, judge: "asyncpg.Connection[Any]", customer: Person, session: aiohttp.ClientSession
    ) -> None:
        self.server = server
        self.judge = judge
        self.customer = customer
        """On a socket for the whole test; all jobs are his unless somebody else is named."""
        self.freed: set[UUID] = set()
        """Users whom searches can find since they last switched on."""
        self._session = session
        self._stock: list[tuple[UUID, UUID]] = []

    async def drivers(
        self, count: int, *, service_types: Sequence[str] = ("ride",), radius_m: int = 10_000
    ) -> list[Person]:
        """New approved providers, off, whose phones Postgres believes connected."""
        if len(self._stock) < count:
            await self._restock()
        taken = [self._stock.pop() for _ in range(count)]
        await self.judge.execute(
            "UPDATE providers SET service_types = $2, service_radius_m = $3 WHERE id = ANY ($1::uuid[])",
            [provider for _, provider in taken],
            list(service_types),
            radius_m,
        )
        await self.judge.execute(
            "SELECT providers_clear(id) FROM unnest($1::uuid[]) id", [provider for _, provider in taken]
        )
        return [self._person(user, provider_id=str(provider)) for user, provider in taken]

    async def driver(self, *, service_types: Sequence[str] = ("ride",), radius_m: int = 10_000) -> Person:
        return (await self.drivers(1, service_types=service_types, radius_m=radius_m))[0]

    async def _restock(self) -> None:
        people = await seed(self.server.settings, providers=_STOCK, customers=0)
        users = [user for _, user in people]
        await self.judge.execute(
            """INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id)
               SELECT u, 'believed', 1, 'elsewhere', gen_random_uuid() FROM unnest($1::uuid[]) u""",
            users,
        )
        rows = await self.judge.fetch("SELECT user_id, id FROM providers WHERE user_id = ANY ($1::uuid[])", users)
        self._stock += [(row["user_id"], row["id"]) for row in rows]

    def _person(self, user: UUID, *roles: str, provider_id: str | None = None) -> Person:
        names = list(roles) or ["customer"]
        token = self.server.app.accounts.mint(user, names, 3600)
        http = Http(self.server.url(), token, session=self._session, locale="en")
        return Person(user, token, http, self.server, names, provider_id)

    def somebody(self, *roles: str) -> Person:
        """A new user, without a socket."""
        return self._person(uuid4(), *roles)

    def http(self, person: Person, *, worker: int = 0, locale: str = "en") -> Http:
        """His HTTP client at another worker's door, or in another language."""
        return Http(self.server.url(worker), person.token, session=self._session, locale=locale)

    async def switch_on(self, drivers: Sequence[Person], at: tuple[float, float] = BANGKOK) -> None:
        """The intent and the place of these, straight into the judge's books."""
        ids = [UUID(driver.provider_id) for driver in drivers]
        await self.judge.execute("UPDATE provider_gate SET online = true WHERE provider_id = ANY ($1::uuid[])", ids)
        await self.judge.execute(
            "UPDATE providers SET last_lat = $2, last_lng = $3, located_at = clock_timestamp() WHERE id = ANY ($1::uuid[])",
            ids,
            *at,
        )

    async def online(self, person: Person, phone: Client, at: tuple[float, float] = BANGKOK) -> None:
        """Switch on by the socket. Returns when searches find him, if the place is in a market."""
        self.freed.discard(person.user_id)
        await phone.online(*at)
        if MARKETS.at(*at) is not None:
            await self.until_free(person)

    def note_free(self, live: Live) -> None:
        # Also told of those whose offer ended because they won: they are not on the map.
        if live.listed is not None:
            self.freed.add(live.user_id)

    async def until_free(self, person: Person) -> None:
        async with asyncio.timeout(WITHIN_S):
            while person.user_id not in self.freed:
                await asyncio.sleep(0)

    async def job(
        self, kind: str = "ride", at: tuple[float, float] = BANGKOK, customer: Person | None = None
    ) -> dict[str, Any]:
        """A job by HTTP, with its first search over."""
        job = await self.server.request(customer or self.customer, at=at, service_type=kind, to=None)
        await self.quiet()
        return job

    async def far_job(self, kind: str = "ride") -> dict[str, Any]:
        """A job so far out of town that no search finds anybody: only `offer` brings it to somebody."""
        return await self.job(kind, place(30_000, 0))

    async def offer(self, job: dict[str, Any], *drivers: Person, round: int = 0, ttl_s: float = 60.0) -> dict[str, Any]:
        """Offer by the judge's own function, past the search: provider id → offer id of those it found eligible."""
        async with self.server.app.pg.system() as conn:
            row = await conn.fetchrow(
                _OFFER,
                UUID(job["id"]),
                round,
                [uuid4() for _ in drivers],
                [UUID(driver.provider_id) for driver in drivers],
                [100] * len(drivers),
                ttl_s,
            )
        assert row is not None
        return {str(one): str(offer) for one, offer in zip(row["offered_to"], row["offered"], strict=True)}

    async def offered(self, job: dict[str, Any]) -> set[str]:
        """Providers who were ever offered the job."""
        rows = await self.judge.fetch("SELECT provider_id FROM offers WHERE job_id = $1", UUID(job["id"]))
        return {str(row["provider_id"]) for row in rows}

    async def until_offered(self, job: dict[str, Any], expected: set[str]) -> None:
        """Until exactly these have been offered the job; nobody else ever may be.

        Mostly they are when the job's first search is over. A provider who came on a moment before also starts a search, and
        of two that meet at one job the first to lock it makes the offers.
        """
        async with asyncio.timeout(WITHIN_S):
            while (offered := await self.offered(job)) != expected:
                assert offered < expected
        await self.quiet()
        assert await self.offered(job) == expected

    async def row(self, job: dict[str, Any]) -> "asyncpg.Record":
        row = await self.judge.fetchrow("SELECT * FROM jobs WHERE id = $1", UUID(job["id"]))
        assert row is not None
        return row

    async def told(self, person: Person, name: str, job: dict[str, Any]) -> list["asyncpg.Record"]:
        """Committed events of that name about that job, oldest first."""
        rows: list[asyncpg.Record] = await self.judge.fetch(
            """SELECT seq, at, body FROM events WHERE user_id = $1 AND name = $2
               AND coalesce(body -> 'job' ->> 'id', body ->> 'job_id') = $3 ORDER BY seq""",
            person.user_id,
            name,
            job["id"],
        )
        return rows

    async def quiet(self) -> None:
        """Until no worker has unfinished work: searches, aftermaths, answers."""
        async with asyncio.timeout(WITHIN_S):
            while any(len(app.nursery) for app in self.server.apps):
                await asyncio.sleep(0)

    async def clear(self) -> None:
        """Take away what the examples before have left: jobs, behind everybody's back, and providers on the map."""
        await self.quiet()
        await self.judge.execute(
            """UPDATE jobs SET status = 'cancelled', cancelled_by = 'system', cancelled_at = clock_timestamp(), next_search_at = NULL,
                 offer_deadline = NULL WHERE status NOT IN ('completed', 'cancelled')"""
        )
        await self.judge.execute("UPDATE offers SET status = 'withdrawn' WHERE status = 'live'")
        # A phone that has gone stays a candidate for 5 s, so that a tunnel costs no offer: here he goes home.
        for app in self.server.apps:
            for live in app.presence:
                if live.open:
                    await app.shifts.end(Actor(live.user_id), None)
        maps = [presence_keys.free(market.code, str(service)) for market in MARKETS for service in ServiceType]
        async with asyncio.timeout(WITHIN_S):
            while await self.server.app.redis.plain.exists(*maps):
                await asyncio.sleep(0)


@asynccontextmanager
async def scene_of(database_url: str, redis_url: str, **given: Any) -> AsyncIterator[Scene]:
    """A server with these settings, a customer on a socket, and nobody else."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(database_url, redis_url, clock=HastyClock(), **given))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        judge = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
        stack.push_async_callback(judge.close)
        # A worker that nobody runs and nobody buries: it holds the sockets of those who have none.
        await judge.execute(
            "INSERT INTO workers (id, beat_at) VALUES ('elsewhere', clock_timestamp() + interval '1 day')"
        )
        customer = await server.person()
        await stack.enter_async_context(customer.connected())
        scene = Scene(server, judge, customer, session)
        for app in server.apps:
            app.presence.on_free(scene.note_free)
        yield scene


def actor(person: Person) -> Actor:
    """The person as services know him."""
    return Actor(person.user_id, frozenset(person.roles), "en")
