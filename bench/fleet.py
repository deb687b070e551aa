"""Thousands of phones in one process, as cheap as asyncio lets them be: they share the machine with what is measured.

A phone is a bare `asyncio.Protocol` that speaks just enough WebSocket, with the codec and the session of `protocol`. Its
frames are masked by four zero bytes, which saves us the masking and the server nothing.
"""

import asyncio
import base64
import math
import os
import random
import re
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final, Self, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from bench.demo.stage import Person
from dispatch.markets import Market
from protocol.codec import Refused, decode_server, encode, wire_time
from protocol.errors import ErrorCode
from protocol.frames import SUBPROTOCOL, Ack, Event, Online, Reply, Request
from protocol.session import Answer, Apply, ClientSession, Complaint, Gap, Live, Located, SendAck

HANDSHAKES_PER_S: Final = 400.0
"""Fewer than two workers let in at their default rate of 300 each, also when the kernel spreads them unevenly."""
HANDSHAKES_AT_ONCE: Final = 64
HANDSHAKE_TRIES: Final = 6
WELCOME_WITHIN_S: Final = 20.0
ONLINE_WITHIN_S: Final = 60.0
"""BUSY is asked again until then: a run must end, however busy the machine is."""
ACK_AFTER_S: Final = 0.2
"""As the reference client does it: a burst of events is one ack."""
TICK_S: Final = 0.001
"""The finest that an event loop's timers go. At 2,000 a second this is two frames a wake-up, for two workers."""
METRES_PER_DEGREE: Final = 111_195.0

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class FleetError(RuntimeError):
    """A phone could not come up. The message is for people."""


def framed(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A client frame: final, masked by zeros (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size, 0, 0, 0, 0)) + payload
    if size < 65536:
        return struct.pack("!BBHI", 0x80 | opcode, 0x80 | 126, size, 0) + payload
    return struct.pack("!BBQI", 0x80 | opcode, 0x80 | 127, size, 0) + payload


