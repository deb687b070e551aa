"""Phones that survive everything: they come back, resume where they stood, and ask again until an answer is final.

A phone is a bare `asyncio.Protocol` on the frames of `bench.fleet`, with the session of `protocol`. It lives on one worker at a
time and picks another one by chance whenever it has to come back. Everything it asks and is told is written down.
"""

import asyncio
import base64
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from bench.chaos.recorder import Recorder
from bench.demo.stage import Person
from bench.faults.history import Told, digest
from bench.faults.proxy import Proxy
from bench.faults.standing import Standing
from bench.fleet import ACK_AFTER_S, framed, unframed
from protocol.client import RESEND_AFTER_S, SILENCE_BEATS, WELCOME_WITHIN_S
from protocol.codec import Refused, decode_server, encode, wire_time
from protocol.errors import CloseCode, reconnect_policy
from protocol.frames import SUBPROTOCOL, Ack, ErrorObject, Event, Reply, Request, Snapshot, Welcome
from protocol.session import (
    Answer,
    Apply,
    ClientSession,
    Complaint,
    Farewell,
    Gap,
    Live,
    Located,
    Replace,
    SendAck,
)

CONNECT_WITHIN_S = 3.0
BACKOFF_S, BACKOFF_S_MAX = 0.2, 5.0
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


@dataclass(slots=True)
class Asked:
    """A request until its final answer."""

    data: bytes
    future: "asyncio.Future[Reply]"
    sent_s: float = 0.0
    again_s: float = 0.0
    """When it goes out again, by the loop's clock."""
    waiting: bool = True
    """It is out: no answer of any kind has come to the last sending."""


@dataclass(slots=True)
class Counts:
    """What happened to all phones."""

    welcomes: int = 0
    resumed: int = 0
    gaps: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    complaints: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    """What contract.md says cannot be."""


