"""Who is measured: our server, and each peer in each of its variants; all are asked the same things through one `Side`."""

import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import jwt
import orjson
import redis.asyncio as aioredis

from bench.demo.stage import Person, started
from bench.demo.stamps import Stamps
from bench.fleet import EventHandler, Phone, fleet
from bench.offers import Customer, customers_of
from bench.peers.line import PeerPhone, SocketIoPhone, own_offer
from bench.peers.packages import ready
from bench.positions import GEO_KEY, geo_places
from bench.server import Running, Usage, children, postgres_pid, redis_pid, usage_of
from protocol.errors import Denied
from protocol.lifecycle import ServiceType

DESIGN: Final = Path(__file__).with_name("design.sql")
GATEWAY: Final = Path(__file__).with_name("gateway.py")
VARIANTS: Final = ("usual", "best")
NAMES: Final = {"node_ws": "Node ws", "socketio": "Socket.IO", "postgres": "Postgres design"}
SCRIPTS: Final = {"node_ws": "ws.js", "socketio": "socketio.js"}
"""Peers that are Node programs."""

LACKS: Final[Mapping[str, tuple[str, ...]]] = {
    "node_ws": (
        "what is sent while a line is down is lost: no numbers, no history, no acks",
        "jobs and winners live in Redis only: a flush or a failover forgets them, and a second may be told yes",
        "a provider may win several jobs at once; nobody offers a job again that all have left",
        "a provider who has gone stays in the searches",
    ),
    "socketio": (
        "the same as Node ws; Socket.IO delivers at most once by default, and its connection state recovery does not work with this adapter",
    ),
    "postgres": (
        "a job has one winner by its row lock; a provider who takes two jobs at one instant may get both",
        "a NOTIFY is heard by who listens at that moment: what is told while a line or a gateway is down is lost",
        "a repeated accept after a lost reply is told no, though he has the job",
        "a job that nobody takes is not offered again; a provider who has gone stays in the searches",
    ),
    "ours": ("positions may be lost: the newest wins",),
}
"""What each does not guarantee, shortly. The first documents ask for more than their functions do."""


class Side(Protocol):
    """One server with its stores and its people."""

    name: str
    """ours, node_ws_usual, …"""

    def usage(self) -> Usage: ...

    def worker_pids(self) -> list[int]: ...

    def phones(self, places: Sequence[tuple[float, float]], on_event: EventHandler | None = None) -> list[Phone]:
        """Of the first providers, one at each place; not connected."""
        ...

    def watchers(self, count: int, on_event: EventHandler | None = None) -> list[Phone]:
        """Of the first customers; not connected."""
        ...

    def customers(self, count: int, wave: int, patience_s: float) -> Sequence[Customer]:
        """Who ask for jobs, each offered to `wave` providers. A peer answers once, whatever the patience."""
        ...

    async def places(self, phones: Sequence[Phone]) -> list[tuple[float, float] | None]:
        """(lat, lng) of each as its searches would find him."""
        ...

    def stamps(self) -> dict[str, int]:
        """Offer → CLOCK_MONOTONIC ns at which its commit had returned."""
        ...

    async def fresh(self, providers: int) -> None:
        """Forget jobs and places of the work before. `providers` take part in the next one."""
        ...


class Ours:
    """Our server as `bench.server` runs it."""

    name = "ours"

    def __init__(self, running: Running) -> None:
        self.running = running
        self._stamps = Stamps(running.stage.stamp_file)

    def usage(self) -> Usage:
        return self.running.usage()

    def worker_pids(self) -> list[int]:
        return self.running.worker_pids()

    def phones(self, places: Sequence[tuple[float, float]], on_event: EventHandler | None = None) -> list[Phone]:
        return fleet(self.running.url, self.running.providers[: len(places)], places, on_event)

    def watchers(self, count: int, on_event: EventHandler | None = None) -> list[Phone]:
        return [Phone(self.running.url, person, 0.0, 0.0, on_event) for person in self.running.customers[:count]]

    def customers(self, count: int, wave: int, patience_s: float) -> Sequence[Customer]:
        return customers_of(self.running, patience_s)[:count]  # the wave is a setting of the market

    async def places(self, phones: Sequence[Phone]) -> list[tuple[float, float] | None]:
        assert self.running.redis is not None
        return await geo_places(self.running.redis, GEO_KEY, phones)

    def stamps(self) -> dict[str, int]:
        self._stamps.read_on()
        return self._stamps.by_offer

    async def fresh(self, providers: int) -> None:
        """It forgets by itself: who goes away leaves the searches, and jobs were cancelled."""
        self.stamps().clear()


