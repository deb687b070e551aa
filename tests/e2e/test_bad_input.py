"""Bad input gets its code, and the server goes on serving: after each of these a bystander's socket still answers."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from protocol import codec
from tests.support.server import BANGKOK, WITHIN_S, Person, Server, denied, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    """A server with a bystander, whose socket must live and answer to the end of every test."""
    async with serving(database_url, redis_url) as running:
        bystander = await running.person()
        async with bystander.connected() as phone:
            yield running
            await phone.untrack(uuid4())
            assert phone.welcomes == 1, "somebody else's failure closed a bystander's socket"
            assert (await running.person()).http is not None
            async with aiohttp.ClientSession() as session, session.get(f"{running.url()}/readyz") as answer:
                assert answer.status == 200


class Raw:
    """A socket without a client: what is sent is what the test says."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, frame: Any) -> None:
        await self.ws.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            while True:
                message = await self.ws.receive()
                assert message.type is aiohttp.WSMsgType.TEXT, f"closed with {self.ws.close_code} instead"
                frame: dict[str, Any] = json.loads(message.data)
                if wanted(frame):
                    return frame

    async def refusal(self, frame: Any) -> dict[str, Any]:
        """The error that this frame is answered by, in a reply or an error frame."""
        await self.send(frame)
        answer = await self.until(lambda f: f["type"] == "error" or (f["type"] == "reply" and not f["ok"]))
        error: dict[str, Any] = answer["error"]
        return error

    async def closed(self) -> int | None:
        async with asyncio.timeout(WITHIN_S):
            while not self.ws.closed:
                await self.ws.receive()
        return self.ws.close_code

    async def hello(self, device: str = "raw") -> None:
        await self.send({"type": "hello", "device": device, "attempt": 1})
        await self.until(lambda f: f["type"] == "snapshot")


@asynccontextmanager
async def raw(
    server: Server, person: Person, *, greet: bool = True, protocols: tuple[str, ...] = ("dispatch.v1",)
) -> AsyncIterator[Raw]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{server.url()}/v1/socket",
            protocols=protocols,
            headers={"Authorization": f"Bearer {person.token}"},
            autoping=True,
        ) as ws,
    ):
        line = Raw(ws)
        if greet:
            await line.hello()
        yield line


ID = str(uuid4())

FRAMES = [
    ("{", "BAD_FRAME"),
    ("[]", "BAD_FRAME"),
    ("{}", "BAD_FRAME"),
    ('{"type":"warp"}', "BAD_FRAME"),
    ('{"type":"hello","device":"raw","attempt":2}', "BAD_FRAME"),
    ('{"type":"location","lat":NaN,"lng":100.5,"at":"2026-01-01T00:00:00Z"}', "BAD_FRAME"),
    ('{"type":"location","lat":95,"lng":100.5,"at":"2026-01-01T00:00:00Z"}', "INVALID_COORDINATES"),
    ('{"type":"location","lat":"x","lng":100.5,"at":"2026-01-01T00:00:00Z"}', "INVALID_COORDINATES"),
    ('{"type":"location","lat":13.7,"lng":100.5,"at":"yesterday"}', "VALIDATION_ERROR"),
    ('{"type":"location","lat":13.7,"lng":100.5}', "BAD_FRAME"),
    (f'{{"type":"accept","id":"{ID}"}}', "BAD_FRAME"),
    (f'{{"type":"accept","id":"{ID}","job_id":"no uuid"}}', "VALIDATION_ERROR"),
    (f'{{"type":"accept","id":"{ID}","id":"{ID}","job_id":"{ID}"}}', "BAD_FRAME"),
    (f'{{"type":"online","id":"{ID}","lat":13.7,"lng":100.5,"service_types":["teleport"]}}', "VALIDATION_ERROR"),
    (f'{{"type":"advance","id":"{ID}","job_id":"{ID}","to":"flying"}}', "VALIDATION_ERROR"),
    (f'{{"type":"accept","id":"{uuid4()}","job_id":"{uuid4()}"}}', "JOB_NOT_FOUND"),
    (f'{{"type":"accept","id":"{uuid4()}","job_id":"{uuid4()}","offer_id":"{uuid4()}"}}', "JOB_NOT_FOUND"),
    (f'{{"type":"decline","id":"{uuid4()}","offer_id":"{uuid4()}"}}', "OFFER_NOT_FOUND"),
    (f'{{"type":"advance","id":"{uuid4()}","job_id":"{uuid4()}","to":"arrived"}}', "JOB_NOT_FOUND"),
    (f'{{"type":"cancel","id":"{uuid4()}","job_id":"{uuid4()}"}}', "JOB_NOT_FOUND"),
    (f'{{"type":"track","id":"{uuid4()}","job_id":"{uuid4()}"}}', "JOB_NOT_FOUND"),
    (
        f'{{"type":"accept","id":"{uuid4()}","job_id":"{uuid4()}","offer_id":"{uuid4()}","round":{2**53}}}',
        "JOB_NOT_FOUND",
    ),
    ('{"type":"location","lat":13.7,"lng":100.5,"at":"0001-01-01T00:00:00+14:00"}', "POSITION_REJECTED"),
    ('{"type":"location","lat":13.7,"lng":100.5,"at":"9999-12-31T23:59:59-14:00"}', "CLOCK_SKEW"),
    (f'{{"type":"auth","id":"{uuid4()}","token":"nonsense"}}', "UNAUTHORIZED"),
    ('{"a":' * 12 + "1" + "}" * 12, "BAD_FRAME"),
    (f'{{"type":"cancel","id":"{uuid4()}","job_id":"\\ud800"}}', "BAD_FRAME"),
]


