"""Sockets that are read together: one wake-up of the process for all that came within some milliseconds, not one for each frame.

See docs/decisions/0017.
"""

import asyncio
import os
import select
from typing import Final, Protocol

_BYTES_MAX: Final = 4096
"""Of one line in one reading. A fix is 150; what is longer is read on in the next."""
_LINES_MAX: Final = 1024
"""In one reading, before the loop turns."""


class Reader(Protocol):
    """The protocol of a connection, as far as it is fed."""

    _reading_paused: bool

    def data_received(self, data: bytes, /) -> None: ...


class Reads:
    """Lines by file descriptor, on an epoll of their own. What comes on a quiet worker is read at once; then nothing is read for `every_s`,
    and then again as long as there is something. Whatever is no plain data (an end, an error, a reader that wants no more) is given
    back to the loop, whose transport has been pausing, and it deals with that as always.

    Opened with the first line and closed with the last. Needs Linux: `possible` says so.
    """

    possible: Final = hasattr(select, "epoll")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._lines: dict[int, tuple[asyncio.Transport, Reader]] = {}
        self._poll: select.epoll | None = None
        self._next: asyncio.TimerHandle | None = None

    def follow(self, transport: asyncio.Transport, reader: Reader) -> None:
        """Read this line from now on. Its transport must be open, and plain TCP."""
        fd: int = transport.get_extra_info("socket").fileno()
        if self._poll is None:
            self._poll = select.epoll()
            self._wait(self._poll)
        transport.pause_reading()
        # A number comes again when its line was closed, also before we were told that it was.
        self._lines[fd] = (transport, reader)
        self._poll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)

    def leave(self, transport: asyncio.Transport, fd: int) -> None:
        """The line has closed, or will."""
        line = self._lines.get(fd)
        if line is not None and line[0] is transport:
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        assert self._poll is not None
        del self._lines[fd]
        try:
            self._poll.unregister(fd)
        except OSError:
            pass  # it is closed, and gone from the poll with that
        if not self._lines:
            if self._next is not None:
                self._next.cancel()
                self._next = None
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._poll.close()
            self._poll = None

    def _wait(self, poll: "select.epoll") -> None:
        asyncio.get_running_loop().add_reader(poll.fileno(), self._stirred)

    def _stirred(self) -> None:
        if self._poll is not None:
            asyncio.get_running_loop().remove_reader(self._poll.fileno())
            self._read()

    def _read(self) -> None:
        self._next = None
        if self._poll is None:
            return
        ready = self._poll.poll(0, _LINES_MAX)
        if not ready:
            self._wait(self._poll)
            return
        self._next = asyncio.get_running_loop().call_later(self._every_s, self._read)
        for fd, what in ready:
            line = self._lines.get(fd)
            if line is None or line[0].is_closing():
                continue  # closed by what came on another
            transport, reader = line
            data = b""
            if what == select.EPOLLIN and not reader._reading_paused:
                try:
                    data = os.read(fd, _BYTES_MAX)
                except BlockingIOError:
                    continue
                except OSError:
                    pass  # the loop finds the same, and says so to the line
            if data:
                reader.data_received(data)
            else:
                self._forget(fd)
                if not reader._reading_paused:  # else it resumes by itself
                    transport.resume_reading()