@dataclass(frozen=True, slots=True)
class PeerStores:
    """One Postgres and one Redis for all peers: only one of them works at a time."""

    database_url: str
    redis_url: str
    redis: "aioredis.Redis"
    http: aiohttp.ClientSession
    redis_pid: int
    postgres_pid: int
    folder: Path

    @classmethod
    @asynccontextmanager
    async def of(cls, database_url: str, redis_url: str, folder: Path) -> AsyncIterator["PeerStores"]:
        async with (
            aioredis.Redis.from_url(redis_url) as redis,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        ):
            pids = await redis_pid(redis), await postgres_pid(database_url)
            yield cls(database_url, redis_url, redis, http, *pids, folder)


class Peer:
    """A peer that runs."""

    def __init__(
        self, kind: str, variant: str, space: str, stores: PeerStores, pid: int, url: str, secret: str
    ) -> None:
        self.kind = kind
        self.variant = variant
        self.name = f"{kind}_{variant}"
        self._space = space
        self.url = url
        self._stores = stores
        self._pid = pid
        self._secret = secret
        self._people: dict[str, list[Person]] = {"provider": [], "customer": []}
        self._stamps: dict[str, int] = {}

    def people(self, role: str, count: int) -> list[Person]:
        """The first of them, with tokens for the day."""
        known = self._people[role]
        while len(known) < count:
            user = str(uuid4())
            claims = {"sub": user, "role": role, "exp": int(time.time()) + 86_400}
            known.append(Person(user, jwt.encode(claims, self._secret, algorithm="HS256")))
        return known[:count]

    def usage(self) -> Usage:
        """Of its own processes and of the one store that its kind works with. The other may still be clearing up after another peer:
        that is `others`, and no cost of this one.
        """
        if self.kind in SCRIPTS:
            return replace(usage_of([self._pid], self._stores.redis_pid, None), postgres=0.0)
        return replace(usage_of([self._pid], None, self._stores.postgres_pid), redis=0.0)

    def worker_pids(self) -> list[int]:
        return sorted(children(self._pid))

    def _phones(
        self, people: Sequence[Person], places: Sequence[tuple[float, float]], on_event: EventHandler | None
    ) -> list[Phone]:
        kind = SocketIoPhone if self.kind == "socketio" else PeerPhone
        return [kind(self.url, person, *place, on_event) for person, place in zip(people, places, strict=True)]

    def phones(self, places: Sequence[tuple[float, float]], on_event: EventHandler | None = None) -> list[Phone]:
        return self._phones(self.people("provider", len(places)), places, on_event)

    def watchers(self, count: int, on_event: EventHandler | None = None) -> list[Phone]:
        return self._phones(self.people("customer", count), [(0.0, 0.0)] * count, on_event)

    def customers(self, count: int, wave: int, patience_s: float) -> Sequence[Customer]:
        return [
            PeerCustomer(self.url, person, self._stores.http, wave, self._stamps)
            for person in self.people("customer", count)
        ]

    async def places(self, phones: Sequence[Phone]) -> list[tuple[float, float] | None]:
        if self.kind in SCRIPTS:
            return await geo_places(self._stores.redis, f"{self._space}:providers", phones)
        connection = await asyncpg.connect(self._stores.database_url)
        try:
            rows = await connection.fetch(
                f"SELECT id::text, provider_location FROM {self._space}.providers WHERE provider_location IS NOT NULL"
            )
        finally:
            await connection.close()
        found = {row["id"]: (row["provider_location"].y, row["provider_location"].x) for row in rows}
        return [found.get(str(phone.provider_id)) for phone in phones]

    def stamps(self) -> dict[str, int]:
        return self._stamps

    async def fresh(self, providers: int) -> None:
        self._stamps.clear()
        if self.kind in SCRIPTS:
            await self._stores.redis.unlink(f"{self._space}:providers")
            return
        connection = await asyncpg.connect(self._stores.database_url)
        try:
            await connection.execute(f"TRUNCATE {self._space}.jobs, {self._space}.providers")
            ids = [UUID(person.user_id) for person in self.people("provider", providers)]
            await connection.execute(f"INSERT INTO {self._space}.providers (id) SELECT unnest($1::uuid[])", ids)
            await connection.execute(f"ANALYZE {self._space}.providers")
        finally:
            await connection.close()


