"""What a hard look at the running server found: each was a hole once."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from protocol.errors import OFFLINE_TEXT, ONLINE_TEXT
from protocol.http import Http
from tests.support.dialled import dialled
from tests.support.server import BANGKOK, WITHIN_S, Server, denied, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_a_line_reset_right_after_hello_leaves_no_seat_behind(server: Server) -> None:
    people = [await server.provider() for _ in range(5)]
    for person in people:
        line = dialled(server, person)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
    async with asyncio.timeout(WITHIN_S):
        while server.app.door.connections:
            await asyncio.sleep(0)
    assert not list(server.app.inbox.seats()), "ghost seats"
    async with asyncio.timeout(WITHIN_S):
        while await server.sql("SELECT 1 FROM sockets WHERE lost_at IS NULL"):
            await asyncio.sleep(0)


async def test_buffered_fixes_are_judged_like_any_other(server: Server) -> None:
    """Else a phone could drive across the country between two fixes, and be paid for it."""
    customer = await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], offer["offer_id"])
        for stage in ("arrived", "in_progress"):
            await phone.advance(job["id"], stage)
        live = server.app.presence.of(driver.user_id)
        assert live is not None
        from dispatch.presence.sockets import signals
        from protocol.frames import Fix, Locations

        now = datetime.now(UTC)
        wild = [
            Fix(lat=BANGKOK[0] + (n % 2), lng=BANGKOK[1], at=now + timedelta(milliseconds=10 * n)) for n in range(50)
        ]
        far = [Fix(lat=BANGKOK[0], lng=BANGKOK[1], at=datetime.fromisoformat("9999-12-31T23:59:58-23:00"))] * 2
        take = signals(server.app.presence, server.app.tracking.walk)[Locations]
        (seat,) = server.app.inbox.seats_of(driver.user_id)
        for points in (wild, far):
            with pytest.raises(Exception) as refused:
                take(seat.line, Locations(points=points))
            assert refused.value.code in ("POSITION_REJECTED", "CLOCK_SKEW")
        assert server.app.tracking.peek(UUID(job["id"])).distance_m < 1_000
        done = (await phone.advance(job["id"], "completed", distance_m=8_000_000))["job"]
        assert done["distance_m"] <= 2_000


async def test_the_last_word_of_a_connection_wins(server: Server) -> None:
    async with server.working() as (driver, phone):
        for turn in range(10):
            await asyncio.gather(phone.online(*BANGKOK), phone.offline())
            assert not (await driver.http.provider())["is_online"], f"turn {turn}: offline was said last"


async def test_the_kernel_hides_no_stalled_reader(server: Server) -> None:
    person = await server.person()
    async with person.connected():
        (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
        held = conn._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert held <= 2 * 64 * 1024, "the kernel doubles what it is asked for, and no more"


async def test_a_statement_that_is_held_up_is_busy_and_no_error(server: Server) -> None:
    customer = await server.person()
    job = await server.request(customer)
    holder = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    change = holder.transaction()
    await change.start()
    await holder.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", UUID(job["id"]))
    import aiohttp

    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {customer.token}"}) as session,
        session.post(f"{server.url()}/v1/jobs/{job['id']}/cancel", json={}) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "BUSY")
    await change.rollback()
    await holder.close()


async def test_only_customers_ask_for_jobs(server: Server) -> None:
    clerk = await server.person("support")
    assert (await denied(server.request(clerk))).code == "FORBIDDEN"


async def test_a_provider_who_declined_does_not_get_the_job_from_the_board(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        await phone.decline(offer["offer_id"])
        assert (await denied(phone.accept(job["id"]))).details == {"status": "expired"}
        assert (await denied(phone.accept(job["id"], round=77))).details == {"status": "expired"}
        assert (await denied(driver.http.job(job["id"]))).code == "JOB_NOT_FOUND", "nor does he see it any more"


async def test_the_place_of_a_former_provider_is_not_shown(server: Server) -> None:
    customer, admin = await server.person(), await server.admin()
    async with server.working(at=(13.7696, 100.5018)) as (one, first), customer.connected() as app:
        job = await server.request(customer)
        offer = (await one.inbox.named("offer.created")).data
        await first.accept(job["id"], offer["offer_id"])
        first.locate(13.7696, 100.5018)
        async with asyncio.timeout(WITHIN_S):
            while not await server.app.redis.plain.exists(f"{{j:{job['id']}}}:fix"):
                await asyncio.sleep(0)
        await admin.http.release(job["id"], "wrong car")
        async with server.working(at=(13.75, 100.5018)) as (two, second):
            other = (await two.inbox.named("offer.created")).data
            await second.accept(job["id"], other["offer_id"])
            await app.track(job["id"])
            await customer.inbox.until(lambda: customer.inbox.positions)
            assert [round(position.lat, 3) for position in customer.inbox.positions] == [13.75]


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": "k" * 201}, {"Idempotency-Key": "\xff\xfe"}, {"Content-Encoding": "gzip"}]
)
async def test_odd_headers_are_bad_requests(server: Server, headers: dict[str, str]) -> None:
    import aiohttp

    person = await server.person()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session,
        session.post(f"{server.url()}/v1/jobs/{uuid4()}/cancel", data=b"{}", headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "query",
    [
        "limit=" + "9" * 5_000,
        "cursor=MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OSA2ZjlhNjE5ZS04Yjg2LTRkMDEtYjQyZC0wMGNmNGZjOTY0ZmY=",
    ],
)
async def test_odd_queries_are_bad_requests(server: Server, query: str) -> None:
    person = await server.person()
    assert (await denied(person.http.call("GET", f"/v1/jobs?{query}"))).code == "VALIDATION_ERROR"


async def test_whoever_reads_arabic_is_answered_in_a_language_that_messages_have(server: Server) -> None:
    """Letters are in Arabic too, messages are not: to go online was an internal error for him, and so was to be warned."""
    driver = await server.provider()
    async with Http(server.url(), driver.token) as http:
        await http.patch_me(locale="ar")
        assert (await http.set_online(True, *BANGKOK))["message"] == ONLINE_TEXT["th"]
        assert (await http.set_online(False))["message"] == OFFLINE_TEXT["th"]
