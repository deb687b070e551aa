"""Servers in this process: real stores, real sockets, one `build` per worker, on loopback ports of their own."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from dispatch.app import App, build
from dispatch.kit.clock import Clock
from dispatch.kit.metrics import Metrics
from dispatch.settings import Settings
from protocol.client import Client
from protocol.errors import Denied
from protocol.frames import Event, Position, Snapshot
from protocol.http import Http
from protocol.lifecycle import AdminAction

BANGKOK = (13.7563, 100.5018)
WITHIN_S = 10.0
"""How long a test waits for what must come. Never how long something takes."""


def settings_for(database_url: str, redis_url: str, **given: Any) -> Settings:
    """Test settings: short cadences, no limits per address, no jitter in draining."""
    defaults: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "address_rate": 0,
        "attempts_per_address": 0,
        "sends_per_address": 0,
        "user_rate": 10_000,
        "user_burst": 10_000,
        "handshake_rate": 10_000,
        "drain_s": 0,
        "tick_s": 0.02,
        "pool_size": 8,
        "mail_by": "off",
        "log_level": "warning",
        # Tests of dispatch need people who may work; those of papers ask for papers.
        "required_documents": {},
    }
    return Settings(**{**defaults, **given})


class Inbox:
    """What a client was told, as it came; tests wait in it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.positions: list[Position] = []
        self.snapshots: list[Snapshot] = []
        self._came = asyncio.Condition()

    def event(self, event: Event) -> None:
        self.events.append(event)
        self._wake()

    def position(self, position: Position) -> None:
        self.positions.append(position)
        self._wake()

    def snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._came:
                self._came.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        _PENDING.add(task)
        task.add_done_callback(_PENDING.discard)

    async def until(self, there: Callable[[], Any]) -> Any:
        """Wait until `there()` is truthy and return it; look after each thing that comes. TimeoutError after 10 s."""
        async with asyncio.timeout(WITHIN_S), self._came:
            while not (found := there()):
                await self._came.wait()
            return found

    async def named(self, name: str, *, nth: int = 1, **fields: Any) -> Event:
        """The nth event of this name whose data has these top-level fields."""

        def found() -> Event | None:
            matching = [e for e in self.events if e.name == name and all(e.data.get(k) == v for k, v in fields.items())]
            return matching[nth - 1] if len(matching) >= nth else None

        event: Event = await self.until(found)
        return event

    async def status(self, job_id: str, status: str) -> Event:
        """The event that tells of this job in this status."""
        event: Event = await self.until(
            lambda: next(
                (
                    e
                    for e in self.events
                    if e.data.get("job", {}).get("id") == job_id and e.data["job"].get("status") == status
                ),
                None,
            )
        )
        return event

    def names(self) -> list[str]:
        return [event.name for event in self.events]


_PENDING: set[asyncio.Task[None]] = set()


@dataclass
class Person:
    """Somebody with a token, an HTTP client, and (while connected) a socket."""

    user_id: UUID
    token: str
    http: Http
    server: "Server"
    roles: list[str]
    provider_id: str | None = None
    inbox: Inbox = field(default_factory=Inbox)

    @asynccontextmanager
    async def connected(self, *, device: str = "d1", worker: int = 0, **given: Any) -> AsyncIterator[Client]:
        """A socket of this person on a worker; what it is told goes to `self.inbox`."""
        client = Client(
            self.server.url(worker),
            self.token,
            device=device,
            on_event=self.inbox.event,
            on_position=self.inbox.position,
            on_snapshot=self.inbox.snapshot,
            **given,
        )
        async with client:
            yield client


