"""The real command, real processes: a worker killed in mid-traffic, Postgres' and Redis' connections cut, an orderly end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from dispatch.accounts import mint
from dispatch.kit.clock import SystemClock
from dispatch.settings import Settings
from protocol.client import Client
from protocol.http import Http
from tests.support.server import BANGKOK, Inbox

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 60.0
HEALED_WITHIN_S = 30.0


@dataclass
class Running:
    url: str
    process: asyncio.subprocess.Process
    database_url: str

    def workers(self) -> list[int]:
        """Process ids of the workers: children of the supervisor that run our code."""
        found = []
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
        return found

    def token(self, user: object, *roles: str) -> str:
        s = Settings()
        return mint(
            user,  # type: ignore[arg-type]
            list(roles) or ["customer"],
            secret=s.jwt_secrets[0].get_secret_value(),
            issuer=s.jwt_issuer,
            audience=s.jwt_audience,
            roles_claim=s.jwt_roles_claim,
            at=SystemClock().now(),
            ttl_s=600,
        )


@asynccontextmanager
async def served(database_url: str, redis_url: str, **given: str) -> AsyncIterator[Running]:
    """`dispatch serve` with two workers on these stores, ended by SIGTERM; its exit code must be 0."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")}
    env |= {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "DISPATCH_ADDRESS_RATE": "0",
        "DISPATCH_DRAIN_S": "0",
        "DISPATCH_REQUIRED_DOCUMENTS": "{}",
        "DISPATCH_MAIL_BY": "off",
        **given,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatch", "serve", "--workers", "2", "--port", "0", cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    log = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(START_WITHIN_S):
            while not (line := await process.stdout.readline()).startswith(b"ready: "):
                assert line, (await log).decode()
        rest = asyncio.create_task(process.stdout.read())
        yield Running(line.split()[1].decode(), process, database_url)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0, (await log).decode()
            await rest
    except BaseException:
        process.kill()
        print((await log).decode())
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await log


async def sql(url: str, query: str, *args: object) -> list[asyncpg.Record]:
    conn = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
    try:
        rows: list[asyncpg.Record] = await conn.fetch(query, *args)
        return rows
    finally:
        await conn.close()


async def approved(server: Running) -> tuple[object, str]:
    user = uuid4()
    async with Http(server.url, server.token(user)) as own, Http(server.url, server.token(uuid4(), "admin")) as office:
        made = await own.register(
            first_name="Som",
            last_name="Chai",
            email=f"{user}@test.invalid",
            phone_number=f"0{user.int % 10**9:09d}",
            service_types=["ride"],
        )
        await sql(server.database_url, "INSERT INTO verified_emails VALUES ($1, $2)", user, f"{user}@test.invalid")
        await office.provider_action(made["provider_id"], "approve")
    return user, made["provider_id"]


@asynccontextmanager
async def on_the_road(server: Running, inbox: Inbox, user: object) -> AsyncIterator[Client]:
    async with Client(
        server.url, server.token(user), device="phone", on_event=inbox.event, on_snapshot=inbox.snapshot
    ) as phone:
        await phone.online(*BANGKOK)
        yield phone


async def one_ride(server: Running, phone: Client, driver: Inbox, customer: Http, told: Inbox, *, nth: int) -> None:
    """A job from request to completion; asks again and again, as phones do."""
    phone.locate(*BANGKOK)
    job = await customer.create_job("ride", {"lat": BANGKOK[0], "lng": BANGKOK[1], "address": "here"})
    async with asyncio.timeout(HEALED_WITHIN_S):
        made = await _offer(driver, job["id"], phone)
        await phone.accept(job["id"], made["offer_id"], made["round"])
        for stage in ("arrived", "in_progress", "completed"):
            await phone.advance(job["id"], stage)
    await told.status(job["id"], "completed")


async def _offer(driver: Inbox, job_id: str, phone: Client) -> dict[str, object]:
    while True:
        phone.locate(*BANGKOK)
        live = [e.data for e in driver.events if e.name == "offer.created" and e.data["job"]["id"] == job_id]
        gone = {e.data["offer_id"] for e in driver.events if e.name == "offer.withdrawn"}
        if open_ones := [offer for offer in live if offer["offer_id"] not in gone]:
            return open_ones[-1]
        try:
            async with asyncio.timeout(1.0):
                seen = len(driver.events)
                await driver.until(lambda seen=seen: len(driver.events) > seen)
        except TimeoutError:
            continue  # a fix every second keeps him a candidate


async def head_of(url: str, person: object) -> int:
    head: int = (await sql(url, "SELECT seq FROM inbox_head WHERE user_id = $1", person))[0]["seq"]
    return head


async def all_told(url: str, *people: tuple[Inbox, object]) -> None:
    """Once the history is read to its end (notifications are made of it a moment later) and each phone has his newest event."""
    async with asyncio.timeout(HEALED_WITHIN_S):
        while (
            await sql(
                url,
                "SELECT FROM job_events e, job_event_readers r WHERE (e.xid, e.job_id, e.version) > (r.xid, r.job_id, r.version)",
            )
        ) or [inbox for inbox, person in people if inbox.events[-1].seq != await head_of(url, person)]:
            await asyncio.sleep(0.05)


async def test_a_worker_killed_in_mid_traffic_loses_nothing(database_url: str, redis_url: str) -> None:
    """F1: every socket comes back, every history is a prefix without a gap, rides go on."""
    async with served(database_url, redis_url) as server:
        user, _ = await approved(server)
        customer_id = uuid4()
        driver, told = Inbox(), Inbox()
        async with (
            Http(server.url, server.token(customer_id)) as customer,
            Client(server.url, server.token(customer_id), device="app", on_event=told.event) as app,
            on_the_road(server, driver, user) as phone,
        ):
            await one_ride(server, phone, driver, customer, told, nth=1)
            for victim in server.workers():
                os.kill(victim, signal.SIGKILL)
                await one_ride(server, phone, driver, customer, told, nth=2)
            assert phone.welcomes + app.welcomes >= 4, "both workers died: both sockets came back at least once"
            await all_told(database_url, (driver, user), (told, customer_id))
        for inbox, person in ((driver, user), (told, customer_id)):
            applied = [event.seq for event in inbox.events]
            first = applied[0]
            assert applied == list(range(first, first + len(applied))), "a gap, or one twice"
            assert applied[-1] == (await head_of(database_url, person))
        rows = await sql(database_url, "SELECT status, count(*) AS n FROM jobs GROUP BY status")
        assert {row["status"]: row["n"] for row in rows} == {"completed": 3}


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_rides_go_on_when_every_connection_to_a_store_is_cut(
    database_url: str, redis_url: str, store: str
) -> None:
    """F7, F10: all connections reset at once, new ones welcome: what was under way is busy for a moment, and nothing is lost."""
    async with Proxy(database_url if store == "postgres" else redis_url) as line:
        urls = (line.url, redis_url) if store == "postgres" else (database_url, line.url)
        async with served(*urls) as server:
            user, _ = await approved(server)
            customer_id = uuid4()
            driver, told = Inbox(), Inbox()
            async with (
                Http(server.url, server.token(customer_id)) as customer,
                Client(server.url, server.token(customer_id), device="app", on_event=told.event),
                on_the_road(server, driver, user) as phone,
            ):
                await one_ride(server, phone, driver, customer, told, nth=1)
                line.cut()
                await one_ride(server, phone, driver, customer, told, nth=2)
            applied = [event.seq for event in told.events]
            assert applied == list(range(1, len(applied) + 1))
