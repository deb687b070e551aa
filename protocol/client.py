"""The reference client for driver and customer apps, load tools and tests. Needs `websockets`; `Http` needs aiohttp.

    async with Client("http://localhost:8080", token, device="phone-1", on_event=print) as driver:
        await driver.online(13.7563, 100.5018)
        driver.locate(13.7564, 100.5019)          # about once a second

It keeps one socket alive: it resumes where it stood, drops what it has seen, acks what the callbacks have taken, and
asks again with the same id until an answer is final. One task per client; no task, and no await, per message.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID, uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from protocol.codec import decode_server, encode
from protocol.errors import CloseCode, Denied, ErrorCode, Reconnect, Refused, reconnect_policy
from protocol.frames import (
    POINTS_MAX,
    SUBPROTOCOL,
    Accept,
    Ack,
    Advance,
    AppInfo,
    Auth,
    Cancel,
    Decline,
    ErrorObject,
    Event,
    Fix,
    Location,
    Locations,
    Offline,
    Online,
    Position,
    Reply,
    Request,
    Snapshot,
    Track,
    Untrack,
    Welcome,
)
from protocol.http import Http, Token, full_jitter
from protocol.lifecycle import ServiceType, Stage
from protocol.session import Answer, Apply, ClientSession, Complaint, Farewell, Gap, Live, Located, Replace, SendAck

__all__ = ["Client", "Denied", "Http", "full_jitter"]

ACK_AFTER_S: Final = 0.2
"""At most one ack in this time: a burst of events is one ack."""
RESEND_AFTER_S: Final = 5.0
"""A request without any answer goes out again, same id: the server may have dropped it by its rate limit."""
WELCOME_WITHIN_S: Final = 10.0
"""From hello to the end of the handshake; after that the line counts as dead."""
SILENCE_BEATS: Final = 2.5
"""Heartbeats without a byte from the server after which the line counts as dead."""
BACKOFF_S: Final = 0.5
BACKOFF_S_MAX: Final = 30.0
UNSENT_BYTES_MAX: Final = 256 * 1024
"""With this much waiting in our own buffer the server does not read: the line counts as dead."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Line(ClientConnection):
    """A connection that knows when it last heard anything, pings included."""

    heard_at: float = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)


class _Waiter:
    """A request until its final answer."""

    __slots__ = ("data", "future")

    def __init__(self, data: bytes, future: asyncio.Future[ErrorObject | dict[str, Any]]) -> None:
        self.data = data
        self.future = future


