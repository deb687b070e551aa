"""The socket's door on aiohttp: handshake, the reading loop, frames to handlers. Above it nothing knows which transport it is."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.streams import EofStream

from dispatch.gateway.connection import SWEEP_EVERY_S, Connection
from dispatch.gateway.reads import Reads
from dispatch.gateway.upgraded import Line, Upgrade, taken
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Busy, DispatchError, Forbidden, Overloaded, SessionExpired, Unauthenticated
from dispatch.kit.ids import jitter_s, new_id, swift
from dispatch.kit.postgres import LOST, STUCK
from dispatch.kit.route import REQUEST_ID
from dispatch.kit.tasks import Nursery
from protocol import codec
from protocol.errors import ByeReason, CloseCode, ErrorCode, Refused, text_of
from protocol.frames import FRAME_BYTES_MAX, HELLO_WITHIN_S, SUBPROTOCOL, Hello

log = structlog.get_logger("gateway")

_TEXT, _PING, _PONG = WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG
_RUNNING_MAX = 8
"""Requests of one connection under way at once: a phone has one or two."""
_TURN_MAX = 64
"""Frames of one connection before others have their turn. Whoever sends more within a second is read in turns from then on."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection belongs to."""

    user_id: UUID
    expires_at: datetime
    locale: str
    actor: Any
    """The actor the handlers act for; the gateway only carries it."""
    token: Any = None
    """The token's claims, as `by_token` read them; carried likewise."""


Request = Callable[[Connection, Any], Awaitable[bytes]]
"""Answers one frame with the JSON of `reply.data`. Raises DispatchError for a no."""
Signal = Callable[[Connection, Any], None]
"""Takes a frame that has no answer. Raises DispatchError for an `error` frame."""


@dataclass(slots=True)
class SocketRules:
    """What the app hands the door."""

    by_token: Callable[[str, str], Awaitable[Identity]]
    """(token, address) → who. Raises Unauthenticated, SessionExpired, Forbidden."""
    by_ticket: Callable[[str, str], Awaitable[Identity]]
    greet: Callable[[Connection, Hello], Awaitable[None]]
    left: Callable[[Connection], None]
    requests: Mapping[type, Request] = field(default_factory=dict)
    signals: Mapping[type, Signal] = field(default_factory=dict)
    ordered: frozenset[type] = frozenset()
    """Requests of one connection that must not overtake each other: the last word wins."""
    origins: frozenset[str] = frozenset()


def _let_go(error: BaseException | None) -> None:
    """Undo the cycles of a broken connection, so that it is freed at once. What only the collector frees, it must find: among the objects
    of thousands of open sockets, in one stop of the loop.
    """
    while error is not None:
        # Its traceback holds the frames that hold the socket that holds it.
        before, error.__traceback__, error.__context__, error.__cause__ = error.__context__, None, None, None
        error = before


