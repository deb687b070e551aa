"""The reference client against a small real server: its own ServerSession over `websockets` on loopback."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request as Handshake
from websockets.http11 import Response
from websockets.typing import Subprotocol

from protocol import codec
from protocol.client import RESEND_AFTER_S, Client
from protocol.errors import ByeReason, Denied, ErrorCode
from protocol.frames import (
    SUBPROTOCOL,
    Accept,
    Ack,
    Advance,
    Auth,
    ClientFrame,
    ErrorObject,
    Event,
    Hello,
    Location,
    Locations,
    Offline,
    Online,
    Position,
    Snapshot,
    Track,
    Untrack,
    Welcome,
)
from protocol.lifecycle import Stage
from protocol.session import ClientSession, Resume, ServerSession

AT = datetime(2026, 11, 20, 10, 36, tzinfo=UTC)
BUSY = {"retry_after_ms": 1}


class Line:
    """The server's end of one socket, after the welcome."""

    def __init__(self, ws: ServerConnection, hello: Hello) -> None:
        self.ws = ws
        self.hello = hello
        self.authorization = ws.request.headers["Authorization"] if ws.request else ""
        self.session = ServerSession()

    async def read(self) -> ClientFrame:
        """The next frame but acks."""
        while isinstance(frame := codec.decode_client(await self.ws.recv(decode=False)), Ack):
            pass
        return frame

    async def acks(self, upto: int) -> list[int]:
        """The acks up to and with `upto`."""
        seqs: list[int] = []
        while not seqs or seqs[-1] < upto:
            frame = codec.decode_client(await self.ws.recv(decode=False))
            assert isinstance(frame, Ack)
            seqs.append(frame.seq)
        return seqs

    async def send(self, data: bytes) -> None:
        await self.ws.send(data, text=True)

    async def event(self, seq: int) -> None:
        await self.send(codec.event(seq, "job.updated", b'{"n":%d}' % seq, codec.wire_time(AT)))

    async def answer(self, frame: Any, data: bytes = b"{}") -> None:
        await self.send(codec.reply_ok(frame.id, data))

    async def deny(self, frame: Any, code: ErrorCode, details: dict[str, Any] | None = None) -> None:
        await self.send(codec.reply_error(frame.id, code, "no", details))


class Server:
    """Welcomes, resumes and snapshots; everything after that is the test's, through `lines`."""

    def __init__(self) -> None:
        self.url = ""
        self.lines: asyncio.Queue[Line] = asyncio.Queue()
        self.newest = 0
        self.heartbeat_s = 15.0
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.closes: list[int] = []
        self.handshakes = 0
        self.mute = 0

    def handshake(self, ws: ServerConnection, request: Handshake) -> Response | None:
        self.handshakes += 1
        if not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        response = ws.respond(HTTPStatus(status), "")
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def handle(self, ws: ServerConnection) -> None:
        hello = codec.decode_client(await ws.recv(decode=False))
        assert isinstance(hello, Hello)
        if self.closes:
            await ws.close(self.closes.pop(0))
            return
        if self.mute:
            self.mute -= 1
            await ws.wait_closed()
            return
        line = Line(ws, hello)
        plan = line.session.hello(hello, epoch="e1", newest=self.newest, floor=0)
        resumed = isinstance(plan, Resume)
        await line.send(codec.encode(Welcome("s", "e1", self.newest, resumed, self.heartbeat_s, AT, AT)))
        if isinstance(plan, Resume):
            for seq in range(plan.after + 1, self.newest + 1):
                await line.event(seq)
        else:
            await line.send(codec.snapshot("e1", self.newest, None, [], []))
        self.lines.put_nowait(line)
        await ws.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    it = Server()
    async with serve(
        it.handle,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        process_request=it.handshake,
        compression=None,
        ping_interval=None,
        close_timeout=1,
    ) as running:
        it.url = f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        yield it


