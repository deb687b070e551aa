"""One connection: callbacks, no coroutine of its own, no task. Frames go straight to the transport."""

import asyncio
import struct
from collections import deque
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from dispatch.kit.clock import Clock
from protocol import codec
from protocol.errors import ByeReason, CloseCode
from protocol.session import ServerSession

log = structlog.get_logger("gateway")

WAITING_BYTES_MAX: Final = 256 * 1024
SWEEP_EVERY_S: Final = 0.5
STALLED_S: Final = 7.5
"""Since a write first blocked. Whoever has read nothing for so long is told to go (4408), behind all that waits for him."""
CUT_S: Final = 8.5
"""Nobody stays for more than 10 s after the first write that blocked (contract.md §3): a second for sweeps that come late."""
PING_S: Final = 15.0
PINGS_UNANSWERED_MAX: Final = 2
_CLOSE_GRACE_S: Final = 2.0
_SILENT: Final = frozenset(
    {CloseCode.MESSAGE_TOO_BIG, CloseCode.FRAME_TOO_LARGE, CloseCode.NOT_OUR_PROTOCOL, CloseCode.UNRESPONSIVE}
)
"""Closes without a `bye` (contract.md §3)."""


def _framed(opcode: int, payload: bytes) -> bytes:
    """A server frame: final, unmasked (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


_PING = _framed(0x9, b"")


class Connection:
    """A socket of one user. Everything that leaves goes through `send`, which bounds what waits and checks whose it is."""

    __slots__ = (
        "_base",
        "_blocked_since",
        "_clock",
        "_flood_window",
        "_flooded",
        "_pings",
        "_tokens",
        "_tokens_at",
        "_transport",
        "_undecodable",
        "address",
        "closing_since",
        "conn_id",
        "due_in",
        "expires_at",
        "frames_lately",
        "gone",
        "greeting",
        "identity",
        "limited_at",
        "locale",
        "next_ping_at",
        "opened_at",
        "running",
        "seat",
        "session",
        "tail",
        "user_id",
        "watched",
    )

    def __init__(
        self,
        conn_id: UUID,
        transport: asyncio.Transport,
        clock: Clock,
        *,
        address: str,
        watched: dict[UUID, None],
    ) -> None:
        """`watched`: the door's list of whom its next sweep looks at, for this connection to put itself on."""
        now = clock.monotonic()
        self.conn_id = conn_id
        self.user_id: UUID = UUID(int=0)
        self.identity: Any = None
        self.expires_at: datetime | None = None
        self.locale = "th"
        self.address = address
        self.session = ServerSession()
        self.seat: Any = None
        self.opened_at = now
        self.closing_since: float | None = None
        self.next_ping_at = now + PING_S
        self.due_in = 0
        """The number of the sweep that will look at it in any case; one that has been: none will."""
        self.running = 0
        self.tail: asyncio.Task[None] | None = None
        """The last request that must not overtake another."""
        self.gone = False
        self.greeting = False
        """A hello has been taken up, answered or not."""
        self.limited_at = -1e9
        self.frames_lately = 0
        """Of any kind, since the last whole second that was counted."""
        self.watched = watched
        self._transport = transport
        self._clock = clock
        self._pings = 0
        self._base = 0
        self._blocked_since: float | None = None
        self._tokens = 20.0
        self._tokens_at = now
        self._flood_window = now
        self._flooded = 0
        self._undecodable: deque[float] | None = None

    # --- out

    def _write(self, data: bytes) -> None:
        # A transport that has lost its socket raises on write; its reader will tell the door.
        if not self._transport.is_closing():
            self._transport.write(data)
            if self._blocked_since is None and self._transport.get_write_buffer_size() > 0:
                self._blocked_since = self._clock.monotonic()
                self.watched[self.conn_id] = None

    def send(self, frame: bytes, user_id: UUID) -> None:
        """Queue one text frame. A frame that carries another user's data closes the connection and raises the alarm (I13)."""
        if self.closing_since is not None:
            return
        if user_id != self.user_id:
            log.critical(
                "frame for another user stopped",
                conn_id=str(self.conn_id),
                user_id=str(self.user_id),
                frame_user_id=str(user_id),
            )
            self._transport.abort()
            return
        self._write(_framed(0x1, frame))
        self._bound()

    @property
    def waiting_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    def _bound(self) -> None:
        if self._transport.get_write_buffer_size() > WAITING_BYTES_MAX + self._base:
            self.leave(CloseCode.UNRESPONSIVE, None)

    def send_base(self, frame: bytes, user_id: UUID) -> None:
        """Queue a snapshot: one frame that may be larger than the bound by itself. What comes after it is bounded on top."""
        self._base = len(frame)
        self.send(frame, user_id)

    def leave(self, code: CloseCode, reason: ByeReason | None, reconnect_after_ms: int = 0) -> None:
        """Say bye where the contract has one, and close. The peer has 2 s to answer; then the line is cut."""
        if self.closing_since is not None:
            return
        if reason is not None and code not in _SILENT:
            self._write(_framed(0x1, codec.bye(reason, reconnect_after_ms)))
        self._write(_framed(0x8, struct.pack("!H", int(code))))
        self.closing_since = self._clock.monotonic()
        self.watched[self.conn_id] = None

    def pong(self, payload: bytes, now: float) -> None:
        """Answer a ping. Who floods with them is closed as with frames, and who does not read the answers as with any."""
        self.count(now)
        if self.closing_since is None:
            self._write(_framed(0xA, payload[:125]))
            self._bound()

    def abort(self) -> None:
        """Cut the line, whatever waits."""
        self._transport.abort()

    def end(self, code: int) -> None:
        """Answer the peer's close, or say what was wrong with his bytes, whatever else was said; and close behind all that waits. No sweep
        sees it any more: what he does not read within 2 s is cut.
        """
        self._write(_framed(0x8, struct.pack("!H", code)))
        self._transport.close()
        if self._transport.get_write_buffer_size() > 0:
            asyncio.get_running_loop().call_later(_CLOSE_GRACE_S, self._transport.abort)

    # --- in

    def heard(self) -> None:
        """Something came in: the line is alive."""
        self._pings = 0

    def admit(self, now: float) -> bool:
        """One frame's share of 10 a second, burst 20."""
        self.count(now)
        self._tokens = min(20.0, self._tokens + (now - self._tokens_at) * 10.0)
        self._tokens_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def count(self, now: float) -> None:
        """Over 100 frames a second for 3 s closes, whatever they are."""
        self.frames_lately += 1
        if now - self._flood_window >= 1.0:
            self._flooded = self._flooded + 1 if self.frames_lately > 100 * max(1.0, now - self._flood_window) else 0
            self.frames_lately, self._flood_window = 0, now
            if self._flooded >= 3:
                self.leave(CloseCode.FLOODING, ByeReason.RATE_LIMITED, 5_000)

    def undecodable(self, now: float) -> None:
        """Count a frame that was no JSON: the fifth within 10 s closes."""
        if self._undecodable is None:
            self._undecodable = deque(maxlen=5)
        self._undecodable.append(now)
        if len(self._undecodable) == 5 and now - self._undecodable[0] <= 10.0:
            self.leave(CloseCode.NOT_OUR_PROTOCOL, None)

    # --- the sweep

    @property
    def restless(self) -> bool:
        """Something waits for its reader, or its close is not answered: every sweep must look."""
        return self._blocked_since is not None or self.closing_since is not None

    def due_at(self, now: float, wall: datetime, hello_within_s: float) -> float:
        """The monotonic second at which time alone does the next thing to it: a ping, the end of its token or of its patience for `hello`."""
        at = self.next_ping_at
        if not self.session.greeted:
            at = min(at, self.opened_at + hello_within_s)
        if self.expires_at is not None:
            at = min(at, now + (self.expires_at - wall).total_seconds())
        return at

    def sweep(self, now: float, wall: datetime, hello_within_s: float) -> None:
        """Everything that time does to a connection: pings, stuck readers, silent newcomers, expired tokens, unanswered closes."""
        blocked_s = self._blocked_s(now)
        if self.closing_since is not None:
            # The close frame waits behind all the rest: whoever does not read hears neither, and is cut.
            if now - self.closing_since >= _CLOSE_GRACE_S or blocked_s >= CUT_S:
                self._transport.abort()
            return
        if self.expires_at is not None and self.expires_at <= wall:
            self.leave(CloseCode.UNAUTHENTICATED, ByeReason.EXPIRED)
        elif not self.session.greeted and now - self.opened_at >= hello_within_s:
            self.leave(CloseCode.UNRESPONSIVE, None)
        elif blocked_s >= STALLED_S:
            self.leave(CloseCode.UNRESPONSIVE, None)
            if blocked_s >= CUT_S:
                self._transport.abort()
        if now >= self.next_ping_at and self.closing_since is None:
            if self._pings >= PINGS_UNANSWERED_MAX:
                self.leave(CloseCode.UNRESPONSIVE, None)
                return
            self._pings += 1
            self.next_ping_at = now + PING_S
            self._write(_PING)

    def _blocked_s(self, now: float) -> float:
        """How long something has waited for the peer to read on, as far as sweeps and writes saw."""
        if self.waiting_bytes == 0:
            self._blocked_since = None
            self._base = 0
            return 0.0
        if self._blocked_since is None:
            self._blocked_since = now
        return now - self._blocked_since
