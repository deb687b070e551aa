"""Lines that are read together: at once on a quiet worker, then not before the next reading, and the loop keeps all that is no plain data."""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from dispatch.gateway.reads import _BYTES_MAX, Reads
from tests.support.server import WITHIN_S

pytestmark = pytest.mark.skipif(not Reads.possible, reason="there is no epoll here")

NEVER_S = 3600.0
"""The next reading comes when the test says so."""


class Line(asyncio.Protocol):
    """The server's end of a connection, and its peer."""

    def __init__(self, peer: socket.socket) -> None:
        self._reading_paused = False
        self.peer = peer
        self.got = b""
        self.came = asyncio.Event()
        self.ended = asyncio.Event()
        self.transport: Any = None
        self.then: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.came.set()
        self.then()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


class Scene:
    def __init__(self) -> None:
        self.reads = Reads(NEVER_S)
        self.lines: list[Line] = []

    async def line(self) -> Line:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        line = Line(peer)
        await asyncio.get_running_loop().create_connection(lambda: line, sock=ours)
        self.reads.follow(line.transport, line)
        self.lines.append(line)
        return line

    async def busy(self) -> Line:
        """A line that was read just now: the others wait for the next reading."""
        line = await self.line()
        line.peer.send(b"busy")
        await line.came.wait()
        return line

    async def turns(self) -> None:
        """The loop has looked at the kernel, several times."""
        for _ in range(20):
            await asyncio.sleep(0)


Scenario = Callable[[Scene], Coroutine[Any, Any, None]]


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def running(scenario: Scenario) -> None:
        async def whole() -> None:
            scene = Scene()
            async with asyncio.timeout(WITHIN_S):
                await scenario(scene)
            for line in scene.lines:
                line.transport.abort()
                line.peer.close()
            await scene.turns()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(whole())

    return running


def test_what_comes_on_a_quiet_worker_is_read_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(scene: Scene) -> None:
        line = await scene.busy()
        assert line.got == b"busy"

    run(scenario)


def test_what_comes_soon_after_waits_for_the_next_reading_and_quiet_begins_anew(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(scene: Scene) -> None:
        first, second = await scene.busy(), await scene.line()
        second.peer.send(b"a")
        first.peer.send(b"b")
        second.peer.send(b"c")
        await scene.turns()
        assert (first.got, second.got) == (b"busy", b"")
        scene.reads._read()
        assert (first.got, second.got) == (b"busyb", b"ac")
        second.came.clear()
        scene.reads._read()  # nothing came: from here on the kernel says when
        second.peer.send(b"d")
        await second.came.wait()
        assert second.got == b"acd"

    run(scenario)


def test_what_is_longer_than_a_reading_is_read_on_in_the_next(run: Callable[[Scenario], None]) -> None:
    async def scenario(scene: Scene) -> None:
        whole = bytes(range(256)) * (_BYTES_MAX * 5 // 2 // 256)
        line = await scene.busy()
        line.peer.send(whole)
        lengths = []
        for _ in range(3):
            scene.reads._read()
            lengths.append(len(line.got) - 4)
        assert lengths == [_BYTES_MAX, 2 * _BYTES_MAX, len(whole)]
        assert line.got == b"busy" + whole

    run(scenario)


@pytest.mark.parametrize("how", ["closed", "shut", "reset", "closed with words"])
def test_the_end_of_a_line_is_the_loops(run: Callable[[Scenario], None], how: str) -> None:
    async def scenario(scene: Scene) -> None:
        line = await scene.line()
        if how == "closed with words":
            line.peer.send(b"last words")
        if how == "shut":
            line.peer.shutdown(socket.SHUT_WR)
        elif how == "reset":
            line.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "shut":
            line.peer.close()
        await line.ended.wait()
        assert line.got == (b"last words" if how == "closed with words" else b"")

    run(scenario)


def test_who_wants_no_more_is_given_back_and_resumes_by_himself(run: Callable[[Scenario], None]) -> None:
    async def scenario(scene: Scene) -> None:
        line = await scene.busy()
        line._reading_paused = True
        line.peer.send(b" more")
        scene.reads._read()
        await scene.turns()
        assert line.got == b"busy"
        line._reading_paused = False
        line.came.clear()
        line.transport.resume_reading()
        await line.came.wait()
        assert line.got == b"busy more"

    run(scenario)


def test_a_line_that_is_closed_by_what_came_on_another_is_not_read(run: Callable[[Scenario], None]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.busy()
        one, other = await scene.line(), await scene.line()
        one.then, other.then = other.transport.abort, one.transport.abort
        one.peer.send(b"1")
        other.peer.send(b"2")
        scene.reads._read()
        assert sorted((one.got, other.got)) in ([b"", b"1"], [b"", b"2"])

    run(scenario)


def test_it_ends_with_the_last_line_and_begins_with_the_next(run: Callable[[Scenario], None]) -> None:
    async def scenario(scene: Scene) -> None:
        for _ in range(3):
            line = await scene.busy()
            fd = line.transport.get_extra_info("socket").fileno()
            line.transport.abort()
            await line.ended.wait()
            scene.reads.leave(line.transport, fd)
            assert scene.reads._poll is None and scene.reads._next is None and not scene.reads._lines

    run(scenario)


def test_a_number_that_came_again_is_the_new_lines(run: Callable[[Scenario], None]) -> None:
    """The kernel gives a closed line's number away before we are told that it was closed."""

    async def scenario(scene: Scene) -> None:
        await scene.busy()
        line = await scene.line()
        fd = line.transport.get_extra_info("socket").fileno()
        scene.reads.leave(object(), fd)  # type: ignore[arg-type]
        line.peer.send(b"mine")
        scene.reads._read()
        assert line.got == b"mine"

    run(scenario)
