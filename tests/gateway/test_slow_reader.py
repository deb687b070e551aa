"""Whoever stops reading: told 4408 while he could still hear it, and gone within 10 s of the first write that blocked (contract.md §3)."""

import asyncio
import os
from typing import Any
from uuid import UUID

import pytest

from bench.hostile.mutate import frame
from dispatch.gateway import SWEEP_EVERY_S, Door, SocketRules
from dispatch.gateway.connection import CUT_S, STALLED_S, Connection
from dispatch.kit.clock import ManualClock
from dispatch.kit.tasks import Nursery, repeat
from protocol.frames import HELLO_WITHIN_S
from tests.gateway.wire import Wire, wired
from tests.support.server import WITHIN_S, Person, Server, serving

TOLD = b"\x88\x02" + (4408).to_bytes(2, "big")


class Transport:
    """One whose peer reads nothing until `reads`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.waiting: list[bytes] = []
        self.reads = True
        self.told_at: float | None = None
        self.aborted_at: float | None = None

    def write(self, data: bytes) -> None:
        if data == TOLD:
            self.told_at = self._clock.monotonic()
        if not self.reads:
            self.waiting.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))

    def is_closing(self) -> bool:
        return self.aborted_at is not None

    def abort(self) -> None:
        self.aborted_at = self.aborted_at or self._clock.monotonic()
        self.waiting.clear()


class Scene:
    """A door with one greeted connection, swept as a worker sweeps it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clock.advance(100.0)
        nobody: Any = None
        self.door = Door(SocketRules(nobody, nobody, nobody, nobody), self.clock, Nursery(), handshake_rate=1.0)
        self.transport = Transport(self.clock)
        transport: Any = self.transport
        self.conn = self.door.enter(transport, "")
        self.conn.session.started(0)
        self.conn.session.greeted = True

    def send(self) -> None:
        self.conn.send(b"{}", UUID(int=0))

    async def sweeping(self, seconds: float, *, late_s: float = 0.0) -> None:
        """Time goes by; the loop of sweeps runs, `late_s` behind each time."""

        async def sweep() -> None:
            await self.clock.sleep(late_s)
            await self.door.sweep()

        loop = repeat(sweep, every_s=SWEEP_EVERY_S, clock=self.clock, name="socket_sweeper")
        task = asyncio.create_task(loop)
        for _ in range(int(seconds * 16)):
            await settled()
            self.clock.advance(1 / 16)
        await settled()
        task.cancel()
        await asyncio.wait([task])


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.4375])
@pytest.mark.parametrize("late_s", [0.0, 0.25, 0.4375])
async def test_a_stalled_reader_is_told_and_cut_in_time(after_s: float, late_s: float) -> None:
    """However his stall lies to the sweeps, and though each of them comes late, as on a busy worker."""
    scene = Scene()
    await scene.sweeping(after_s)
    scene.transport.reads = False
    began = scene.clock.monotonic()
    scene.send()
    await scene.sweeping(12.0, late_s=late_s)
    assert scene.transport.told_at is not None and scene.transport.aborted_at is not None
    assert STALLED_S <= scene.transport.told_at - began < CUT_S, "told before he is cut, and not too soon"
    assert scene.transport.aborted_at - began <= 10.0


async def test_sweeps_that_did_not_come_at_all_cut_at_once() -> None:
    scene = Scene()
    scene.transport.reads = False
    scene.send()
    scene.clock.advance(30.0)
    await scene.door.sweep()
    assert scene.transport.told_at == scene.transport.aborted_at == scene.clock.monotonic()


async def test_who_reads_again_before_his_time_stays() -> None:
    scene = Scene()
    for _ in range(3):
        scene.transport.reads = False
        scene.send()
        await scene.sweeping(7.0)
        scene.transport.reads = True
        scene.transport.waiting.clear()
        await scene.sweeping(1.0)
    assert scene.conn.closing_since is None and scene.transport.aborted_at is None


async def test_who_is_asked_to_leave_while_he_stalls_is_cut_in_his_time_all_the_same() -> None:
    """The two seconds for an answer to a close do not come on top."""
    scene = Scene()
    scene.transport.reads = False
    began = scene.clock.monotonic()
    scene.send()
    scene.clock.advance(STALLED_S + 0.4)
    await scene.door.drain(0.0)
    await scene.sweeping(4.0)
    assert scene.transport.aborted_at is not None and scene.transport.aborted_at - began <= 10.0


async def test_on_a_real_socket_4408_is_what_he_finds_when_he_reads_on(database_url: str, redis_url: str) -> None:
    """It was written and thrown away in the same moment: his phone saw a lost line and did not know why."""
    async with serving(database_url, redis_url) as server, asyncio.timeout(3 * WITHIN_S):
        await _stalled(server)


async def _stalled(server: Server) -> None:
    person = await server.person()
    async with wired(server, person) as wire:
        conn = await _full(server, person, wire)
        assert conn.closing_since is None, "within the bound of what may wait"
        conn.sweep(server.app.clock.monotonic() + STALLED_S + 0.1, server.app.clock.now(), HELLO_WITHIN_S)
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await wire.ends() == 4408


async def _full(server: Server, person: Person, wire: Wire) -> Connection:
    """His connection, with more on its way than the kernel takes; he reads no more."""
    (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    while conn.waiting_bytes == 0:
        for _ in range(20):
            conn.send(b'{"type":"pad","of":"' + b"x" * 8_000 + b'"}', person.user_id)
        await asyncio.sleep(0)
    return conn


async def test_who_closes_and_never_reads_what_waits_for_him_is_cut(database_url: str, redis_url: str) -> None:
    """No sweep sees a line that has ended by itself, and the kernel asks a closed window for ever."""
    async with serving(database_url, redis_url) as server, asyncio.timeout(3 * WITHIN_S):
        person = await server.person()
        async with wired(server, person) as wire:
            conn = await _full(server, person, wire)
            plain = conn._transport.get_extra_info("socket").fileno()
            held = os.readlink(f"/proc/self/fd/{plain}")
            wire.send(frame(8, (1000).to_bytes(2, "big")))
            while _open(plain) == held:
                await asyncio.sleep(0.05)
            assert conn.conn_id not in server.app.door.connections


def _open(number: int) -> str | None:
    """What this file number of ours stands for."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return None