@pytest.mark.parametrize(("frame", "code"), FRAMES, ids=[f"{code}-{n}" for n, (_, code) in enumerate(FRAMES)])
async def test_a_bad_frame_gets_its_code_and_the_socket_stays_open(server: Server, frame: str, code: str) -> None:
    person = await server.provider()
    async with raw(server, person) as line:
        assert (await line.refusal(frame))["code"] == code
        assert (await line.refusal('{"type":"warp"}'))["code"] == "BAD_FRAME", "still listening"


async def test_a_frame_before_hello_is_not_processed(server: Server) -> None:
    provider = await server.provider()
    async with raw(server, provider, greet=False) as line:
        error = await line.refusal({"type": "online", "id": str(uuid4()), "lat": BANGKOK[0], "lng": BANGKOK[1]})
        assert error["code"] == "BAD_FRAME"
        assert not (await provider.http.provider())["is_online"]
        await line.hello()


async def test_a_binary_frame_closes_4400(server: Server) -> None:
    async with raw(server, await server.person()) as line:
        await line.ws.send_bytes(b"\0")
        assert await line.closed() == 4400


async def test_five_undecodable_frames_close_4400(server: Server) -> None:
    async with raw(server, await server.person()) as line:
        for _ in range(5):
            await line.send("{")
        assert await line.closed() == 4400


