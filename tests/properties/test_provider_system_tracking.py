"""How often a customer hears where his provider is: property 19. The service on real stores, on a clock that the test moves."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.kit.clock import ManualClock
from dispatch.presence import Live, Move
from dispatch.tracking import Tracking, keys
from protocol.codec import decode_server
from protocol.errors import ByeReason, CloseCode
from protocol.frames import Position
from tests.properties.scenes import MARKETS, PROPERTY, Scene, actor, place
from tests.support.server import Person

TICK_S = 0.25
"""Of the tracker's loop; a busy worker is late, here by up to LATE_S."""
LATE_S = 12 / 64


@dataclass
class Screen:
    """A customer's line: what it was sent, and when."""

    user_id: UUID
    clock: ManualClock
    heard: list[tuple[float, int]]
    """(when, stamp) of the fixes that have come"""
    joined_at: float
    conn_id: UUID = field(default_factory=uuid4)
    shown: list[tuple[float, Position]] = field(default_factory=list)

    def send(self, frame: bytes, user_id: UUID) -> None:
        assert user_id == self.user_id
        position = decode_server(frame)
        assert isinstance(position, Position)
        assert stamp(position) == self.heard[-1][1], "the newest wins"
        self.shown.append((self.clock.monotonic(), position))

    def leave(self, code: CloseCode, reason: ByeReason | None) -> None:
        raise AssertionError(f"closed: {code} {reason}")


class Ride:
    """One accepted job, and a tracking service of its own with a clock of its own."""

    def __init__(self, scene: Scene, driver: Person, job_id: UUID) -> None:
        app = scene.server.app
        self.scene = scene
        self.clock = ManualClock()
        self.clock.advance(100.0)
        self.tracking = Tracking(app.pg, app.redis, MARKETS, self.clock, app.nursery, every_s=5.0, stale_after_s=15.0)
        self.job_id = job_id
        self.live = Live(UUID(driver.provider_id), driver.user_id, uuid4(), ("ride",), 10_000, True, busy=job_id)

    def now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    async def watch(self, heard: list[tuple[float, int]]) -> Screen:
        screen = Screen(self.scene.customer.user_id, self.clock, heard, self.clock.monotonic())
        await self.tracking.track(actor(self.scene.customer), screen, self.job_id)
        return screen

    def fix(self, number: int, heard: list[tuple[float, int]]) -> None:
        """A fix arrives, and is noted among those that have."""
        at_ms = self.now_ms() - 40
        heard.append((self.clock.monotonic(), at_ms))
        self.tracking.move(Move(self.live, *place(20.0 * number, 0), at_ms, None))


@pytest.fixture
async def ride(scene: Scene) -> Any:
    (driver,) = await scene.drivers(1)
    await scene.switch_on([driver])
    job = await scene.job()
    await driver.http.accept(job["id"])
    ride = Ride(scene, driver, UUID(job["id"]))
    yield ride
    await scene.quiet()
    await ride.tracking.ear.close()


# In parts of a second that a float holds exactly, so that what happens at the same moment does.
def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(int(least * 64), int(most * 64)).map(lambda parts: parts / 64)


gap = st.one_of(seconds(0.05, 4.0), seconds(0.5, 1.5), st.sampled_from([4.0, 1.0, 0.25]))
silence = seconds(15.5, 30.0)


@PROPERTY
@given(
    gaps=st.lists(st.one_of(gap, gap, gap, gap, gap, silence), min_size=12, max_size=40),
    late=st.lists(seconds(0, LATE_S), min_size=1, max_size=10),
    second_after=st.integers(0, 30),
)
async def test_the_customer_hears_every_five_seconds(
    ride: Ride, gaps: list[float], late: list[float], second_after: int
) -> None:
    """Feature: provider-system-redesign, Property 19: locations are sent to the customer at intervals of 5 seconds ± 1 second.

    While fixes come; the newest wins; silence of 15 s is told once. Fails when Tracking.tick does not wait for `due_at`.
    """
    clock = ride.clock
    await ride.scene.server.app.redis.plain.delete(keys.fix(ride.job_id))
    heard: list[tuple[float, int]] = []
    screens = [await ride.watch(heard)]
    tick_at, turns = clock.monotonic() + TICK_S, 0
    for number, gap_s in enumerate([*gaps, 6.0]):
        fix_at = clock.monotonic() + gap_s
        while tick_at <= fix_at:
            clock.advance(tick_at - clock.monotonic())
            await ride.tracking.tick()
            tick_at += TICK_S + late[turns % len(late)]
            turns += 1
        clock.advance(fix_at - clock.monotonic())
        if number < len(gaps):
            ride.fix(number, heard)
        if number == second_after:
            screens.append(await ride.watch(heard))
    for screen in screens:
        ride.tracking.leave(screen)
    for screen in screens:
        check(screen, clock.monotonic())


async def test_fixes_that_come_as_often_as_the_turns_soon_wait_for_none(ride: Ride) -> None:
    """Where one waits, all did, by up to the whole cadence."""
    clock = ride.clock
    await ride.scene.server.app.redis.plain.delete(keys.fix(ride.job_id))
    heard: list[tuple[float, int]] = []
    ride.fix(0, heard)
    await ride.tracking.tick()
    clock.advance(2.5)
    screen = await ride.watch(heard)
    for number in range(1, 7):
        clock.advance(heard[0][0] + 5.0 * number - clock.monotonic())
        ride.fix(number, heard)
        for _ in range(int(4.75 / TICK_S)):
            await ride.tracking.tick()
            clock.advance(TICK_S)
    ages = [at - next(when for when, at_ms in heard if at_ms == stamp(told)) for at, told in screen.shown]
    ride.tracking.leave(screen)
    assert ages == [2.5, 2.5, 1.5, 0.5, 0.0, 0.0, 0.0]


def check(screen: Screen, end: float) -> None:
    """The whole of property 19 about one screen."""
    slack_s, heard = TICK_S + LATE_S, screen.heard
    fresh = [(at, position) for at, position in screen.shown if not position.stale]
    if screen.joined_at >= heard[0][0]:
        assert fresh[0][0] == screen.joined_at, "the first at once if a fix is known"
    for (before, told), (after, _) in pairwise(fresh):
        assert after - before >= 4.0
        waited = next(when for when, at_ms in heard if at_ms > stamp(told))  # the fix that there was to tell
        assert after - before <= max(6.0, waited - before + slack_s)
    steady = [(a, b) for (a, _), (b, _) in pairwise(heard) if b - a > 4.0]
    for (before, _), (after, _) in pairwise(fresh):
        if not any(a < after and b > before for a, b in steady):
            assert 4.0 <= after - before <= 6.0
    assert end - fresh[-1][0] <= 6.0 + slack_s, "it went on to the end"
    check_stale(screen, end, slack_s)


def check_stale(screen: Screen, end: float, slack_s: float) -> None:
    heard = screen.heard
    stale = [at for at, position in screen.shown if position.stale]
    silences = [
        (a, b) for (a, _), (b, _) in pairwise([*heard, (end, 0)]) if b - a > 15.0 + slack_s and b > screen.joined_at
    ]
    for silent_from, silent_to in silences:
        told = [at for at in stale if silent_from <= at < silent_to]
        assert len(told) == 1, "told once"
        due_at = max(silent_from + 15.0, screen.joined_at)
        assert due_at <= told[0] <= due_at + slack_s
    assert all(any(a + 15.0 <= at <= b for a, b in silences) for at in stale), "told for nothing"


def stamp(position: Position) -> int:
    return int(position.at.timestamp() * 1000 + 0.5)