class Phone(asyncio.Protocol):
    """One device of one user, connected as long as it is `wanted`."""

    def __init__(
        self,
        person: Person,
        device: str,
        links: Sequence[Proxy],
        recorder: Recorder,
        counts: Counts,
        dice: random.Random,
        place: tuple[float, float],
        *,
        on_event: Callable[["Phone", Event], object],
        on_snapshot: Callable[["Phone", Snapshot], object],
    ) -> None:
        self.person = person
        self.device = device
        self.lat, self.lng = place
        self.session = ClientSession()
        self.wanted = True
        self.node: int | None = None
        """The worker that it is connected to, or on its way to."""
        self.live_at: float | None = None
        """Since when a socket is up and its history stands, by the loop's clock; None: it is not."""
        self.head = 0
        """What the last welcome named as newest."""
        self.waiting: dict[UUID, Asked] = {}
        self._links = links
        self._recorder = recorder
        self._counts = counts
        self._dice = dice
        self._on_event = on_event
        self._on_snapshot = on_snapshot
        self._transport: asyncio.Transport | None = None
        self._attempt = 0
        self._failures = 0
        self._rest = b""
        self._upgraded = False
        self._heard_s = 0.0
        self._silence_s = WELCOME_WITHIN_S
        self._socket = ""
        self._away_s = 0.0
        self._ack_seq = 0
        self._acking = False
        self._gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._moved = 0
        self._told_job: dict[UUID, str] = {}
        """Request → a digest of the job in its final answer; "": it had none, or has none yet."""
        self.caught_up: list[Callable[[Phone], object]] = []
        """Told once when it is live and has all that its welcome named."""

    # --- coming and going

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=self.device)

    async def leave(self) -> None:
        """For good."""
        self.wanted = False
        self._lose()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def drop(self, away_s: float) -> None:
        """Lose the line, as in a tunnel."""
        self._away_s = away_s
        self._lose()

    @property
    def live(self) -> bool:
        return self.live_at is not None

    async def _keep(self) -> None:
        while self.wanted:
            await self._once()
            bound_s = min(BACKOFF_S_MAX, BACKOFF_S * 2 ** min(self._failures, 8))
            wait_s = max(self._away_s, self._dice.uniform(0, bound_s))
            self._away_s = 0.0
            self._failures += 1
            await asyncio.sleep(wait_s)

    async def _once(self) -> None:
        """One socket, from connecting to its end."""
        loop = asyncio.get_running_loop()
        others = [number for number in range(len(self._links)) if number != self.node]
        self.node = self._dice.choice(others if others and self._failures else range(len(self._links)))
        link = self._links[self.node]
        self._gone.clear()
        self._rest, self._upgraded = b"", False
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await loop.create_connection(lambda: self, link.host, link.port)
        except (OSError, TimeoutError):
            return
        try:
            await self._gone.wait()
        finally:
            self._lose()

    def _lose(self) -> None:
        """Give up this line now: nothing more is read from it or written to it."""
        transport, self._transport = self._transport, None
        self.live_at = None
        if transport is not None:
            transport.abort()
        self._gone.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._transport is not None or not self.wanted:  # came when we had given up on it
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._heard_s = asyncio.get_running_loop().time()
        self._silence_s = WELCOME_WITHIN_S
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /v1/socket HTTP/1.1\r\nHost: chaos\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
            f"Authorization: Bearer {self.person.token}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None and self._transport.is_closing():
            self._lose()

    # --- in

    def data_received(self, data: bytes) -> None:
        try:
            self._received(data)
        except Exception as error:  # noqa: BLE001 asyncio would close the line, and the next one would repair everything
            self._counts.unexpected.append(f"{self.device}: {error!r} at what it was sent: {data[-300:]!r}")
            self._lose()

    def _received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._heard_s = asyncio.get_running_loop().time()
        if self._rest:
            data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if not self._welcome_in(head):
                return
        frames, self._rest = unframed(data)
        for opcode, payload in frames:
            if opcode == _TEXT:
                self._text(payload)
            elif opcode == _PING:
                self._write(framed(payload, _PONG))
            elif opcode == _CLOSE:
                self._closed(payload)
            if self._transport is None:
                return

    def _welcome_in(self, head: bytes) -> bool:
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            self._counts.refused[status] += 1
            if status in (401, 403):
                self._counts.unexpected.append(f"{self.device}: handshake refused with {status}")
            for line in head.split(b"\r\n"):
                name, _, value = line.partition(b":")
                if name.lower() == b"retry-after":
                    self._away_s = self._dice.uniform(0.0, float(value))
            self._lose()
            return False
        self._upgraded = True
        self._attempt += 1
        self._write(framed(encode(self.session.hello(self.device, self._attempt))))
        return True

    def _closed(self, payload: bytes) -> None:
        code = struct.unpack_from("!H", payload)[0] if len(payload) >= 2 else None
        self._counts.closes[str(code)] += 1
        policy = reconnect_policy(code)
        if policy != "yes":
            # One device per person, tokens that last, attempts that grow: nothing here may be told so.
            name = CloseCode(code).name if code in set(CloseCode) else "?"
            self._counts.unexpected.append(f"{self.device}: closed with {code} ({name}) on attempt {self._attempt}")
        self._write(framed(payload[:2], _CLOSE))
        self._lose()

    def _text(self, payload: bytes) -> None:
        try:
            frame = decode_server(payload)
        except Refused as error:
            # A later version may have others; all servers here are of ours.
            self._counts.unexpected.append(f"{self.device}: {error} in {payload[:300]!r}")
            return
        if isinstance(frame, Welcome):
            self._socket, self.head = frame.session, frame.seq
            self._counts.welcomes += 1
            self._counts.resumed += frame.resumed
            self._told(
                Told(**self._who(), kind="welcome", name=f"worker {self.node}", seq=frame.seq, resumed=frame.resumed)
            )
        for effect in self.session.receive(frame):
            match effect:
                case Apply(event):
                    self._told(_event_told(event, self._who()))
                    self._on_event(self, event)
                case SendAck(seq):
                    self._ack_seq = seq
                    if not self._acking:
                        self._acking = True
                        asyncio.get_running_loop().call_later(ACK_AFTER_S, self._ack)
                case Answer(reply):
                    self._answered(reply)
                case Replace(snapshot):
                    jobs = [str(job["id"]) for job in snapshot.jobs]
                    jobs += [str(offer["job"]["id"]) for offer in snapshot.offers]
                    shown = Standing(snapshot.provider, snapshot.jobs, snapshot.offers).digest
                    self._told(Told(**self._who(), kind="snapshot", seq=snapshot.seq, jobs=jobs, digest=shown))
                    self._on_snapshot(self, snapshot)
                case Live(welcome):
                    self._came_alive(welcome)
                case Located(position):
                    self._told(Told(**self._who(), kind="position", job=str(position.job_id)))
                case Complaint(complaint):
                    self._counts.complaints[complaint.error.code] += 1
                case Farewell(bye):
                    self._away_s = bye.reconnect_after_ms / 1000
                case Gap(_, got):
                    self._counts.gaps += 1
                    self._told(Told(**self._who(), kind="gap", seq=got))
                    self._lose()
                    return
        if self.live_at is not None and self.caught_up and self.session.seq >= self.head:
            told, self.caught_up = self.caught_up, []
            for one in told:
                one(self)

    def _who(self) -> dict[str, Any]:
        return {"at": time.time_ns(), "client": self.device, "user": self.person.user_id, "socket": self._socket}

    def _told(self, told: Told) -> None:
        self._recorder.told(told)

    def _came_alive(self, welcome: Welcome) -> None:
        now = asyncio.get_running_loop().time()
        self._failures = 0
        self._silence_s = welcome.heartbeat_s * SILENCE_BEATS
        self.live_at = now
        for asked in self.waiting.values():
            if asked.waiting:
                self._out(asked, now)

    def _answered(self, reply: Reply) -> None:
        asked = self.waiting.get(reply.id)
        if asked is None or asked.future.done():
            self._answered_again(reply)
            return
        after_ms = reply.error.retry_after_ms if reply.error is not None else None
        if after_ms is None and reply.error is not None and reply.error.code == "INTERNAL_ERROR":
            self._counts.unexpected.append(f"{self.device}: INTERNAL_ERROR in answer to {asked.data[:300]!r}")
            after_ms = 500  # it decided nothing that we may rely on
        if after_ms is None:
            self._told_job[reply.id] = _job_of(reply)
            asked.future.set_result(reply)
            return
        asked.waiting = False
        asked.again_s = asyncio.get_running_loop().time() + after_ms / 1000
        asyncio.get_running_loop().call_later(after_ms / 1000, self._again, reply.id)

    def _answered_again(self, reply: Reply) -> None:
        """To what is answered already, as every sending of it is; or to what was never asked."""
        known = self._told_job.get(reply.id)
        if known is None:
            self._told(Told(**self._who(), kind="stray", name=str(reply.id)))
        elif known and (job := _job_of(reply)) and job != known:
            self._counts.unexpected.append(f"{self.device}: request {reply.id} was answered in two ways")

    def _again(self, request: UUID) -> None:
        asked = self.waiting.get(request)
        if asked is not None and not asked.future.done():
            asked.waiting = True
            if self.live:
                self._out(asked, asyncio.get_running_loop().time())

    # --- out

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _out(self, asked: Asked, now: float) -> None:
        asked.sent_s = now
        self._write(asked.data)

    def _ack(self) -> None:
        self._acking = False
        if self.live:
            self._write(framed(encode(Ack(seq=self._ack_seq))))

    def locate(self, stamp: bytes) -> None:
        """Send one position, a metre further than the last. `stamp` is the wire's time."""
        if not self.live:
            return
        self._moved += 1
        lat = self.lat + (self._moved % 16) * 1e-5
        self._write(framed(b'{"type":"location","lat":%.6f,"lng":%.6f,"at":"%b"}' % (lat, self.lng, stamp)))

    async def ask(self, frame: Request) -> Reply:
        """One request to its final answer, however often it has to be asked. Cancelled, it stays open what it did."""
        loop = asyncio.get_running_loop()
        self._told_job[frame.id] = ""
        asked = self.waiting[frame.id] = Asked(framed(encode(frame)), loop.create_future())
        if self.live:
            self._out(asked, loop.time())
        try:
            return await asked.future
        finally:
            del self.waiting[frame.id]

    def tend(self, now: float) -> None:
        """Once a second: a silent line counts as dead, a request without any answer goes out again."""
        if self._transport is None:
            return
        if now - self._heard_s > self._silence_s:
            self._lose()
            return
        if self.live:
            for asked in self.waiting.values():
                if asked.waiting and now - asked.sent_s > RESEND_AFTER_S:
                    self._out(asked, now)