async def test_a_bug_in_judging_a_frame_costs_nobody_his_socket(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was answered by aiohttp's HTTP 500, in the middle of the socket."""

    def broken(data: str) -> None:
        raise ZeroDivisionError

    async with raw(server, await server.person()) as line:
        with monkeypatch.context() as patched:
            patched.setattr(codec, "decode_client", broken)
            assert (await line.refusal('{"type":"warp"}'))["code"] == "INTERNAL_ERROR"
        assert (await line.refusal('{"type":"warp"}'))["code"] == "BAD_FRAME"


async def test_another_subprotocol_closes_4400(server: Server) -> None:
    async with raw(server, await server.person(), greet=False, protocols=("chat",)) as line:
        assert await line.closed() == 4400


async def test_a_frame_of_17_kib_closes_1009_and_one_of_16_is_read(server: Server) -> None:
    async with raw(server, await server.person()) as line:
        filler = '{"type":"ack","seq":0,"pad":"%s"}'
        await line.send(filler % ("x" * (16 * 1024 - len(filler) + 2)))
        assert (await line.refusal('{"type":"warp"}'))["code"] == "BAD_FRAME"
        await line.send(filler % ("x" * 17 * 1024))
        assert await line.closed() in (1009, 4413)


async def test_more_than_ten_frames_a_second_are_limited_and_a_flood_is_not_answered_by_a_flood(server: Server) -> None:
    async with raw(server, await server.person()) as line:
        for _ in range(60):
            await line.send({"type": "ack", "seq": 0})
        assert (await line.until(lambda f: f["type"] == "error"))["error"]["code"] == "RATE_LIMITED"
        assert server.app.door.refused["RATE_LIMITED"] <= 2


async def test_a_client_that_never_reads_is_dropped_and_bounded(server: Server) -> None:
    """256 KiB may wait; the kernel's own buffers (64 KiB to send, the peer's to receive) come before that."""
    person = await server.person()
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", server.ports[0]))
    reader.sendall(
        b"GET /v1/socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: dispatch.v1\r\nAuthorization: Bearer "
        + person.token.encode()
        + b"\r\n\r\n"
    )
    reader.setblocking(False)
    door = server.app.door
    async with asyncio.timeout(WITHIN_S):
        while not (conn := next((c for c in door.connections.values() if c.user_id == person.user_id), None)):
            await asyncio.sleep(0)
    frame = b"x" * 8_000
    written = 0
    while conn.closing_since is None:
        conn.send(frame, person.user_id)
        written += len(frame)
        assert written < 64 * 1024 * 1024, "never bounded"
        await asyncio.sleep(0)
    assert conn._transport.get_write_buffer_size() < 300 * 1024
    conn.sweep(conn.closing_since + 3, datetime.now(UTC), 10.0)
    async with asyncio.timeout(WITHIN_S):
        while conn.conn_id in door.connections:
            await asyncio.sleep(0)
    reader.close()


async def test_a_frame_with_another_users_data_is_stopped(server: Server) -> None:
    """I13: the writer checks whose frame it is."""
    person = await server.person()
    async with person.connected():
        (seat,) = server.app.inbox.seats_of(person.user_id)
        seat.line.send(b'{"type":"error"}', uuid4())
        async with asyncio.timeout(WITHIN_S):
            while seat in server.app.inbox.seats_of(person.user_id):
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (lambda s: s.app.accounts.mint(uuid4(), [], -10), "SESSION_EXPIRED"),
        (lambda s: "x.y.z", "UNAUTHORIZED"),
        (lambda s: "", "UNAUTHORIZED"),
    ],
)
async def test_a_bad_token_is_401_at_both_doors(server: Server, token: Callable[[Server], str], code: str) -> None:
    headers = {"Authorization": f"Bearer {token(server)}"}
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with aiohttp.ClientSession() as session:
        for path, extra in (("/v1/me", {}), ("/v1/socket", upgrade)):
            async with session.get(server.url() + path, headers=headers | extra) as answer:
                assert answer.status == 401
                assert (await answer.json())["error"]["code"] == code


async def test_a_token_that_expires_under_way_closes_4401(server: Server) -> None:
    person = await server.person()
    async with raw(server, person) as line:
        (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
        conn.expires_at = datetime.now(UTC) - timedelta(seconds=1)
        assert await line.closed() == 4401


async def test_a_foreign_origin_is_403_and_the_own_one_is_welcome(server: Server) -> None:
    person = await server.person()
    url = f"{server.url()}/v1/socket"
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(url, origin="https://evil.example", protocols=["dispatch.v1"])
        assert refused.value.status == 403
        async with session.ws_connect(url, origin=server.url(), protocols=["dispatch.v1"]) as ws:
            assert ws.protocol == "dispatch.v1"


async def test_a_ticket_opens_one_socket_once_and_a_bad_one_closes_4401(server: Server) -> None:
    person = await server.person()
    ticket = (await person.http.socket_ticket())["ticket"]
    async with aiohttp.ClientSession() as session:
        for expected in (None, 4401):
            async with session.ws_connect(f"{server.url()}/v1/socket?ticket={ticket}", protocols=["dispatch.v1"]) as ws:
                line = Raw(ws)
                if expected is None:
                    await line.hello()
                else:
                    assert await line.closed() == expected


async def test_a_role_without_the_right_is_403(server: Server) -> None:
    person = await server.person()
    assert (await denied(person.http.admin_jobs())).code == "FORBIDDEN"
    assert (await denied(person.http.provider_action(str(uuid4()), "approve"))).code == "FORBIDDEN"
    assert (await denied(person.http.release(str(uuid4()), "because"))).code == "FORBIDDEN"


async def test_a_body_of_2_mib_is_413(server: Server) -> None:
    person = await server.person()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session,
        session.post(f"{server.url()}/v1/jobs", data=b"x" * 2 * 1024 * 1024) as answer,
    ):
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "BODY_TOO_LARGE"