class Door:
    """All connections of this worker."""

    def __init__(
        self,
        rules: SocketRules,
        clock: Clock,
        nursery: Nursery,
        *,
        handshake_rate: float,
        read_every_s: float = 0.0,
    ) -> None:
        """`read_every_s`: sockets are read together, so often at most; 0: each by itself."""
        self._rules = rules
        self._clock = clock
        self._nursery = nursery
        self._lines = Nursery()
        """One task for each; apart from the work that the other is asked to bound."""
        self._rate = handshake_rate
        self._tokens = handshake_rate
        self._tokens_at = clock.monotonic()
        self.connections: dict[UUID, Connection] = {}
        self._watched: dict[UUID, None] = {}
        """Whom every sweep looks at: who has unread bytes, is closing, or was changed."""
        self._due: dict[int, list[UUID]] = {}
        """All others, by the number of the sweep that has something to do for them."""
        self._swept = int(self._tokens_at / SWEEP_EVERY_S)
        self._reads = Reads(read_every_s) if read_every_s and Reads.possible else None
        self.draining = False
        self.frames_in = 0
        self.frames_limited = 0
        """Of these, dropped unread: over their socket's rate."""
        self.waiting_bytes_max = 0
        """At the last sweep, of the connection that had most."""
        self.refused: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.connections)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/socket."""
        refusal = self._admission(request)
        if refusal is not None:
            return refusal
        address = request.remote or ""
        identity: Identity | None = None
        ticket = request.query.get("ticket")
        try:
            header = request.headers.get("Authorization", "")
            if header[:7].lower() == "bearer ":
                identity = await self._rules.by_token(header[7:].strip(), address)
            elif ticket is None:
                raise Unauthenticated("neither token nor ticket")
        except DispatchError as error:
            return self._no(request, error.code, error.status, retry=error.code is ErrorCode.OVERLOADED)
        except (*STUCK, *LOST) as error:
            log.warning("handshake without Postgres", error=repr(error))
            return self._no(request, ErrorCode.OVERLOADED, 503, retry=True)
        ws = Upgrade(
            protocols=(SUBPROTOCOL,),
            autoping=False,
            autoclose=False,
            compress=False,
            heartbeat=None,
        )
        await ws.prepare(request)
        line = taken(request, FRAME_BYTES_MAX + 1)  # aiohttp refuses at the limit, not beyond it
        if line is None:
            return ws
        transport = line.transport
        assert transport is not None
        # Else the kernel takes megabytes for a reader that has stopped, and hides it (contract.md §3, 4408).
        plain = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        conn = self.enter(transport, address)
        if identity is not None:
            self.identify(conn, identity)
            ticket = None
        if ws.ws_protocol != SUBPROTOCOL:
            conn.leave(CloseCode.NOT_OUR_PROTOCOL, None)
            ticket = None
        self._lines.start(self._serve(line, conn, transport, plain.fileno(), ticket), "socket")
        return ws

    async def _serve(
        self, line: Line, conn: Connection, transport: asyncio.Transport, fd: int, ticket: str | None
    ) -> None:
        """A line from its handshake to its end. With a ticket, it is not known yet whose it is."""
        code: int = WSCloseCode.OK
        error: BaseException | None = None
        try:
            if self._reads is not None and not transport.is_closing():
                self._reads.follow(transport, line)
            if ticket is not None:
                identity = await self._redeem(conn, ticket, conn.address)
                if identity is not None:
                    self.identify(conn, identity)
            await self._read(line, conn)
        except EofStream:
            pass
        except WebSocketError as broken:
            error, code = broken, broken.code
        except Exception as bug:
            log.error("line cut", conn_id=str(conn.conn_id), exc_info=bug)
            conn.abort()
        finally:
            if self._reads is not None:
                self._reads.leave(transport, fd)
            self.leave(conn)
            conn.seat = None
            line.deaf()
            conn.end(code)
            _let_go(error)

    def enter(self, transport: asyncio.Transport, address: str) -> Connection:
        """A line that was upgraded: from here on it is swept. Whoever lets it in says `leave` in the end."""
        conn = Connection(swift(new_id()), transport, self._clock, address=address, watched=self._watched)
        self.connections[conn.conn_id] = conn
        self._watched[conn.conn_id] = None
        return conn

    def leave(self, conn: Connection) -> None:
        """The line has closed."""
        conn.gone = True
        del self.connections[conn.conn_id]
        self._watched.pop(conn.conn_id, None)
        self._rules.left(conn)

    def _admission(self, request: web.Request) -> web.Response | None:
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._rules.origins and origin.split("://")[-1] != request.host:
            return self._no(request, ErrorCode.ORIGIN_REFUSED, 403)
        if self.draining:
            return self._no(request, ErrorCode.OVERLOADED, 503, retry=True)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._no(request, ErrorCode.VALIDATION_ERROR, 426)
        now = self._clock.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._tokens_at) * self._rate)
        self._tokens_at = now
        if self._tokens < 1.0:
            return self._no(request, ErrorCode.OVERLOADED, 503, retry=True)
        self._tokens -= 1.0
        return None

    def _no(self, request: web.Request, code: ErrorCode, status: int, *, retry: bool = False) -> web.Response:
        self.refused[code] = self.refused.get(code, 0) + 1
        locale = "en" if request.headers.get("Accept-Language", "").lower().startswith("en") else "th"
        headers = {"Retry-After": str(round(jitter_s(1, 10)))} if retry else {}
        if status == 426:
            headers["Upgrade"] = "websocket"
        body = {
            "error": {
                "code": code,
                "message": text_of(code, locale),
                "timestamp": codec.wire_time(self._clock.now()),
                "request_id": str(request.get(REQUEST_ID) or new_id()),
            }
        }
        return web.json_response(body, status=status, headers=headers)

    async def _redeem(self, conn: Connection, ticket: str, address: str) -> Identity | None:
        try:
            return await self._rules.by_ticket(ticket, address)
        except (Unauthenticated, SessionExpired):
            conn.leave(CloseCode.UNAUTHENTICATED, ByeReason.EXPIRED)
        except Forbidden:
            conn.leave(CloseCode.BLOCKED, ByeReason.REVOKED)
        except (Overloaded, *STUCK, *LOST):
            conn.leave(CloseCode.RESTART, ByeReason.DRAINING, round(jitter_s(1_000, 10_000)))
        return None

    def identify(self, conn: Connection, identity: Identity) -> None:
        """Whose connection this is, and until when."""
        conn.user_id, conn.identity, conn.expires_at, conn.locale = (
            swift(identity.user_id),
            identity,
            identity.expires_at,
            identity.locale,
        )
        self._watched[conn.conn_id] = None  # it may end sooner than the last one

    async def _read(self, line: Line, conn: Connection) -> None:
        """Everything that comes, to the end of the line. From the greeting on, words are taken while they are read; what is received here is
        the rest: what came in one go with the greeting, what comes too fast, and the end.
        """
        take = partial(self._take, conn)
        turn = 0
        while True:
            message = await line.receive_or(take if conn.session.greeted else None)
            turn += 1
            if turn % _TURN_MAX == 0:
                # What has come already is received without a wait: thousands of tiny frames would have the loop to themselves.
                await self._clock.sleep(0)
            kind = message.type
            if kind is _TEXT or kind is _PONG or kind is _PING:
                waiting = self._word(conn, message)
                if waiting is not None:
                    # Only a greeting: what comes after `hello` waits for its welcome.
                    await waiting
                del message, waiting  # else an idle line keeps its greeting
            elif kind is WSMsgType.BINARY:
                conn.heard()
                conn.leave(CloseCode.NOT_OUR_PROTOCOL, None)
            else:
                return

    def _take(self, conn: Connection, message: WSMessage) -> bool:
        """A message of a greeted connection, from within the read. False: it has to be received, in turns with those of others."""
        if conn.frames_lately >= _TURN_MAX or conn.closing_since is not None:
            return False
        kind = message.type
        try:
            if kind is _TEXT:
                conn.heard()
                self.frames_in += 1
                self._frame(conn, message.data)
            elif kind is _PONG or kind is _PING:
                self._word(conn, message)
            else:
                return False
        except Exception as error:
            log.error("message could not be taken", conn_id=str(conn.conn_id), exc_info=error)
            conn.abort()
        return True

    def _word(self, conn: Connection, message: WSMessage) -> Awaitable[None] | None:
        """A text, a ping or a pong. What it returns must be awaited before the next is looked at."""
        conn.heard()
        if message.type is _TEXT:
            if conn.closing_since is None:
                self.frames_in += 1
                return self._frame(conn, message.data)
        elif message.type is _PING:
            conn.pong(message.data, self._clock.monotonic())
        else:
            conn.count(self._clock.monotonic())
        return None

    def _frame(self, conn: Connection, data: str) -> Awaitable[None] | None:
        now = self._clock.monotonic()
        if not conn.admit(now):
            self.frames_limited += 1
            if now - conn.limited_at >= 1.0:
                conn.limited_at = now
                self._error(conn, ErrorCode.RATE_LIMITED, "more than 10 frames a second")
            return None
        try:
            frame = codec.decode_client(data)
            conn.session.admit(frame)
        except Refused as refused:
            self._refuse(conn, refused, now)
            return None
        except Exception as error:
            # A bug of ours must not cost the sender his socket, and aiohttp would answer it by HTTP in the middle of it.
            log.error("frame could not be judged", conn_id=str(conn.conn_id), exc_info=error)
            self._error(conn, ErrorCode.INTERNAL_ERROR, "")
            return None
        signal = self._rules.signals.get(type(frame))
        if signal is not None:
            try:
                signal(conn, frame)
            except DispatchError as error:
                self._error(conn, error.code, str(error), error.details)
            except Exception as error:
                # A bug of ours must not cost the sender his socket.
                log.error("frame failed", frame=type(frame).__name__, conn_id=str(conn.conn_id), exc_info=error)
                self._error(conn, ErrorCode.INTERNAL_ERROR, "")
            return None
        if isinstance(frame, Hello):
            return self._greet(conn, frame)
        request: Any = frame  # signals and hello are dealt with: what is left has an id
        if conn.running >= _RUNNING_MAX:
            self._reply_no(conn, request.id, Busy(f"{_RUNNING_MAX} requests of this connection are under way"))
        else:
            conn.running += 1
            if type(frame) in self._rules.ordered:
                conn.tail = self._nursery.start(self._answer_after(conn.tail, conn, request), "request")
            else:
                self._nursery.start(self._answer(conn, request), "request")
        return None

    async def _greet(self, conn: Connection, frame: Hello) -> None:
        try:
            await self._rules.greet(conn, frame)
        except Exception as error:
            # Without a welcome there is no session; the client comes back, to a healthier worker or moment.
            log.warning(
                "greeting failed",
                conn_id=str(conn.conn_id),
                error=repr(error),
                exc_info=None
                if isinstance(error, (Overloaded, *STUCK, *LOST))
                else error,  # a storm of these says nothing more
            )
            conn.leave(CloseCode.RESTART, ByeReason.DRAINING, round(jitter_s(500, 3_000)))

    async def _answer_after(self, before: "asyncio.Task[None] | None", conn: Connection, frame: Any) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._answer(conn, frame)
        if conn.tail is asyncio.current_task():
            conn.tail = None  # nothing waits for it: an idle line keeps no task that has ended

    async def _answer(self, conn: Connection, frame: Any) -> None:
        try:
            data = await self._rules.requests[type(frame)](conn, frame)
        except Overloaded as error:
            # On a socket every answer that decided nothing has one word, and the phone asks again by itself.
            self._reply_no(conn, frame.id, Busy(str(error), retry_after_ms=1_000))
        except DispatchError as error:
            self._reply_no(conn, frame.id, error)
        except STUCK as error:
            self._reply_no(conn, frame.id, Busy(f"held up: {type(error).__name__}"))
        except LOST as error:
            log.warning("request without an answer", frame=type(frame).__name__, error=repr(error))
            self._reply_no(conn, frame.id, Busy("Postgres did not answer"))
        except Exception as error:
            log.error("request failed", frame=type(frame).__name__, conn_id=str(conn.conn_id), exc_info=error)
            conn.send(
                codec.reply_error(frame.id, ErrorCode.INTERNAL_ERROR, text_of(ErrorCode.INTERNAL_ERROR, conn.locale)),
                conn.user_id,
            )
        else:
            conn.send(codec.reply_ok(frame.id, data), conn.user_id)
        finally:
            conn.running -= 1

    def _reply_no(self, conn: Connection, request_id: UUID, error: DispatchError) -> None:
        self.refused[error.code] = self.refused.get(error.code, 0) + 1
        conn.send(
            codec.reply_error(request_id, error.code, text_of(error.code, conn.locale), error.details or None),
            conn.user_id,
        )

    def _refuse(self, conn: Connection, refused: Refused, now: float) -> None:
        self.refused[refused.code] = self.refused.get(refused.code, 0) + 1
        if refused.id is not None and not refused.undecodable:
            conn.send(
                codec.reply_error(refused.id, refused.code, text_of(refused.code, conn.locale), refused.details),
                conn.user_id,
            )
        else:
            self._error(conn, refused.code, refused.message, refused.details)
        if refused.undecodable:
            conn.undecodable(now)

    def _error(self, conn: Connection, code: ErrorCode, why: str, details: dict[str, Any] | None = None) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1
        conn.send(
            codec.error(
                code,
                text_of(code, conn.locale),
                {"why": why, **details} if details is not None and "why" not in details else details,
            ),
            conn.user_id,
        )

    async def sweep(self) -> None:
        """One pass over the connections that time can do something to, every SWEEP_EVERY_S, in place of timers for each."""
        now, wall = self._clock.monotonic(), self._clock.now()
        looked_at = tuple(self._watched)
        self._watched.clear()
        swept, self._swept = self._swept, int(now / SWEEP_EVERY_S)
        due = [conn_id for sweep in range(swept + 1, self._swept + 1) for conn_id in self._due.pop(sweep, ())]
        most = 0
        for conn_id in (*looked_at, *due):
            conn = self.connections.get(conn_id)
            if conn is None:
                continue
            most = max(most, conn.waiting_bytes)
            conn.sweep(now, wall, HELLO_WITHIN_S)
            if conn.restless:
                self._watched[conn_id] = None
            # Once for each: who was looked at before his time keeps his place, unless his time has come nearer.
            at = max(self._swept + 1, int(conn.due_at(now, wall, HELLO_WITHIN_S) / SWEEP_EVERY_S))
            if conn.due_in <= self._swept or at < conn.due_in:
                conn.due_in = at
                self._due.setdefault(at, []).append(conn_id)
        self.waiting_bytes_max = most

    async def closed(self, grace_s: float) -> None:
        """Every line has been cut: wait for what they leave behind, and cancel what takes longer."""
        await self._lines.close(grace_s)

    async def drain(self, over_s: float) -> None:
        """Take no newcomers, and ask everybody to come back elsewhere, each at his own moment within `over_s`. The sweep cuts who stays."""
        self.draining = True
        for conn in tuple(self.connections.values()):
            conn.leave(CloseCode.RESTART, ByeReason.DRAINING, round(jitter_s(0, over_s * 1000)))
