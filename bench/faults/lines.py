"""One connection through the proxy: two ends, two flows. Nothing is awaited where nothing is held back."""

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from bench.faults.statements import READY_FOR_QUERY, PostgresReplies, PostgresRequests, RedisReplies, RedisRequests

if TYPE_CHECKING:
    from bench.faults.proxy import Proxy, Trap

SLOWED_S = 0.02
"""What passes undisturbed goes at once; what waits here for longer than this was met by a delay or a throttle."""

WAITING_BYTES_MAX = 1024 * 1024
"""Held back in one flow; beyond that its source is not read."""


class _End(asyncio.Protocol):
    """The socket at one end of a line."""

    def __init__(self, line: "Line", *, client: bool) -> None:
        self._line = line
        self._client = client
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._line.made(client=self._client)

    def data_received(self, data: bytes) -> None:
        if self._client:
            self._line.requested(data)
        else:
            self._line.replied(data)

    def eof_received(self) -> bool:
        self._line.ended(client=self._client)
        return True  # closed by us, when what is under way has left

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.ended(client=self._client, harshly=exc is not None, gone=True)

    def pause_writing(self) -> None:
        self._line.pause(client=not self._client)

    def resume_writing(self) -> None:
        self._line.resume(client=not self._client)


class _Flow:
    """Bytes one way. What cannot go at once waits in order."""

    __slots__ = ("_bytes", "_due", "_line", "_queue", "_timer", "_to", "closing", "held")

    def __init__(self, line: "Line", to: _End) -> None:
        self._line = line
        self._to = to
        self._queue: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.held = False
        self.closing = False
        """The source has ended: so does the other end, once everything has left."""

    def push(self, data: bytes, delay_s: float = 0.0) -> float:
        """Returns the seconds that a delay or a throttle will hold it back."""
        proxy = self._line.proxy
        if not (self._queue or self.held or delay_s or proxy.bytes_per_s or self._line.stopped) and (
            self._to.transport is not None
        ):
            self._to.transport.write(data)
            return 0.0
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now + delay_s)
        if proxy.bytes_per_s:
            self._due = max(self._due, now) + len(data) / proxy.bytes_per_s
        self._queue.append((self._due, data))
        self._bytes += len(data)
        if self._bytes > WAITING_BYTES_MAX:
            self._line.pause(client=self._to is self._line.server)
        held_s = self._due - now
        self.pump()
        return held_s

    def hurry(self) -> None:
        """What was delayed is due now."""
        self._due = 0.0
        self._queue = deque((0.0, data) for _, data in self._queue)

    def pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport = self._to.transport
        if self.held or self._line.stopped or transport is None or transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        while self._queue:
            due, data = self._queue[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.pump)
                return
            self._queue.popleft()
            self._bytes -= len(data)
            transport.write(data)
        if self._bytes == 0:
            self._line.resume(client=self._to is self._line.server)
        if self.closing:
            transport.close()

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()