BODIES: list[tuple[Any, int, str]] = [
    ("{", 400, "VALIDATION_ERROR"),
    ({"service_type": "ride"}, 400, "VALIDATION_ERROR"),
    ({"service_type": "teleport", "pickup": {"lat": 13.7, "lng": 100.5, "address": "x"}}, 400, "VALIDATION_ERROR"),
    ({"service_type": "ride", "pickup": {"lat": 95, "lng": 100.5, "address": "x"}}, 400, "INVALID_COORDINATES"),
    ('{"service_type":"ride","pickup":{"lat":NaN,"lng":100.5,"address":"x"}}', 400, "VALIDATION_ERROR"),
    ({"service_type": "ride", "pickup": {"lat": 13.7, "lng": 100.5, "address": "x" * 301}}, 400, "VALIDATION_ERROR"),
    ('{"service_type":"ride","pickup":{"lat":13.7,"lng":100.5,"address":"\\ud800"}}', 400, "VALIDATION_ERROR"),
    (
        {"service_type": "ride", "pickup": {"lat": 13.7, "lng": 100.5, "address": "x"}, "tip": 5},
        400,
        "VALIDATION_ERROR",
    ),
    ({"service_type": "ride", "pickup": {"lat": 51.5, "lng": -0.1, "address": "London"}}, 422, "OUTSIDE_MARKET"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), BODIES, ids=[f"{code}-{n}" for n, (_, _, code) in enumerate(BODIES)]
)
async def test_a_bad_request_for_a_job_gets_its_code(server: Server, body: Any, status: int, code: str) -> None:
    person = await server.person()
    data = body if isinstance(body, str) else json.dumps(body)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {person.token}"}) as session,
        session.post(f"{server.url()}/v1/jobs", data=data) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)


async def test_a_strangers_job_is_like_a_missing_one(server: Server) -> None:
    owner, stranger = await server.person(), await server.person()
    job = await server.request(owner)
    for work in (
        stranger.http.job(job["id"]),
        stranger.http.cancel(job["id"]),
        stranger.http.advance(job["id"], "arrived"),
    ):
        assert (await denied(work)).code == "JOB_NOT_FOUND"
    async with stranger.connected() as phone:
        assert (await denied(phone.track(job["id"]))).code == "JOB_NOT_FOUND"