def unframed(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Whole server frames as (opcode, payload), and what is left over. The server neither masks nor fragments."""
    frames = []
    at, end = 0, len(data)
    while end - at >= 2:
        size, head = data[at + 1], 2
        if size == 126:
            head = 4
        elif size == 127:
            head = 10
        if end - at < head:
            break
        if head > 2:
            size = int.from_bytes(data[at + 2 : at + head], "big")
        if end - at < head + size:
            break
        frames.append((data[at] & 0x0F, data[at + head : at + head + size]))
        at += head + size
    return frames, data[at:]


@dataclass(frozen=True, slots=True)
class Answered:
    """A final reply: when it was here (CLOCK_MONOTONIC ns), and how often it was asked for."""

    reply: Reply
    at_ns: int
    asked: int


EventHandler = Callable[["Phone", Event, int], object]
"""Told (phone, event, CLOCK_MONOTONIC ns at which its bytes were here)."""


class Phone(asyncio.Protocol):
    """One device of one user. `lat`, `lng` are where it stands; `locate` wanders a few metres around there."""

    path: ClassVar[str] = "/v1/socket"
    subprotocol: ClassVar[str] = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"

    __slots__ = (
        "_ack_seq",
        "_acking",
        "_live",
        "_on_event",
        "_rest",
        "_transport",
        "_upgraded",
        "_waiting",
        "attempt",
        "close_code",
        "complaints",
        "lat",
        "leaving",
        "lng",
        "lost",
        "on_position",
        "person",
        "provider_id",
        "refused",
        "resumed",
        "retry_after_s",
        "sent",
        "session",
        "url",
    )

    def __init__(self, url: str, person: Person, lat: float, lng: float, on_event: EventHandler | None = None) -> None:
        self.url = url
        self.person = person
        self.lat = lat
        self.lng = lng
        self.provider_id: str | None = None
        self.sent = (lat, lng)
        """The newest position that left this phone."""
        self.session = ClientSession()
        self.lost = False
        self.leaving = False
        self.refused: int | None = None
        self.close_code: int | None = None
        """Of the last line that the server closed."""
        self.retry_after_s = 0.0
        """What the last refusal asked to wait."""
        self.attempt = 0
        self.resumed = False
        """This line's welcome went on where this phone stood; False without a line of ours, or before its welcome."""
        self.complaints: dict[str, int] | None = None
        """`error` frames by code."""
        self.on_position: Callable[[datetime, int], object] | None = None
        """Told when the provider of a tracked job was somewhere, and the CLOCK_MONOTONIC ns at which we heard of it."""
        self._on_event = on_event
        self._transport: asyncio.Transport | None = None
        self._live: asyncio.Future[None] | None = None
        self._waiting: dict[UUID, asyncio.Future[tuple[Reply, int]]] = {}
        self._rest = b""
        self._upgraded = False
        self._ack_seq = 0
        self._acking = False

    # --- coming and going

    async def open(self) -> None:
        """Connect, greet, and wait until the history stands. Raises FleetError."""
        loop = asyncio.get_running_loop()
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        host, port = address.hostname, address.port
        for attempt in range(HANDSHAKE_TRIES):
            live = self._begin()
            try:
                async with asyncio.timeout(WELCOME_WITHIN_S):
                    await loop.create_connection(lambda: self, host, port)
                    await live
                    return
            except TimeoutError:
                raise FleetError(f"a phone was not welcomed within {WELCOME_WITHIN_S:.0f} s") from None
            except ConnectionError:
                # None: let in and hung up on before the welcome, as a server does that has too much to do.
                if self.refused not in (None, 429, 503):
                    break
            await asyncio.sleep(1 + attempt * random.random())
        raise FleetError(f"a phone was refused: HTTP status {self.refused}, close code {self.close_code}")

    def _begin(self) -> asyncio.Future[None]:
        """Forget the last line; the next one's welcome, to wait for."""
        live = self._live = asyncio.get_running_loop().create_future()
        self._rest, self._upgraded, self.refused = b"", False, None
        self.lost = self.leaving = self.resumed = False
        return live

    def close(self) -> None:
        """Cut the line. Who does not come back has not resumed."""
        self.leaving, self.resumed = True, False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self.subprotocol}"
            f"Authorization: Bearer {self.person.token}\r\n\r\n".encode()
        )

    @property
    def transport(self) -> asyncio.Transport | None:
        """The line, if there ever was one."""
        return self._transport

    async def come_back(self) -> None:
        """Connect again with what is known, for as long as it takes: after a refusal as it asks, after a lost line soon."""
        loop = asyncio.get_running_loop()
        address = urlsplit(self.url)
        while True:
            live = self._begin()
            try:
                async with asyncio.timeout(WELCOME_WITHIN_S):
                    await loop.create_connection(lambda: self, address.hostname or "", address.port or 80)
                    await live
                    return
            except TimeoutError:
                self.close()
            except OSError:
                pass
            await asyncio.sleep(self.retry_after_s if self.refused else random.uniform(0.2, 1.0))

    async def come_back_by(self, sock: socket.socket) -> None:
        """The same once, on a connected socket. Raises TimeoutError, ConnectionError."""
        loop = asyncio.get_running_loop()
        live = self._begin()
        async with asyncio.timeout(WELCOME_WITHIN_S):
            await loop.create_connection(lambda: self, sock=sock)
            await live

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = not self.leaving
        error = ConnectionError(f"the line of {self.person.user_id} was lost")
        if self._live is not None and not self._live.done():
            self._live.set_exception(error)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    # --- in

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        if self._rest:
            data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            status = int(head.split(b" ", 2)[1])
            if status != 101:
                self.refused = status
                after = re.search(rb"(?i)\r\nretry-after: (\d+)", head)
                self.retry_after_s = float(after[1]) if after else 0.0
                assert self._transport is not None
                self._transport.abort()
                return
            self._upgraded = True
            self.attempt += 1
            self._greet()
        frames, self._rest = unframed(data)
        for opcode, payload in frames:
            if opcode == _TEXT:
                self._text(payload, now_ns)
            elif opcode == _PING:
                self._write(framed(payload, _PONG))
            elif opcode == _CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big") if payload else None
                self._write(framed(payload[:2], _CLOSE))

    def _greet(self) -> None:
        self._write(framed(encode(self.session.hello(f"bench-{self.person.user_id}", self.attempt))))

    def _text(self, payload: bytes, now_ns: int) -> None:
        try:
            frame = decode_server(payload)
        except Refused:
            return  # a frame of a later version
        for effect in self.session.receive(frame):
            match effect:
                case Apply(event):
                    if self._on_event is not None:
                        self._on_event(self, event, now_ns)
                case SendAck(seq):
                    self._ack_seq = seq
                    if not self._acking:
                        self._acking = True
                        asyncio.get_running_loop().call_later(ACK_AFTER_S, self._ack)
                case Located(position):
                    if self.on_position is not None:
                        self.on_position(position.at, now_ns)
                case Answer(reply):
                    self._answer(reply, now_ns)
                case Complaint(complaint):
                    counts = self.complaints = self.complaints or {}
                    counts[complaint.error.code] = counts.get(complaint.error.code, 0) + 1
                case Live(welcome):
                    self.resumed = welcome.resumed
                    self._welcomed()
                case Gap(expected, got):
                    raise FleetError(f"event {got} came where {expected} was due")
                case _:
                    pass

    def _welcomed(self) -> None:
        if self._live is not None and not self._live.done():
            self._live.set_result(None)

    def _answer(self, reply: Reply, now_ns: int) -> None:
        waiting = self._waiting.get(reply.id)
        if waiting is not None and not waiting.done():
            waiting.set_result((reply, now_ns))

    # --- out

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _say(self, message: bytes) -> None:
        """Send one frame of the wire, as JSON."""
        self._write(framed(message))

    def _ack(self) -> None:
        self._acking = False
        self._say(encode(Ack(seq=self._ack_seq)))

    def locate(self, stamp: bytes) -> None:
        """Send one position, a metre further than the last. `stamp` is the wire's time."""
        number = round((self.sent[0] - self.lat) * 1e5) + 1
        lat = self.lat + (number % 16) * 1e-5
        self.sent = (lat, self.lng)
        self._say(b'{"type":"location","lat":%.6f,"lng":%.6f,"at":"%b"}' % (lat, self.lng, stamp))

    async def ask(self, frame: Request) -> Answered:
        """One request to its final answer: asked again with the same id as long as it is BUSY. Raises ConnectionError, also when
        the line is down already: nobody would ever answer then.
        """
        data = encode(frame)
        asked = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                if self._transport is None or self.lost or self._transport.is_closing():
                    raise ConnectionError(f"the line of {self.person.user_id} is down")
                waiting = self._waiting[frame.id] = loop.create_future()
                self._say(data)
                asked += 1
                reply, at_ns = await waiting
                after_ms = reply.error.retry_after_ms if reply.error is not None else None
                if after_ms is None:
                    return Answered(reply, at_ns, asked)
                await asyncio.sleep(after_ms / 1000)
        finally:
            self._waiting.pop(frame.id, None)

    async def online(self) -> None:
        """Take offers, here. Raises FleetError when that is refused or not answered, ConnectionError when the line goes."""
        try:
            async with asyncio.timeout(ONLINE_WITHIN_S):
                answered = await self.ask(Online(id=uuid4(), lat=self.lat, lng=self.lng))
        except TimeoutError:
            raise FleetError(f"a provider was not online within {ONLINE_WITHIN_S:.0f} s") from None
        reply = answered.reply
        if not reply.ok or reply.data is None:
            code = reply.error.code if reply.error is not None else ErrorCode.UNKNOWN_ERROR
            raise FleetError(f"a provider could not go online: {code}")
        self.provider_id = str(reply.data["id"])


