"""A sweep looks at the connections that time can do something to, in their time, and leaves all others alone."""

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from dispatch.gateway import SWEEP_EVERY_S, Connection, Door, Identity, SocketRules
from dispatch.gateway.connection import PING_S
from dispatch.kit.clock import ManualClock
from dispatch.kit.tasks import Nursery
from protocol.errors import CloseCode
from protocol.frames import HELLO_WITHIN_S

PING = b"\x89\x00"
STEP_S = 0.25


class Transport:
    """Everything is read at once; what was written, and when."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.written: list[tuple[float, bytes]] = []
        self.aborted_at: float | None = None

    def write(self, data: bytes) -> None:
        self.written.append((self._clock.monotonic(), data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted_at is not None

    def abort(self) -> None:
        self.aborted_at = self.aborted_at or self._clock.monotonic()

    def told(self, code: CloseCode) -> float:
        """When this close was written. AssertionError when it was not."""
        (at,) = [at for at, data in self.written if data[:1] == b"\x88" and data[2:] == int(code).to_bytes(2, "big")]
        return at


class Scene:
    def __init__(self) -> None:
        nobody: Any = None
        self.clock = ManualClock()
        self.clock.advance(100.1)
        self.door = Door(
            SocketRules(nobody, nobody, nobody, lambda conn: None), self.clock, Nursery(), handshake_rate=1.0
        )

    def enters(self, *, greeted: bool = True, expires_in_s: float = 3600.0) -> tuple[Connection, Transport]:
        line: Any = Transport(self.clock)
        conn = self.door.enter(line, "")
        conn.session.greeted = greeted
        self.expires(conn, expires_in_s)
        return conn, line

    def expires(self, conn: Connection, in_s: float) -> None:
        self.door.identify(conn, Identity(uuid4(), self.clock.now() + timedelta(seconds=in_s), "en", None))

    async def later(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.clock.advance(STEP_S)
            if self.clock.monotonic() % SWEEP_EVERY_S < STEP_S:
                await self.door.sweep()


async def test_a_quiet_line_is_pinged_in_time_and_given_up_after_two() -> None:
    scene = Scene()
    _, line = scene.enters()
    began = scene.clock.monotonic()
    await scene.later(60.0)
    pings = [at - began for at, data in line.written if data == PING]
    assert len(pings) == 2
    assert all(n * PING_S <= at <= n * (PING_S + 1.0) for n, at in enumerate(pings, 1))
    assert 3 * PING_S <= line.told(CloseCode.UNRESPONSIVE) - began <= 3 * (PING_S + 1.0)
    assert line.aborted_at is not None and line.aborted_at - line.told(CloseCode.UNRESPONSIVE) <= 3.0


async def test_a_line_that_answers_is_pinged_for_ever() -> None:
    scene = Scene()
    conn, line = scene.enters()
    for _ in range(20):
        await scene.later(PING_S)
        conn.heard()
    assert len([1 for _, data in line.written if data == PING]) in (19, 20)
    assert conn.closing_since is None


async def test_who_says_no_hello_is_closed_in_time() -> None:
    scene = Scene()
    _, line = scene.enters(greeted=False)
    began = scene.clock.monotonic()
    await scene.later(20.0)
    assert HELLO_WITHIN_S <= line.told(CloseCode.UNRESPONSIVE) - began <= HELLO_WITHIN_S + 1.0


@pytest.mark.parametrize("first_s", [7.0, 3600.0])
async def test_a_token_ends_in_its_time_also_one_that_was_given_later_and_ends_sooner(first_s: float) -> None:
    scene = Scene()
    conn, line = scene.enters(expires_in_s=first_s)
    await scene.later(2.0)
    scene.expires(conn, 5.0)
    at = scene.clock.monotonic()
    await scene.later(12.0)
    assert 5.0 <= line.told(CloseCode.UNAUTHENTICATED) - at <= 6.0


async def test_a_token_that_was_renewed_does_not_end_with_the_old_one() -> None:
    scene = Scene()
    conn, _ = scene.enters(expires_in_s=7.0)
    await scene.later(5.0)
    scene.expires(conn, 3600.0)
    await scene.later(8.0)
    assert conn.closing_since is None


async def test_a_quiet_line_is_looked_at_a_few_times_between_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at each line in every sweep cost more than its positions' tick."""
    scene = Scene()
    looks: Counter[Connection] = Counter()
    sweep = Connection.sweep

    def counted(conn: Connection, *given: Any) -> None:
        looks[conn] += 1
        sweep(conn, *given)

    monkeypatch.setattr(Connection, "sweep", counted)
    lines = [scene.enters()[0] for _ in range(50)]
    for _ in range(4):
        await scene.later(PING_S)
        for conn in lines:
            conn.heard()
    assert len(looks) == 50 and max(looks.values()) <= 1 + 3 * 4


async def test_sweeps_that_stood_still_make_up_for_it() -> None:
    scene = Scene()
    _, line = scene.enters()
    await scene.later(1.0)
    scene.clock.advance(300.0)
    await scene.door.sweep()
    assert [data for _, data in line.written] == [PING]


async def test_of_a_line_that_has_closed_nothing_is_kept() -> None:
    scene = Scene()
    conn, _ = scene.enters()
    await scene.later(1.0)
    scene.door.leave(conn)
    await scene.later(2 * PING_S)
    assert not scene.door._watched and not any(scene.door._due.values())
