"""A closed socket is freed by itself: nothing of it waits for the collector, which would stop the loop to find it."""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from types import CoroutineType

import pytest
from aiohttp import web

from dispatch.gateway.connection import Connection
from protocol.errors import CloseCode
from tests.support.dialled import dialled
from tests.support.server import WITHIN_S, Server, serving

SOCKETS = 3


@pytest.fixture(params=[10, 0], ids=["read together", "read each by itself"])
async def server(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, read_every_ms=request.param) as running:
        yield running


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def closed(line: socket.socket, server: Server) -> None:
    line.sendall(bytes((0x88, 0x82)) + bytes(4) + struct.pack("!H", 1000))


def dropped(line: socket.socket, server: Server) -> None:
    line.close()


def reset(line: socket.socket, server: Server) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def broken(line: socket.socket, server: Server) -> None:
    line.sendall(b"\xff\xff\xff\xff")


def cut(line: socket.socket, server: Server) -> None:
    for conn in server.app.door.connections.values():
        conn.abort()


def sent_away(line: socket.socket, server: Server) -> None:
    for conn in server.app.door.connections.values():
        conn.leave(CloseCode.RESTART, None)
    closed(line, server)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ends", [closed, dropped, reset, broken, cut, sent_away])
async def test_a_closed_socket_is_freed_without_the_collector(
    server: Server, ends: Callable[[socket.socket, Server], None]
) -> None:
    people = [await server.provider() for _ in range(SOCKETS)]
    gc.collect()
    lines = [dialled(server, person) for person in people]
    door = server.app.door
    async with asyncio.timeout(WITHIN_S):
        while sum(conn.seat is not None for conn in door.connections.values()) < SOCKETS:
            await asyncio.sleep(0)
    for line in lines:
        ends(line, server)
    async with asyncio.timeout(WITHIN_S):
        while door.connections:
            await asyncio.sleep(0)
    for line in lines:
        line.close()
    async with asyncio.timeout(WITHIN_S):
        # Their greetings' tasks end on their own time.
        while left := [one for one in gc.get_objects() if isinstance(one, Connection)]:
            del left
            await asyncio.sleep(0.01)


async def test_an_open_socket_holds_nothing_of_the_request_that_brought_it(server: Server) -> None:
    lines = [dialled(server, await server.provider()) for _ in range(SOCKETS)]
    door = server.app.door
    async with asyncio.timeout(WITHIN_S):
        while sum(conn.seat is not None for conn in door.connections.values()) < SOCKETS:
            await asyncio.sleep(0)
    gc.collect()
    held = [
        one
        for one in gc.get_objects()
        if isinstance(one, web.WebSocketResponse) or (isinstance(one, web.BaseRequest) and one.path == "/v1/socket")
    ]
    assert not held
    asked = server.app.api.strangers._asked
    async with asyncio.timeout(WITHIN_S):
        while any(
            handler.transport is None for handler in asked
        ):  # until aiohttp's server does not count them any more
            await asyncio.sleep(0.01)
    assert len(door) == SOCKETS
    for line in lines:
        line.close()


async def test_an_idle_line_keeps_neither_its_greeting_nor_its_last_answer(server: Server) -> None:
    async with (await server.provider()).connected() as phone:
        await phone.offline()
        (conn,) = server.app.door.connections.values()
        assert conn.tail is None
        gc.collect()
        kept = [one.__qualname__ for one in gc.get_objects() if isinstance(one, CoroutineType)]
        assert "Door._read" in kept
        assert not {"Door._greet", "Door._answer_after"} & set(kept)