@dataclass
class Server:
    """Some workers on the same stores."""

    settings: Settings
    apps: list[App]
    ports: list[int]
    _stack: AsyncExitStack
    _phones: int = 0

    @property
    def app(self) -> App:
        return self.apps[0]

    def url(self, worker: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[worker]}"

    async def person(self, *roles: str, worker: int = 0, user_id: UUID | None = None, locale: str = "en") -> Person:
        """A new user with these roles (customer unless told)."""
        user = user_id or uuid4()
        names = list(roles) or ["customer"]
        token = self.app.accounts.mint(user, names, 3600)
        http = await self._stack.enter_async_context(Http(self.url(worker), token, locale=locale))
        return Person(user, token, http, self, names)

    async def provider(
        self,
        *,
        service_types: Sequence[str] = ("ride",),
        approved: bool = True,
        worker: int = 0,
        radius_m: int | None = None,
    ) -> Person:
        """A new user with a provider record, approved unless told otherwise, offline and without a socket."""
        person = await self.person(worker=worker)
        self._phones += 1
        made = await person.http.register(
            first_name="Somchai",
            last_name=f"Nr {self._phones}",
            email=f"{person.user_id}@test.invalid",
            phone_number=f"0{self._phones:09d}",
            service_types=list(service_types),
        )
        person.provider_id = made["provider_id"]
        if radius_m is not None:
            await person.http.patch_provider(service_radius_m=radius_m)
        if approved:
            await self.approve(person)
        return person

    async def approve(self, person: Person) -> dict[str, Any]:
        """An admin approves this provider, whose e-mail address counts as proved. What the admin is answered."""
        await self.sql(
            "INSERT INTO verified_emails VALUES ($1, $2) ON CONFLICT DO NOTHING",
            person.user_id,
            f"{person.user_id}@test.invalid",
        )
        admin = await self.admin()
        answer: dict[str, Any] = await admin.http.provider_action(UUID(person.provider_id), AdminAction.APPROVE)
        return answer

    async def admin(self) -> Person:
        if not hasattr(self, "_admin"):
            self._admin = await self.person("admin")
        return self._admin

    @asynccontextmanager
    async def working(
        self, *, at: tuple[float, float] = BANGKOK, worker: int = 0, **given: Any
    ) -> AsyncIterator[tuple[Person, Client]]:
        """A new approved provider, connected, online and known as a candidate."""
        person = await self.provider(worker=worker, **given)
        async with person.connected(worker=worker) as client:
            await client.online(*at)
            await self.listed(person)
            yield person, client

    async def listed(self, person: Person, worker: int = 0) -> None:
        """Until searches can find this provider: his worker has put him on the map."""
        async with asyncio.timeout(WITHIN_S):
            while not any((live := app.presence.of(person.user_id)) and live.listed for app in self.apps):
                await asyncio.sleep(0)

    async def request(
        self,
        customer: Person,
        *,
        at: tuple[float, float] = BANGKOK,
        to: tuple[float, float] | None = (13.7463, 100.5348),
        service_type: str = "ride",
        **given: Any,
    ) -> dict[str, Any]:
        """A job of this customer."""
        drop = None if to is None else {"lat": to[0], "lng": to[1], "address": "Siam Square"}
        job: dict[str, Any] = await customer.http.create_job(
            service_type, {"lat": at[0], "lng": at[1], "address": "Khao San Road 1"}, drop, **given
        )
        return job

    async def searched(self, job_id: UUID) -> None:
        """Until the first search of this job is over: an offer, or the next one later than a moment after its request."""
        await self.becomes(
            job_id, "searched_until IS NULL AND (round > 0 OR next_search_at > created_at + interval '1500 ms')"
        )

    async def becomes(self, job_id: UUID, condition: str) -> None:
        """Until this is true of the job's row."""
        async with asyncio.timeout(WITHIN_S):
            while not await self.sql(f"SELECT 1 FROM jobs WHERE id = $1 AND {condition}", job_id):
                await asyncio.sleep(0)

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Ask the judge, past all row security."""
        conn = await asyncpg.connect(self.settings.database_url, server_settings={"search_path": "dispatch"})
        try:
            rows: list[asyncpg.Record] = await conn.fetch(query, *args)
            return rows
        finally:
            await conn.close()


@asynccontextmanager
async def serving(
    database_url: str, redis_url: str, *, workers: int = 1, clock: Clock | None = None, **given: Any
) -> AsyncIterator[Server]:
    """A server of `workers` workers in this process, each with its own port."""
    settings = settings_for(database_url, redis_url, **given)
    async with AsyncExitStack() as stack:
        apps, ports = [], []
        for slot in range(workers):
            app = await stack.enter_async_context(build(settings, slot=slot, clock=clock, metrics=Metrics()))
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            await stack.enter_async_context(app.listen(listener))
            apps.append(app)
            ports.append(listener.getsockname()[1])
        async with AsyncExitStack() as clients:
            yield Server(settings, apps, ports, clients)


async def denied(work: Any) -> Denied:
    """The refusal that `work` ends in; AssertionError when it does not."""
    try:
        answer = await work
    except Denied as refusal:
        return refusal
    raise AssertionError(f"not refused: {answer}")


@contextlib.contextmanager
def code(expected: str) -> Any:
    """Assert that the block is denied with this code."""
    try:
        yield
    except Denied as refusal:
        assert refusal.code == expected, f"denied with {refusal.code}, not {expected}: {refusal}"
    else:
        raise AssertionError(f"not denied, expected {expected}")