class PeerCustomer:
    """Asks a peer for jobs, once."""

    def __init__(
        self, url: str, person: Person, http: aiohttp.ClientSession, wave: int, stamps: dict[str, int]
    ) -> None:
        self._url = url
        self._http = http
        self._headers = {"Authorization": f"Bearer {person.token}"}
        self._wave = wave
        self._stamps = stamps

    async def create_job(self, service_type: ServiceType, pickup: Mapping[str, Any], /) -> dict[str, Any]:
        """{"id", "providers"}: who was offered it. Raises Denied."""
        told = await self._post("/jobs", {"pickup": dict(pickup), "wave": self._wave})
        for provider in told["providers"]:
            self._stamps[own_offer(told["offer_id"], provider)] = int(told["stamp"])
        return told

    async def cancel(self, job_id: UUID, /) -> dict[str, Any]:
        """Raises Denied."""
        return await self._post(f"/jobs/{job_id}/cancel", {})

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http.post(self._url + path, data=orjson.dumps(body), headers=self._headers) as response:
            text = await response.read()
            if response.status >= 300:
                raise Denied(f"HTTP_{response.status}", text.decode(errors="replace")[:200], status=response.status)
            told: dict[str, Any] = orjson.loads(text)
            return told


@asynccontextmanager
async def peer(kind: str, variant: str, stores: PeerStores, workers: int, twin: str = "") -> AsyncIterator[Peer]:
    """Start it with a schema or a key prefix of its own; `twin` tells another one of the same kind. Raises StageError, NoNode."""
    name, secret = f"{kind}_{variant}{twin}", secrets.token_hex(32)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DISPATCH_", "PEER_", "NODE_"))
    } | {
        "PEER_PORT": "0",
        "PEER_SECRET": secret,
        "PEER_VARIANT": variant,
        "PEER_WORKERS": str(workers),
        "PEER_REDIS": unquote(urlsplit(stores.redis_url).path),
        "PEER_PREFIX": name,
        "PEER_DATABASE": stores.database_url,
        "PEER_SCHEMA": name,
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
    }
    if kind in SCRIPTS:
        node, folder, _ = ready(print)
        command = [node, str(folder / SCRIPTS[kind])]
    else:
        command = [sys.executable, str(GATEWAY)]
        await lay_out(stores.database_url, name)
    async with AsyncExitStack() as stack:
        process, url = await started(stack, command, environment, stores.folder / f"{name}.log")
        yield Peer(kind, variant, name, stores, process.pid, url, secret)


async def lay_out(database_url: str, schema: str) -> None:
    """The first documents' tables and functions, in a new schema; one of that name goes first."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        await connection.execute(DESIGN.read_text(encoding="utf-8").replace("{schema}", schema))
    finally:
        await connection.close()


__all__ = ["LACKS", "NAMES", "VARIANTS", "Ours", "Peer", "PeerStores", "Side", "lay_out", "peer"]