# --- many of them


def fleet(
    url: str, people: Sequence[Person], places: Sequence[tuple[float, float]], on_event: EventHandler | None = None
) -> list[Phone]:
    """A phone for each of the people, at its place."""
    return [Phone(url, person, *place, on_event) for person, place in zip(people, places, strict=True)]


async def open_all(phones: Sequence[Phone], *, online: bool = True, per_s: float = HANDSHAKES_PER_S) -> None:
    """Connect all of them, no faster than the server lets them in, and switch them on."""
    gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(number: int, phone: Phone) -> None:
        await asyncio.sleep(began + number / per_s - loop.time())
        async with gate:
            await phone.open()
            if online:
                await phone.online()

    async with asyncio.TaskGroup() as group:
        for number, phone in enumerate(phones):
            group.create_task(one(number, phone))


def lost(phones: Sequence[Phone]) -> int:
    """How many lines were lost and not closed by us."""
    return sum(phone.lost for phone in phones)


def complaints(phones: Sequence[Phone]) -> dict[str, int]:
    """`error` frames by code, of all phones."""
    total: dict[str, int] = {}
    for phone in phones:
        for code, count in (phone.complaints or {}).items():
            total[code] = total.get(code, 0) + count
    return total


def cloud(market: Market, count: int, *, seed: int, sigma_m: float = 6_000.0) -> list[tuple[float, float]]:
    """Places as a city has them: many in the middle, fewer outside. All lie in the market. The same for the same seed."""
    dice = random.Random(seed)
    lat, lng = market.centre()
    wide = METRES_PER_DEGREE * math.cos(math.radians(lat))
    places: list[tuple[float, float]] = []
    while len(places) < count:
        place = (
            round(lat + dice.gauss(0, sigma_m) / METRES_PER_DEGREE, 5),
            round(lng + dice.gauss(0, sigma_m) / wide, 5),
        )
        if market.holds(*place):
            places.append(place)
    return places