class Client:
    """One device of one user. Callbacks are synchronous and quick; what they raise ends the client and is raised by
    `async with`. An event counts as applied, and is acked, when `on_event` returns.

    `token` may be a callable that gives a fresh one: only then does the client come back after 4401.
    `clock` is aware wall time, `jitter` maps a bound in seconds to a wait. `session` restores a kept (epoch, seq).
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        device: str,
        on_event: Callable[[Event], object] | None = None,
        on_snapshot: Callable[[Snapshot], object] | None = None,
        on_position: Callable[[Position], object] | None = None,
        on_error: Callable[[ErrorObject], object] | None = None,
        on_welcome: Callable[[Welcome], object] | None = None,
        app: AppInfo | None = None,
        attempt: int = 0,
        session: ClientSession | None = None,
        open_timeout_s: float = 30.0,
        answer_timeout_s: float = 60.0,
        clock: Callable[[], datetime] = _utc_now,
        jitter: Callable[[float], float] = full_jitter,
    ) -> None:
        self.url = "ws" + base_url.removeprefix("http").rstrip("/") + "/v1/socket"
        self.device = device
        self.attempt = attempt
        """Sockets tried by this device; keep it over a restart, the server refuses a number it has seen."""
        self.session = session or ClientSession()
        self.live = asyncio.Event()
        """Set while a socket is up and its history stands."""
        self.closed = asyncio.Event()
        """Set when the client will not come back: left, refused, replaced, or a callback failed."""
        self.close_code: int | None = None
        """Close code of the last socket; an HTTP status when the handshake was refused; None for a lost line."""
        self.server_time_offset = timedelta(0)
        """Server's clock minus ours, by the last welcome. `locate` adds it."""
        self.welcomes = 0
        """How often a socket came to life: 1 + reconnects."""
        self._token = token
        self._app = app
        self._on_event = on_event
        self._on_snapshot = on_snapshot
        self._on_position = on_position
        self._on_error = on_error
        self._on_welcome = on_welcome
        self._open_timeout_s = open_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._clock = clock
        self._jitter = jitter
        self._line: _Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = False
        self._failures = 0
        self._wait_s = 0.0  # what the server asked us to wait before the next try
        self._away_s = 0.0
        self._waiting: dict[UUID, _Waiter] = {}
        self._tracked: dict[UUID, UUID] = {}  # job → id of the newest request to track it
        self._unsent: deque[Fix] = deque(maxlen=POINTS_MAX)
        self._ack_seq = 0
        self._acked_seq = 0
        self._ack_timer: asyncio.TimerHandle | None = None
        self._silence_timer: asyncio.TimerHandle | None = None

    # --- coming and going

    async def __aenter__(self) -> Self:
        """Connect and wait for the history to stand. Raises: Denied when refused for good, TimeoutError."""
        self._task = asyncio.create_task(self._run(), name=f"client {self.device}")
        try:
            async with asyncio.timeout(self._open_timeout_s):
                live = asyncio.create_task(self.live.wait())
                try:
                    await asyncio.wait((live, self._task), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    live.cancel()
        except BaseException:
            await self._stop()
            raise
        if self._task.done():
            self._task.result()
            raise self._closed_for_good()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        """Send the last ack, close, and raise what a callback raised."""
        self._leaving = True
        task, line = self._task, self._line
        if task is None:
            return
        if line is not None:
            self._send_ack()
            try:
                async with asyncio.timeout(2.0):
                    await line.close()
            except TimeoutError:
                line.transport.abort()
        else:
            task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()

    def drop(self, away_s: float = 0.0) -> None:
        """Lose the line, as in a tunnel: no close frame, nothing more is sent. It comes back after `away_s` or more."""
        self._away_s = away_s
        self._lose()

    def _lose(self) -> None:
        """Give up this line now: nothing more is written to it, and `_run` comes back with another."""
        if self._line is not None:
            self._line.transport.abort()
            self._line = None
            self.live.clear()

    def _closed_for_good(self) -> Denied:
        code = self.close_code
        details = None if code is None else {"close_code": code}
        return Denied(_CLOSED_BY.get(code or 0, ErrorCode.UNKNOWN_ERROR), "the line is closed for good", details)

    # --- the one task

    async def _run(self) -> None:
        try:
            while True:
                policy = await self._serve_once()
                fresh = policy == "new_token" and callable(self._token)
                if self._leaving or not (policy == "yes" or fresh):
                    return
                wait_s = max(self._wait_s, self._away_s)
                bound_s = min(BACKOFF_S_MAX, BACKOFF_S * 2 ** min(self._failures, 10))
                self._wait_s = self._away_s = 0.0
                self._failures += 1
                await asyncio.sleep(wait_s + self._jitter(bound_s))
        finally:
            self.closed.set()
            for waiter in self._waiting.values():
                if not waiter.future.done():
                    waiter.future.set_exception(self._closed_for_good())

    async def _serve_once(self) -> Reconnect:
        """One socket from handshake to close; what to do next."""
        self.attempt += 1
        token = self._token() if callable(self._token) else self._token
        try:
            line = await connect(
                self.url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers={"Authorization": f"Bearer {token}"},
                compression=None,
                ping_interval=None,  # the server pings
                close_timeout=1.0,
                max_size=2**20,
                proxy=None,
                create_connection=_Line,
            )
        except InvalidStatus as exc:
            self.close_code = exc.response.status_code
            after = exc.response.headers.get("Retry-After", "")
            self._wait_s = float(after) if after.isdecimal() else 0.0
            return _HANDSHAKE.get(self.close_code, "yes")
        except (OSError, TimeoutError, InvalidHandshake):
            self.close_code = None
            return "yes"
        assert isinstance(line, _Line)
        self._line = line
        try:
            self._send(encode(self.session.hello(self.device, self.attempt, self._app)))
            self._silence_timer = line.loop.call_later(WELCOME_WITHIN_S, self._lose)
            while self._line is line:  # frames that waited on a line we gave up come again on the next
                self._take(await line.recv(decode=False))
            self.close_code = None
        except ConnectionClosed as exc:
            self.close_code = exc.rcvd.code if exc.rcvd is not None else None
        finally:
            self._lose()
            for timer in (self._ack_timer, self._silence_timer):
                if timer is not None:
                    timer.cancel()
            self._ack_timer = self._silence_timer = None
        return reconnect_policy(self.close_code)

    def _take(self, data: bytes) -> None:
        try:
            frame = decode_server(data)
        except Refused:
            return  # a frame of a later version
        for effect in self.session.receive(frame):
            match effect:
                case Apply(event):
                    if self._on_event is not None:
                        self._on_event(event)
                case SendAck(seq):
                    self._ack_later(seq)
                case Located(position):
                    if self._on_position is not None:
                        self._on_position(position)
                case Answer(reply):
                    self._answered(reply)
                case Replace(snapshot):
                    if self._on_snapshot is not None:
                        self._on_snapshot(snapshot)
                case Live(welcome):
                    self._came_alive(welcome)
                case Complaint(complaint):
                    self._complained(complaint.id, complaint.error)
                case Farewell(bye):
                    self._wait_s = bye.reconnect_after_ms / 1000
                case Gap():
                    self._lose()

    def _came_alive(self, welcome: Welcome) -> None:
        self._failures = 0
        self.welcomes += 1
        self.server_time_offset = welcome.server_time_at - self._clock()
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        self._watch(welcome.heartbeat_s * SILENCE_BEATS)
        if self._on_welcome is not None:
            self._on_welcome(welcome)
        self.live.set()
        for waiter in self._waiting.values():
            if not waiter.future.done():
                self._send(waiter.data)
        for job_id in self._tracked:
            again = Track(id=uuid4(), job_id=job_id)
            self._tracked[job_id] = again.id
            self._send(encode(again))
        if self._unsent:
            self._send(encode(Locations(points=list(self._unsent))))
            self._unsent.clear()

    def _watch(self, silence_s: float) -> None:
        """Abort the line when it has been silent for `silence_s`: a phone that changed cells hears no close."""
        line = self._line
        if line is None:
            return
        left_s = line.heard_at + silence_s - line.loop.time()
        if left_s <= 0:
            self._lose()
        else:
            self._silence_timer = line.loop.call_later(left_s, self._watch, silence_s)

    # --- sending

    def _send(self, data: bytes) -> bool:
        """Write without waiting; False without a line. `broadcast` is the library's way to do that."""
        line = self._line
        if line is None:
            return False
        if line.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._lose()
            return False
        broadcast((line,), data, text=True)
        return True

    def _ack_later(self, seq: int) -> None:
        self._ack_seq = seq
        if self._ack_timer is None and self._line is not None:
            self._ack_timer = self._line.loop.call_later(ACK_AFTER_S, self._send_ack)

    def _send_ack(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
            self._send(encode(Ack(seq=self._ack_seq)))

    def locate(
        self,
        lat: float,
        lng: float,
        *,
        at: datetime | None = None,
        accuracy_m: float | None = None,
        heading_deg: float | None = None,
        speed_mps: float | None = None,
    ) -> bool:
        """Send a position, stamped with the server's time unless `at` is given. Not answered, so not awaited.

        Without a line it is kept, the newest POINTS_MAX of them, and goes out with the next one: False.
        """
        stamp = at if at is not None else self._clock() + self.server_time_offset
        if self.live.is_set() and self._send(
            encode(Location(lat, lng, stamp, accuracy_m=accuracy_m, heading_deg=heading_deg, speed_mps=speed_mps))
        ):
            return True
        self._unsent.append(Fix(lat, lng, stamp, accuracy_m=accuracy_m, heading_deg=heading_deg, speed_mps=speed_mps))
        return False

    # --- requests

    async def request(self, frame: Request, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Ask until the answer is final: again after a reconnect, after silence, and after BUSY when it says so.

        Always with the same id, so it is done at most once. Cancelling leaves open whether it was done.
        Raises: Denied; with BUSY when `timeout_s` (default: the client's) ends first.
        """
        if frame.id in self._waiting:
            raise ValueError(f"request {frame.id} is already waiting for its answer")
        loop = asyncio.get_running_loop()
        waiter = self._waiting[frame.id] = _Waiter(encode(frame), loop.create_future())
        try:
            async with asyncio.timeout(self._answer_timeout_s if timeout_s is None else timeout_s):
                while not self.closed.is_set():
                    if self.live.is_set():
                        self._send(waiter.data)
                    await asyncio.wait((waiter.future,), timeout=RESEND_AFTER_S)
                    if not waiter.future.done():
                        continue
                    answer = waiter.future.result()
                    if isinstance(answer, dict):
                        return answer
                    if (again_ms := answer.retry_after_ms) is None:
                        raise Denied(answer.code, answer.message, answer.details)
                    await asyncio.sleep(again_ms / 1000)
                    waiter.future = loop.create_future()
        except TimeoutError:
            raise Denied(ErrorCode.BUSY, "no final answer in time") from None
        finally:
            del self._waiting[frame.id]
        raise self._closed_for_good()

    def _answered(self, reply: Reply) -> None:
        waiter = self._waiting.get(reply.id)
        if waiter is not None:
            if not waiter.future.done():
                waiter.future.set_result((reply.data or {}) if reply.ok else (reply.error or _NO_WORDS))
        elif not reply.ok:
            # An answer to our own tracking after a reconnect: that job is over.
            for job_id, request_id in self._tracked.items():
                if request_id == reply.id:
                    del self._tracked[job_id]
                    break

    def _complained(self, request_id: UUID | None, error: ErrorObject) -> None:
        if request_id is not None and request_id in self._waiting:
            self._answered(Reply(id=request_id, ok=False, error=error))
        elif self._on_error is not None:
            self._on_error(error)

    async def auth(self, token: str) -> None:
        """Prolong the socket by a fresh token of the same user."""
        await self.request(Auth(id=uuid4(), token=token))
        if not callable(self._token):
            self._token = token

    async def online(self, lat: float, lng: float, service_types: list[ServiceType] | None = None) -> dict[str, Any]:
        """Take offers, here. Returns the Provider."""
        return await self.request(Online(id=uuid4(), lat=lat, lng=lng, service_types=service_types))

    async def offline(self) -> dict[str, Any]:
        """Take no offers. Returns the Provider."""
        return await self.request(Offline(id=uuid4()))

    async def accept(
        self, job_id: UUID, offer_id: UUID | None = None, round: int | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Take a job: {"job", "navigation_url"}. Raises: Denied, with JOB_NOT_AVAILABLE when it is not his."""
        frame = Accept(id=uuid4(), job_id=job_id, offer_id=offer_id, round=round)
        return await self.request(frame, timeout_s=timeout_s)

    async def decline(self, offer_id: UUID, reason: str | None = None) -> None:
        await self.request(Decline(id=uuid4(), offer_id=offer_id, reason=reason))

    async def advance(
        self, job_id: UUID, to: Stage, *, distance_m: float | None = None, duration_s: float | None = None
    ) -> dict[str, Any]:
        """The next status of the own job: {"job"}. The measures come with `completed`."""
        frame = Advance(id=uuid4(), job_id=job_id, to=to, distance_m=distance_m, duration_s=duration_s)
        return await self.request(frame)

    async def cancel(self, job_id: UUID, reason: str | None = None) -> dict[str, Any]:
        """End a job: {"job"}. A provider gives a reason."""
        return await self.request(Cancel(id=uuid4(), job_id=job_id, reason=reason))

    async def track(self, job_id: UUID) -> None:
        """Positions of an active job to `on_position`, until `untrack` or the job's end. Asked for anew after a
        reconnect. Raises: Denied, with JOB_NOT_ACTIVE.
        """
        frame = Track(id=uuid4(), job_id=job_id)
        await self.request(frame)
        self._tracked[job_id] = frame.id

    async def untrack(self, job_id: UUID) -> None:
        self._tracked.pop(job_id, None)
        await self.request(Untrack(id=uuid4(), job_id=job_id))


_HANDSHAKE: Final[dict[int, Reconnect]] = {401: "new_token", 403: "no"}
_CLOSED_BY: Final = {
    401: ErrorCode.UNAUTHORIZED,
    CloseCode.UNAUTHENTICATED: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.FORBIDDEN,
    CloseCode.BLOCKED: ErrorCode.FORBIDDEN,
}
_NO_WORDS: Final = ErrorObject(code=ErrorCode.UNKNOWN_ERROR, message="refused without a reason")
