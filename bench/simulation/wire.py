"""The line between a phone and a worker: a transport and a WebSocket as `Connection` and `Door` use them, and a road in between.

The door's reading loop and the connection's writing are the shipped ones; only TCP and the HTTP upgrade are models.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from aiohttp import WSMessage, WSMsgType

if TYPE_CHECKING:
    from bench.simulation.phone import Phone
    from bench.simulation.surroundings import Surroundings

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_BEHIND_S = 1e-6
"""Timers of one instant have no order, and a line keeps its own."""
_CLOSED = WSMessage(WSMsgType.CLOSED, None, None)


class Line:
    """One TCP connection. `half_open`: nothing arrives any more, and neither end is told. `slow`: the phone reads no faster."""

    def __init__(self, around: "Surroundings", phone: "Phone", worker: str) -> None:
        self._around = around
        self._loop = around.loop
        self.phone = phone
        self.worker = worker
        self.half_open = False
        self.slow = False
        self.cut = False
        self.transport = Transport(self)
        self.ws = Socket()
        self.session = ""
        self._down_at = 0.0
        self._up_at = 0.0

    def _delay(self) -> float:
        delay = 0.005 + self._around.chance.random() * 0.03
        if (fault := self._around.weather.on("phone_slow")) is not None:
            fault.met += 1
            delay += self._around.chance.random() * 0.8
        return delay

    def up(self, opcode: int, payload: bytes) -> None:
        """From the phone to its worker, in order."""
        self._up_at = max(self._loop.time() + self._delay(), self._up_at + _BEHIND_S)
        self._loop.after(self._up_at - self._loop.time(), self._arrive, opcode, payload)

    def _arrive(self, opcode: int, payload: bytes) -> None:
        if self.cut:
            return
        if self.half_open or self._around.is_dead(self.worker):
            self._met()
        elif opcode == CLOSE:
            self.ws.feed(WSMessage(WSMsgType.CLOSE, 1000, ""))
        else:
            kind = {TEXT: WSMsgType.TEXT, PONG: WSMsgType.PONG}[opcode]
            self.ws.feed(WSMessage(kind, payload.decode() if opcode == TEXT else payload, None))

    def down(self, opcode: int, payload: bytes, size: int) -> None:
        """From the worker to its phone, in order."""
        delay = self._delay() + (1.5 if self.slow else 0.0)
        self._down_at = max(self._loop.time() + delay, self._down_at + _BEHIND_S)
        self._loop.after(self._down_at - self._loop.time(), self._deliver, opcode, payload, size)

    def _deliver(self, opcode: int, payload: bytes, size: int) -> None:
        if self.cut:
            return
        if self.half_open:
            self._met()
            return
        self.transport.waiting -= size
        self.phone.hear(self, opcode, payload)

    def _met(self) -> None:
        if (fault := self._around.weather.on("phone_half_open", self.phone.device)) is not None:
            fault.met += 1

    def reset(self) -> None:
        """Both ends learn that the line is gone, each in its time."""
        if self.cut:
            return
        self.cut = True
        self._loop.after(0.001, self.ws.feed, _CLOSED)
        self._loop.after(0.02, self.phone.lost, self)

    def abandoned(self) -> None:
        """The phone has given it up: the worker learns, unless the line is dead."""
        if not self.cut:
            self.cut = True
            if not self.half_open:
                self._loop.after(0.02, self.ws.feed, _CLOSED)
            else:
                # The kernel's own timeouts, far later; the worker's pings are quicker.
                self._loop.after(60.0, self.ws.feed, _CLOSED)


class Transport:
    """asyncio.Transport, as far as a connection writes to one."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.waiting = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("Cannot write to closing transport")
        opcode, size, at = data[0] & 0x0F, data[1], 2
        if size == 126:
            (size,), at = struct.unpack("!H", data[2:4]), 4
        elif size == 127:
            (size,), at = struct.unpack("!Q", data[2:10]), 10
        self.waiting += len(data)
        self._line.down(opcode, data[at : at + size], len(data))

    def get_write_buffer_size(self) -> int:
        return self.waiting if self._line.half_open or self._line.slow else 0

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True
        self._line.reset()


class Socket:
    """The gateway's `Line`, as far as the door reads from one."""

    def __init__(self) -> None:
        self._messages: deque[WSMessage] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._context: Context | None = None
        self._take: Callable[[WSMessage], bool] | None = None

    async def receive_or(self, take: Callable[[WSMessage], bool] | None) -> Any:
        self._context = copy_context()
        if not self._messages:
            self._take = take
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            self._take = None
        return self._messages.popleft()

    def feed(self, message: WSMessage) -> None:
        if self._context is None:
            self._messages.append(message)
        else:
            # A read is the worker's: it waits while he is frozen, and never comes when he is dead.
            asyncio.get_running_loop().call_soon(self._read, message, context=self._context)

    def _read(self, message: WSMessage) -> None:
        if self._take is None or not self._take(message):
            self._take = None
            self._messages.append(message)
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(None)
