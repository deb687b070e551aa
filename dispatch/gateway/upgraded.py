"""aiohttp's socket, whose messages can be taken while the bytes are read.

By itself aiohttp puts each message into a queue and wakes the task that waits for it: a future, a turn of the loop and a look at
the kernel more for each frame, which costs more than all that we do with a position. See docs/decisions/0015.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMessage, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http_websocket import WebSocketReader, WebSocketWriter
from aiohttp.web_protocol import RequestHandler

Take = Callable[[WSMessage], bool]
"""Deals with a message at once, or says False: it is for whoever waits in `receive`. Must not raise and must not wait."""

_QUEUED_BYTES_MAX = 256 * 1024
"""aiohttp's own bound of what waits for `receive`: at twice as much, the line is read no further until it has been received."""


class _Queue(WebSocketDataQueue):
    """Keeps the order: once something waits, what comes behind it waits too, until `receive` is called on an empty queue."""

    __slots__ = ("take",)

    def __init__(self, protocol: RequestHandler, limit: int, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(protocol, limit, loop=loop)
        self.take: Take | None = None

    def feed_data(self, data: Any, size: int) -> None:
        take = self.take
        if take is None or not take(data):
            self.take = None
            super().feed_data(data, size)


class Upgraded(web.WebSocketResponse):
    """A socket whose messages go to whoever asks for them in `receive`, or to his `take` while he waits."""

    _reader: _Queue | None = None

    def receive_or(self, take: Take | None) -> Awaitable[WSMessage]:
        """The next message that `take` does not deal with, or that came before it could: in the order in which they came.

        No coroutine of its own: it would weigh half a KiB for each idle line.
        """
        queue = self._reader
        if queue is not None and not queue._buffer:
            queue.take = take  # until it says no: then it waits for the next call
        return self.receive()

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        # As aiohttp's own, with our queue in place of its own.
        self._ws_protocol = protocol
        self._writer = writer
        assert self._loop is not None
        self._reader = _Queue(request.protocol, _QUEUED_BYTES_MAX, loop=self._loop)
        self._parser = WebSocketReader(self._reader, self._max_msg_size, compress=False, decode_text=True)
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)
