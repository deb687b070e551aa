"""A socket after its handshake, out of aiohttp's hands but for its parser of frames.

By itself aiohttp keeps all that it needed for the request for as long as the socket lives, and puts each message into a queue and wakes
the task that waits for it. The first weighs more than all that we keep of an idle line, the second costs more than all that we do with
a position. See docs/decisions/0015.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import WSMessage, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_websocket import WebSocketError, WebSocketReader, WebSocketWriter

from protocol.errors import CloseCode

Take = Callable[[WSMessage], bool]
"""Deals with a message at once, or says False: it is for whoever waits in `receive_or`. Must not raise and must not wait."""

_QUEUED_BYTES_MAX = 256 * 1024
"""aiohttp's own bound of what waits to be received: at twice as much, the line is read no further until it has been."""


_BYTES_MAX: Final = 2 * 2**20
_WITHIN_S: Final = 10.0
"""So much within so long is more than the largest frames at the rate that is admitted. Frames are counted where they are complete: this
bounds what never completes one, such as fragments without end.
"""


class Upgrade(web.WebSocketResponse):
    """The answer to a handshake. The line lives on without it."""

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        # As aiohttp's own, without what would read from the line.
        self._ws_protocol = protocol
        self._writer = writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is at its end but the request."""


class _Queue(WebSocketDataQueue):
    """Keeps the order: once something waits, what comes behind it waits too, until it is asked for on an empty queue."""

    __slots__ = ("take",)

    def __init__(self, protocol: BaseProtocol, limit: int, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(protocol, limit, loop=loop)
        self.take: Take | None = None

    def feed_data(self, data: Any, size: int) -> None:
        take = self.take
        if take is None or not take(data):
            self.take = None
            super().feed_data(data, size)


class Line(BaseProtocol):
    """What reads an upgraded line. Its messages go to whoever asks for them in `receive_or`, or to his `take` while he waits."""

    __slots__ = ("_counted_from", "_left", "_queue", "_words")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, message_bytes_max: int) -> None:
        super().__init__(loop)
        self.transport = transport
        self._left, self._counted_from = _BYTES_MAX, loop.time()
        self._upgraded = True  # aiohttp pauses a parser of HTTP otherwise
        self._queue = _Queue(self, _QUEUED_BYTES_MAX, loop=loop)
        self._words: WebSocketReader | None = WebSocketReader(
            self._queue, message_bytes_max, compress=False, decode_text=True
        )

    def data_received(self, data: bytes) -> None:
        if self._words is not None:
            self._left -= len(data)
            if self._left >= 0 or not self._floods():
                self._words.feed_data(data)

    def _floods(self) -> bool:
        now = self._loop.time()
        if now - self._counted_from >= _WITHIN_S:
            self._left, self._counted_from = _BYTES_MAX, now
            return False
        self._words = None
        self._queue.set_exception(WebSocketError(CloseCode.FLOODING, "more bytes than frames could have"))
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._words = None
        self._queue.feed_eof()

    def receive_or(self, take: Take | None) -> Awaitable[WSMessage]:
        """The next message that `take` does not deal with, or that came before it could: in the order in which they came. Raises EofStream
        at the end of the line, and WebSocketError for what is no WebSocket.

        No coroutine of its own: it would weigh half a KiB for each idle line.
        """
        if not self._queue._buffer:
            self._queue.take = take  # until it says no: then it waits for the next call
        return cast("Awaitable[WSMessage]", self._queue.read())  # the parser decodes texts

    def deaf(self) -> None:
        """Take nothing more, and let go of what would hold this."""
        self._words = self._queue.take = None
        self._queue._protocol = None  # type: ignore[assignment]


def taken(request: web.Request, message_bytes_max: int) -> Line | None:
    """The line of a request whose Upgrade has been sent: aiohttp knows of it no more, as if it had closed, and frees what it had for
    it as soon as the handler returns. What came behind the request waits in its queue. None: it has closed.
    """
    handler = request.protocol
    transport = handler.transport
    if transport is None:
        return None
    line = Line(transport, handler._loop, message_bytes_max)
    line._paused = handler._paused
    transport.set_protocol(line)
    if handler._reading_paused or handler._buffer_paused:
        transport.resume_reading()
    tail, handler._message_tail = handler._message_tail, b""
    handler.transport = None  # else it would close it
    handler.connection_lost(None)
    if tail:
        line.data_received(tail)
    return line