async def test_accepts_that_cannot_be_get_their_codes(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        late = await server.provider()
        async with late.connected() as other:
            await other.online(18.79, 98.98)
            assert (await denied(other.accept(job["id"], str(uuid4())))).code == "OFFER_NOT_FOUND", "not his offer"
            assert (await denied(other.accept(job["id"]))).code == "OFFER_NOT_FOUND", "the board is for those in reach"
        assert (await denied(phone.advance(job["id"], "arrived"))).code == "FORBIDDEN", "an offer is no job"
        await phone.accept(job["id"], offer["offer_id"])
        again = await phone.accept(job["id"], offer["offer_id"])
        assert again["job"]["status"] == "accepted", "twice is once"
        assert (await denied(phone.advance(job["id"], "completed"))).code == "INVALID_STATUS_TRANSITION"
        assert (await denied(phone.cancel(job["id"]))).code == "REASON_REQUIRED"
        second = await server.request(await server.person())
        assert (await denied(phone.accept(second["id"]))).code == "PROVIDER_HAS_ACTIVE_JOB"
        await customer.http.cancel(job["id"])
        assert (await denied(phone.accept(job["id"], offer["offer_id"]))).details == {"status": "cancelled"}
        assert (await denied(customer.http.cancel(job["id"]))).code == "INVALID_STATUS_TRANSITION"


async def test_an_accept_after_expiry_says_expired(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, markets={"bkk": {"offer_ttl_s": 1.0, "open_board": False}}) as server:
        customer = await server.person()
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            offer = (await driver.inbox.named("offer.created")).data
            await driver.inbox.named("offer.withdrawn", reason="expired")
            refusal = await denied(phone.accept(job["id"], offer["offer_id"], offer["round"]))
            assert (refusal.code, refusal.details) == ("JOB_NOT_AVAILABLE", {"status": "expired"})


async def test_positions_that_cannot_be_get_their_codes(server: Server) -> None:
    provider = await server.provider()
    now = datetime.now(UTC)

    def fix(lat: float, lng: float, at: datetime) -> dict[str, Any]:
        return {"type": "location", "lat": lat, "lng": lng, "at": at.isoformat()}

    async with raw(server, provider) as line:
        await line.send({"type": "online", "id": str(uuid4()), "lat": BANGKOK[0], "lng": BANGKOK[1]})
        await line.until(lambda f: f["type"] == "reply")
        live = server.app.presence.of(provider.user_id)
        assert live is not None
        good = (live.lat, live.lng)
        for frame, code, why in (
            (fix(13.7, 100.5, now + timedelta(seconds=60)), "CLOCK_SKEW", None),
            (fix(13.7, 100.5, now - timedelta(seconds=60)), "POSITION_REJECTED", "stale"),
            (fix(13.7, 100.5, now - timedelta(seconds=5)), "POSITION_REJECTED", "out_of_order"),
            (fix(18.79, 98.98, now + timedelta(seconds=3)), "POSITION_REJECTED", "impossible"),
        ):
            error = await line.refusal(frame)
            assert error["code"] == code
            assert why is None or error["details"]["why"] == why
            assert (live.lat, live.lng) == good, "the last good one stays"
    assert server.app.presence.refused == {"future": 1, "stale": 1, "out_of_order": 1, "impossible": 1}


async def test_a_request_id_with_another_body_is_409(server: Server) -> None:
    person = await server.person()
    key = str(uuid4())
    first = await server.request(person, key=key)
    assert (await server.request(person, key=key)) == first, "the same body: the stored answer"
    assert (await denied(server.request(person, key=key, note="other"))).code == "IDEMPOTENCY_KEY_REUSED"
    assert len(await server.sql("SELECT 1 FROM jobs WHERE customer_id = $1", person.user_id)) == 1


async def test_no_hello_within_ten_seconds_closes_4408(server: Server) -> None:
    person = await server.person()
    async with raw(server, person, greet=False) as line:
        async with asyncio.timeout(WITHIN_S):
            while not (conns := [c for c in server.app.door.connections.values() if c.user_id == person.user_id]):
                await asyncio.sleep(0)
        conns[0].opened_at -= 11
        assert await line.closed() == 4408


async def test_pings_without_answer_close_4408(server: Server) -> None:
    person = await server.person()
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{server.url()}/v1/socket",
            protocols=["dispatch.v1"],
            headers={"Authorization": f"Bearer {person.token}"},
            autoping=False,
        ) as ws,
    ):
        await Raw(ws).hello()
        (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
        for _ in range(3):
            conn.next_ping_at = 0
            conn.sweep(server.app.clock.monotonic(), datetime.now(UTC), 10.0)
        async with asyncio.timeout(WITHIN_S):
            while not ws.closed:
                await ws.receive()
        assert ws.close_code == 4408


async def test_a_draining_server_sends_everybody_elsewhere(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url) as server:
        person = await server.person()
        async with raw(server, person) as line:
            await server.app.door.drain(5.0)
            bye = await line.until(lambda f: f["type"] == "bye")
            assert bye["reason"] == "draining"
            assert 0 <= bye["reconnect_after_ms"] <= 5_000
            assert await line.closed() == 1012
        async with aiohttp.ClientSession() as session, session.get(f"{server.url()}/readyz") as answer:
            assert answer.status == 503
        with pytest.raises((aiohttp.WSServerHandshakeError, aiohttp.ClientError)):
            async with raw(server, person):
                pass