class Pace:
    """An even stream that waits for nobody: how many are due by now. Pure."""

    def __init__(self, rate: float, began_s: float) -> None:
        self._rate = rate
        self._began_s = began_s
        self.sent = 0
        self.late_s_max = 0.0

    def due(self, now_s: float) -> int:
        """How many have come due since the last call; they count as sent. What is late is sent late, never left out."""
        count = int((now_s - self._began_s) * self._rate) + 1 - self.sent
        if count <= 0:
            return 0
        self.late_s_max = max(self.late_s_max, now_s - self._began_s - self.sent / self._rate)
        self.sent += count
        return count


class Drive:
    """All phones send positions, evenly and in turn, until the block ends."""

    def __init__(self, phones: Sequence[Phone], rate: float) -> None:
        """`rate` is of all phones together, per second."""
        self._phones = phones
        self._rate = rate
        self._task: asyncio.Task[None] | None = None
        self.pace = Pace(rate, 0.0)

    async def __aenter__(self) -> Self:
        self.pace = Pace(self._rate, asyncio.get_running_loop().time())
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass

    @property
    def sent(self) -> int:
        return self.pace.sent

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        phones, count = self._phones, len(self._phones)
        while True:
            first = self.pace.sent
            due = self.pace.due(loop.time())
            if due:
                stamp = wire_time(datetime.now(UTC)).encode()
                for number in range(first, first + due):
                    phones[number % count].locate(stamp)
            await asyncio.sleep(TICK_S)


def arrivals(rate: float, seconds: float, *, seed: int) -> list[float]:
    """Moments of a Poisson process in [0, seconds), in order. The same for the same seed."""
    dice = random.Random(seed)
    moments: list[float] = []
    at = dice.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += dice.expovariate(rate)
    return moments