class Phone:
    """What the callbacks of one client have seen."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.snapshots: list[Snapshot] = []
        self.positions: asyncio.Queue[Position] = asyncio.Queue()
        self.errors: asyncio.Queue[ErrorObject] = asyncio.Queue()
        self.applied: asyncio.Queue[int] = asyncio.Queue()

    def on_event(self, event: Event) -> None:
        self.seqs.append(event.seq)
        self.applied.put_nowait(event.seq)

    async def until(self, seq: int) -> None:
        while await self.applied.get() < seq:
            pass


def at_once(bound_s: float) -> float:
    return 0.0


@asynccontextmanager
async def connected(server: Server, phone: Phone | None = None, **options: Any) -> AsyncIterator[tuple[Client, Line]]:
    phone = phone or Phone()
    options = {"token": "t0", "device": "d1", "clock": lambda: AT, "jitter": at_once, **options}
    async with Client(
        server.url,
        on_event=phone.on_event,
        on_snapshot=phone.snapshots.append,
        on_position=phone.positions.put_nowait,
        on_error=phone.errors.put_nowait,
        **options,
    ) as client:
        yield client, await server.lines.get()


def id_of(frame: ClientFrame) -> UUID:
    assert not isinstance(frame, Hello | Location | Locations | Ack)
    return frame.id


async def denial(asking: Awaitable[object]) -> Denied:
    """The no that `asking` is answered by."""
    with pytest.raises(Denied) as caught:
        await asking
    return caught.value


# --- coming to life, resuming, acking


async def test_a_client_comes_to_life_with_a_snapshot(server: Server) -> None:
    server.newest = 4
    phone = Phone()
    async with connected(server, phone) as (client, line):
        assert line.hello == Hello("d1", 1)
        assert line.authorization == "Bearer t0"
        assert line.ws.subprotocol == SUBPROTOCOL
        assert [snapshot.seq for snapshot in phone.snapshots] == [4]
        assert (client.session.epoch, client.session.seq, client.welcomes) == ("e1", 4, 1)
        assert await line.acks(4) == [4]
    assert client.closed.is_set()


async def test_a_burst_of_events_is_applied_in_order_and_acked_at_once(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (_, line):
        for seq in range(1, 101):
            await line.event(seq)
        await phone.until(100)
        assert phone.seqs == list(range(1, 101))
        assert len(await line.acks(100)) < 5


async def test_what_was_applied_is_acked_before_leaving(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (_, line):
        await line.event(1)
        await phone.until(1)
    assert (await line.acks(1))[-1] == 1


async def test_a_lost_line_is_resumed_where_it_stood(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (client, line):
        await line.event(1)
        await phone.until(1)
        server.newest = 3
        client.drop()
        again = await server.lines.get()
        assert again.hello.attempt == 2
        assert again.hello.resume is not None
        assert (again.hello.resume.epoch, again.hello.resume.seq) == ("e1", 1)
        await phone.until(3)
        assert phone.seqs == [1, 2, 3]
        assert len(phone.snapshots) == 1


async def test_repeats_are_dropped(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (_, line):
        for seq in (1, 1, 2, 1, 2, 3):
            await line.event(seq)
        await phone.until(3)
        assert phone.seqs == [1, 2, 3]


async def test_a_gap_is_closed_by_a_reconnect(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (_, line):
        await line.event(1)
        server.newest = 3
        await line.event(3)
        await server.lines.get()
        await phone.until(3)
        assert phone.seqs == [1, 2, 3]


async def test_a_kept_position_survives_a_restart_of_the_app(server: Server) -> None:
    server.newest = 9
    phone = Phone()
    async with connected(server, phone, session=ClientSession("e1", 7), attempt=4) as (_, line):
        assert line.hello.attempt == 5
        await phone.until(9)
        assert (phone.seqs, phone.snapshots) == ([8, 9], [])


async def test_frames_of_a_later_version_are_skipped(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (_, line):
        await line.send(b'{"type":"weather","rain":true}')
        await line.event(1)
        await phone.until(1)


# --- requests


async def test_a_request_returns_the_data_of_its_reply(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(client.online(13.7563, 100.5018))
        frame = await line.read()
        assert isinstance(frame, Online) and (frame.lat, frame.lng) == (13.7563, 100.5018)
        await line.send(codec.reply_ok(uuid4(), b'{"not":"his"}'))
        await line.answer(frame, b'{"is_online":true}')
        assert await asked == {"is_online": True}


async def test_a_final_no_is_raised_with_its_details(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(denial(client.accept(uuid4(), uuid4(), 1)))
        await line.deny(await line.read(), ErrorCode.JOB_NOT_AVAILABLE, {"status": "accepted"})
        denied = await asked
        assert (denied.code, denied.details) == ("JOB_NOT_AVAILABLE", {"status": "accepted"})


async def test_busy_is_asked_again_with_the_same_id(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(client.accept(uuid4()))
        first = await line.read()
        await line.deny(first, ErrorCode.BUSY, BUSY)
        second = await line.read()
        assert first == second
        await line.deny(second, ErrorCode.BUSY, BUSY)
        await line.answer(await line.read(), b'{"job":{}}')
        assert await asked == {"job": {}}


async def test_an_open_request_is_asked_again_with_the_same_id_on_the_next_line(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.client.RESEND_AFTER_S", 60.0)
    async with connected(server, answer_timeout_s=5.0) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(client.accept(uuid4()))
        first = await line.read()
        client.drop()
        again = await server.lines.get()
        second = await again.read()
        assert first == second
        await again.answer(second, b'{"job":{}}')
        assert await asked == {"job": {}}


async def test_a_request_made_without_a_line_waits_for_one(server: Server) -> None:
    async with connected(server) as (client, _), asyncio.TaskGroup() as group:
        client.drop()
        asked = group.create_task(client.offline())
        again = await server.lines.get()
        frame = await again.read()
        assert isinstance(frame, Offline)
        await again.answer(frame)
        await asked


async def test_silence_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RESEND_AFTER_S == 5.0
    monkeypatch.setattr("protocol.client.RESEND_AFTER_S", 0.01)
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(client.decline(uuid4()))
        first, second = await line.read(), await line.read()
        assert first == second
        await line.answer(second)
        await asked


async def test_patience_ends_with_busy(server: Server) -> None:
    async with connected(server) as (client, _):
        assert (await denial(client.accept(uuid4(), timeout_s=0.01))).code == ErrorCode.BUSY


async def test_an_error_frame_with_an_id_answers_its_request(server: Server) -> None:
    phone = Phone()
    async with connected(server, phone) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(denial(client.cancel(uuid4(), "tired")))
        frame = await line.read()
        await line.send(codec.error(ErrorCode.BAD_FRAME, "without an id"))
        assert (await phone.errors.get()).code == "BAD_FRAME"
        await line.send(codec.error(ErrorCode.VALIDATION_ERROR, "with it", None, id_of(frame)))
        assert (await asked).code == "VALIDATION_ERROR"


async def test_one_id_waits_once(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        frame = Accept(uuid4(), uuid4())
        asked = group.create_task(client.request(frame))
        await line.read()
        with pytest.raises(ValueError, match="already waiting"):
            await client.request(frame)
        await line.answer(frame)
        await asked


async def test_advance_and_auth_say_what_they_are_told(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        moved = group.create_task(client.advance(uuid4(), Stage.COMPLETED, distance_m=1200, duration_s=60))
        frame = await line.read()
        assert isinstance(frame, Advance)
        assert (frame.to, frame.distance_m) == (Stage.COMPLETED, 1200.0)
        await line.answer(frame)
        await moved
        prolonged = group.create_task(client.auth("t1"))
        fresh = await line.read()
        assert isinstance(fresh, Auth) and fresh.token == "t1"
        await line.answer(fresh)
        await prolonged
        client.drop()
        assert (await server.lines.get()).authorization == "Bearer t1"


# --- positions


async def test_a_position_is_stamped_with_the_servers_time(server: Server) -> None:
    late = AT - timedelta(seconds=90)
    async with connected(server, clock=lambda: late) as (client, line):
        assert client.server_time_offset == timedelta(seconds=90)
        assert client.locate(13.7563, 100.5018, heading_deg=90)
        assert await line.read() == Location(13.7563, 100.5018, AT, heading_deg=90.0)


async def test_positions_without_a_line_are_kept_and_sent_with_the_next_one(server: Server) -> None:
    async with connected(server) as (client, _):
        client.drop()
        sent = [client.locate(float(n % 90), 2.0) for n in range(70)]
        assert sent == [False] * 70
        frame = await (await server.lines.get()).read()
        assert isinstance(frame, Locations)
        assert [fix.lat for fix in frame.points] == [float(n % 90) for n in range(10, 70)]


async def test_tracking_is_asked_for_anew_after_a_reconnect_until_the_job_is_over(server: Server) -> None:
    phone, job_id = Phone(), uuid4()
    async with connected(server, phone) as (client, line), asyncio.TaskGroup() as group:
        tracked = group.create_task(client.track(job_id))
        first = await line.read()
        await line.answer(first)
        await tracked
        client.drop()
        line = await server.lines.get()
        second = await line.read()
        assert isinstance(second, Track) and second.job_id == job_id
        assert second.id != id_of(first)
        await line.send(codec.position(job_id, 1.0, 2.0, AT))
        assert (await phone.positions.get()).job_id == job_id
        await line.deny(second, ErrorCode.JOB_NOT_ACTIVE)
        await line.event(1)
        await phone.until(1)
        client.drop()
        line = await server.lines.get()
        untracked = group.create_task(client.untrack(job_id))
        frame = await line.read()
        assert isinstance(frame, Untrack)
        await line.answer(frame)
        await untracked


# --- closing and coming back


@pytest.mark.parametrize("code", [4400, 4403, 4409, 4410, 1009])
async def test_a_close_for_good_is_not_followed_by_another_try(server: Server, code: int) -> None:
    async with connected(server) as (client, line):
        await line.ws.close(code)
        await client.closed.wait()
        assert (client.close_code, server.handshakes) == (code, 1)
        assert (await denial(client.offline())).details == {"close_code": code}


async def test_an_open_request_fails_when_the_line_closes_for_good(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        asked = group.create_task(denial(client.accept(uuid4())))
        await line.read()
        await line.ws.close(4403)
        assert (await asked).code == ErrorCode.FORBIDDEN


async def test_a_server_that_does_not_welcome_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.client.WELCOME_WITHIN_S", 0.02)
    server.mute = 1
    async with connected(server) as (client, line):
        assert (line.hello.attempt, client.welcomes) == (2, 1)


@pytest.mark.parametrize("code", [1001, 1012, 4408, 4429, 1011])
async def test_other_closes_are_followed_by_another_try(server: Server, code: int) -> None:
    async with connected(server) as (client, line):
        await line.ws.close(code)
        await server.lines.get()
        assert client.close_code == code


async def test_a_client_waits_as_long_as_bye_says(server: Server) -> None:
    async with connected(server) as (_, line):
        before = asyncio.get_running_loop().time()
        await line.send(codec.bye(ByeReason.DRAINING, 60))
        await line.ws.close(1012)
        await server.lines.get()
        assert asyncio.get_running_loop().time() - before >= 0.06


async def test_a_dropped_phone_stays_away_as_told(server: Server) -> None:
    async with connected(server) as (client, _):
        before = asyncio.get_running_loop().time()
        client.drop(0.05)
        await server.lines.get()
        assert asyncio.get_running_loop().time() - before >= 0.05


async def test_tries_back_off_with_full_jitter_and_start_over_once_alive(server: Server) -> None:
    bounds: list[float] = []

    def jitter(bound_s: float) -> float:
        bounds.append(bound_s)
        return 0.0

    async with connected(server, jitter=jitter) as (client, line):
        server.refusals = [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
        await line.ws.close(1012)
        line = await server.lines.get()
        assert bounds == [0.5, 1.0, 2.0, 4.0]
        await client.live.wait()
        client.drop()
        await server.lines.get()
        assert bounds[4:] == [0.5]


async def test_a_bad_token_closes_for_good_unless_there_is_a_way_to_a_new_one(server: Server) -> None:
    async with connected(server) as (client, line):
        await line.ws.close(4401)
        await client.closed.wait()
    tokens = iter(["t0", "t1"])
    async with connected(server, token=lambda: next(tokens)) as (client, line):
        await line.ws.close(4401)
        assert (await server.lines.get()).authorization == "Bearer t1"


@pytest.mark.parametrize(("status", "code"), [(401, ErrorCode.UNAUTHORIZED), (403, ErrorCode.FORBIDDEN)])
async def test_a_refused_handshake_is_raised_on_entering(server: Server, status: int, code: ErrorCode) -> None:
    server.refusals = [(status, {})]
    with pytest.raises(Denied) as caught:
        async with connected(server):
            raise AssertionError("entered")
    assert (caught.value.code, server.handshakes) == (code, 1)


async def test_a_close_before_the_welcome_is_raised_on_entering(server: Server) -> None:
    server.closes = [4409]
    with pytest.raises(Denied) as caught:
        async with connected(server):
            raise AssertionError("entered")
    assert caught.value.details == {"close_code": 4409}


async def test_a_server_that_is_not_there_is_a_timeout(unused_tcp_port: int) -> None:
    with pytest.raises(TimeoutError):
        async with Client(
            f"http://127.0.0.1:{unused_tcp_port}", "t", device="d1", open_timeout_s=0.02, jitter=at_once
        ) as client:
            raise AssertionError(client)


async def test_a_silent_line_counts_as_dead(server: Server) -> None:
    server.heartbeat_s = 0.01
    async with connected(server) as (client, _):
        server.heartbeat_s = 15.0
        await server.lines.get()
        assert client.close_code is None


async def test_what_a_callback_raises_ends_the_client_and_is_raised(server: Server) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError(f"cannot apply {event.seq}")

    client = Client(server.url, "t", device="d1", on_event=broken, jitter=at_once)
    with pytest.raises(RuntimeError, match="cannot apply 1"):
        async with client:
            line = await server.lines.get()
            await line.event(1)
            await client.closed.wait()
    assert server.handshakes == 1


async def test_leaving_while_the_line_is_away_is_prompt(server: Server) -> None:
    async with connected(server) as (client, line):
        client.drop(60.0)
        await line.ws.wait_closed()
    assert client.closed.is_set()


async def test_the_ids_of_requests_are_uuids_of_their_own(server: Server) -> None:
    async with connected(server) as (client, line), asyncio.TaskGroup() as group:
        seen: set[UUID] = set()
        for _ in range(3):
            asked = group.create_task(client.offline())
            frame = await line.read()
            seen.add(id_of(frame))
            await line.answer(frame)
            await asked
        assert len(seen) == 3