def _job_of(reply: Reply) -> str:
    """A digest of the job in a yes; "": there is none."""
    job = reply.data.get("job") if reply.ok and reply.data else None
    return "" if job is None else digest("job", job)


def _event_told(event: Event, who: dict[str, Any]) -> Told:
    data = event.data
    about = data.get("job")
    job = str(about["id"]) if isinstance(about, dict) and "id" in about else str(data.get("job_id", ""))
    return Told(
        **who,
        kind="event",
        seq=event.seq,
        name=event.name,
        job=job,
        offer=str(data.get("offer_id", "")),
        digest=digest(event.name, data),
    )


async def tend(
    phones: Sequence[Phone], *, every_s: float, moves: Callable[[Phone], bool], busy: Callable[[Phone], bool]
) -> None:
    """Keep all phones' watches, and send positions of those that `moves`: every `every_s` seconds, every third while `busy`. Until
    cancelled.
    """
    loop = asyncio.get_running_loop()
    turn = 0
    slots = max(1, round(every_s))
    while True:
        began = loop.time()
        stamp = wire_time(datetime.now(UTC)).encode()
        for number, phone in enumerate(phones):
            phone.tend(began)
            if moves(phone) and (number % slots == turn % slots or (number % 3 == turn % 3 and busy(phone))):
                phone.locate(stamp)
        turn += 1
        await asyncio.sleep(max(0.0, began + 1.0 - loop.time()))


def code_of(error: ErrorObject | None) -> str:
    """An answer's word for the record: a JOB_NOT_AVAILABLE is told by its status."""
    if error is None:
        return "unknown"
    if error.code == "JOB_NOT_AVAILABLE":
        return str((error.details or {}).get("status", error.code))
    return error.code
