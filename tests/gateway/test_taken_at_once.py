"""Frames of a greeted connection are taken while they are read: no task is woken for them, and nothing of the order changes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from bench.hostile.mutate import frame
from dispatch.gateway.connection import Connection
from dispatch.gateway.door import _TURN_MAX
from tests.gateway.wire import HELLO, WARP, wired
from tests.support.server import WITHIN_S, Person, Server, serving

TEXT, BINARY, PING = 1, 2, 9


@pytest.fixture(params=[10, 0], ids=["read together", "read each by itself"])
async def server(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, read_every_ms=request.param) as running:
        yield running


def conn_of(server: Server, person: Person) -> Connection:
    (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
    return conn


class Watched:
    """Calls of a method of the door, each with the task in which it was made and the turn of the loop that this was in."""

    def __init__(self, server: Server, method: str = "_frame") -> None:
        self.seen: list[tuple[asyncio.Task[Any] | None, int]] = []
        self._loop = asyncio.get_running_loop()
        self._turn = 0
        self._method = getattr(server.app.door, method)
        setattr(server.app.door, method, self._watch)
        self._count()

    def _count(self) -> None:
        self._turn += 1
        self._handle = self._loop.call_soon(self._count)

    def _watch(self, conn: Connection, what: Any) -> Any:
        self.seen.append((asyncio.current_task(), self._turn))
        return self._method(conn, what)

    def stop(self) -> None:
        self._handle.cancel()

    def most_of_a_turn(self) -> int:
        return max(Counter(turn for _, turn in self.seen).values())


async def test_a_frame_of_a_greeted_connection_wakes_no_task(server: Server) -> None:
    async with wired(server, await server.person()) as wire:
        watched = Watched(server)
        await wire.lives()
        await wire.lives()
        watched.stop()
        assert [task for task, _ in watched.seen] == [None, None]


async def test_what_comes_in_one_go_with_the_greeting_waits_for_it(server: Server) -> None:
    person = await server.person()
    async with wired(server, person, greet=False) as wire:
        wire.send(frame(TEXT, HELLO.replace(b"wire", uuid4().hex.encode())) + frame(TEXT, WARP) * 2 + frame(PING, b"?"))
        said = [(await wire.next() or (0, b""))[1][:16] for _ in range(5)]
        assert said == [b'{"type":"welcome', b'{"type":"snapsho', b'{"type":"error",', b'{"type":"error",', b"?"]
        await wire.lives()


async def test_what_comes_behind_a_frame_that_closes_is_not_taken_before_it(server: Server) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(frame(TEXT, WARP) + frame(BINARY, b"x") + frame(TEXT, WARP) * 3)
        answers = 0
        while (found := await wire.next()) is not None:
            answers += found[0] == TEXT
        assert (answers, wire.closed_with) == (1, 4400)


@pytest.mark.parametrize("closing", [False, True])
async def test_others_have_their_turn_while_one_floods(server: Server, closing: bool) -> None:
    """Thousands of tiny frames in one go: the loop turns between each few of them, also when his close has been said already."""
    person = await server.person()
    async with wired(server, person) as wire:
        conn = conn_of(server, person)
        if closing:
            conn.closing_since = server.app.clock.monotonic()
        watched = Watched(server, "_word" if closing else "_frame")
        wire.send(frame(TEXT, b"1") * 5_000)
        async with asyncio.timeout(WITHIN_S):
            while len(watched.seen) < 5_000:
                await asyncio.sleep(0)
        watched.stop()
        # One read's last and the next one's first may meet in a turn.
        assert watched.most_of_a_turn() <= 2 * _TURN_MAX


async def test_who_has_flooded_and_stopped_is_taken_at_once_again(server: Server) -> None:
    person = await server.person()
    async with wired(server, person) as wire:
        conn = conn_of(server, person)
        wire.send(frame(TEXT, b"1") * (2 * _TURN_MAX) + frame(PING, b"over"))
        while await wire.next() != (10, b"over"):
            pass
        conn._flood_window -= 1.0  # the second is over
        conn._tokens_at -= 2.0
        await wire.lives()
        watched = Watched(server)
        await wire.lives()
        watched.stop()
        assert [task for task, _ in watched.seen] == [None]


async def test_a_frame_that_trips_over_a_bug_costs_that_line_only(server: Server) -> None:
    """Within the read, an exception would be swallowed and the frame with it."""
    one, other = await server.person(), await server.person()
    async with wired(server, one) as wire, wired(server, other) as bystander:
        door, broken = server.app.door, conn_of(server, one)
        right = door._frame

        def wrong(conn: Connection, data: str) -> Any:
            if conn is broken:
                raise RuntimeError("a bug")
            return right(conn, data)

        door._frame = wrong  # type: ignore[method-assign]
        wire.send(frame(TEXT, WARP))
        assert await wire.ends() is None
        await bystander.lives()