class Line:
    """One connection through a proxy."""

    def __init__(self, proxy: "Proxy") -> None:
        self.proxy = proxy
        self.client = _End(self, client=True)
        self.server = _End(self, client=False)
        self.busy = False
        """A statement went out and its answer has not come back whole."""
        self._up = _Flow(self, self.server)
        self._down = _Flow(self, self.client)
        speaks = proxy.speaks
        self._requests: PostgresRequests | RedisRequests | None = (
            PostgresRequests() if speaks == "postgres" else RedisRequests() if speaks == "redis" else None
        )
        self._swallowing: tuple[Trap, PostgresReplies | RedisReplies] | None = None
        self._slowed = False
        """The statement under way is among those that `proxy.slowed` counts."""
        self._holed = False
        self._over = False

    @property
    def stopped(self) -> bool:
        """Nothing moves, and nobody hears of ends."""
        return self.proxy.mode.value in ("frozen", "blackhole")

    # --- ends

    def made(self, *, client: bool) -> None:
        if client:
            self.proxy.connect(self)
        elif self._over:
            self.server.transport.abort()  # type: ignore[union-attr]
        else:
            self._up.pump()

    def ended(self, *, client: bool, harshly: bool = False, gone: bool = False) -> None:
        """One end says no more (`gone`: and hears nothing either)."""
        if self._over:
            return
        other, flow = (self.server, self._up) if client else (self.client, self._down)
        if harshly and not self.stopped:
            self.reset()
            return
        flow.closing = True
        flow.pump()
        if gone and not self.stopped and (other.transport is None or other.transport.is_closing()):
            self._finish()

    def reset(self) -> None:
        """Close both ends; the client sees a reset, not an orderly end."""
        for end in (self.client, self.server):
            transport = end.transport
            if transport is None:
                continue
            if end is self.client and (raw := transport.get_extra_info("socket")) is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self.proxy.lost += self.busy
        self.proxy.lines.discard(self)
        self._up.drop()
        self._down.drop()

    def healed(self) -> None:
        """The proxy is well again: what waited goes on; where bytes are missing, both ends start anew."""
        if self._holed:
            self.reset()
            return
        for flow in (self._up, self._down):
            flow.hurry()
            flow.pump()

    def pause(self, *, client: bool) -> None:
        """Read no more from one end."""
        transport = (self.client if client else self.server).transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def resume(self, *, client: bool) -> None:
        transport: Any = (self.client if client else self.server).transport
        if transport is not None and not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()

    # --- bytes

    def requested(self, data: bytes) -> None:
        if self._over:
            return
        if self._requests is None:
            self._forward(self._up, data, "requests")
            return
        ready: list[bytes] = []
        for message, executed in self._requests.feed(data):
            trap = None
            if executed is not None:
                self.busy = True
                self._slowed = False
                trap = self.proxy.sprung(executed, message)
            if trap is not None:
                self._forward(self._up, b"".join(ready), "requests")
                ready.clear()
                if self._met(trap):
                    return
            ready.append(message)
        self._forward(self._up, b"".join(ready), "requests")

    def _met(self, trap: "Trap") -> bool:
        """A statement that a trap waited for; True: it goes no further."""
        if trap.action == "cut_before":
            self.reset()
            trap.reached.set()
            return True
        if trap.action == "hold":
            self._up.held = True
            trap.on_release.append(self._release)
            trap.reached.set()
        else:
            self._swallowing = (trap, PostgresReplies() if self.proxy.speaks == "postgres" else RedisReplies())
        return False

    def _release(self) -> None:
        self._up.held = False
        self._up.pump()

    def replied(self, data: bytes) -> None:
        if self._over:
            return
        if self._swallowing is not None:
            trap, replies = self._swallowing
            if not replies.complete(data):
                return
            self._swallowing = None
            trap.reached.set()
            if trap.action == "drop_reply":
                self.reset()
                return
            data = trap.answer
        proxy = self.proxy
        delay_s = (
            max(0.0, proxy.delay_s + proxy.dice.uniform(-proxy.jitter_s, proxy.jitter_s)) if proxy.delay_s else 0.0
        )
        self._forward(self._down, data, "replies", delay_s)
        if self.proxy.speaks != "postgres" or data[-6:-1] == READY_FOR_QUERY:
            self.busy = False

    def _forward(self, flow: _Flow, data: bytes, direction: str, delay_s: float = 0.0) -> None:
        if not data:
            return
        if self.proxy.mode.value == "blackhole" or self.proxy.silent == direction:
            self._holed = True
            self._slow()
        elif flow.push(data, delay_s) >= SLOWED_S:
            self._slow()

    def _slow(self) -> None:
        """Count the call whose bytes these are, once. What a store says unasked is no call."""
        if self._requests is None or (self.busy and not self._slowed):
            self._slowed = True
            self.proxy.slowed += 1
