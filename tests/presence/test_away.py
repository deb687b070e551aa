"""Whose socket has closed stays for 5 s, in case the line was only weak; then he is forgotten, and nobody else."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from dispatch.kit.clock import ManualClock
from dispatch.markets import Markets
from dispatch.presence import Presence
from dispatch.presence.service import AWAY_S


class Scene:
    def __init__(self) -> None:
        nothing: Any = None
        self.clock = ManualClock()
        self.presence = Presence(nothing, Markets.load(), self.clock, fresh_s=30.0)
        self.line: dict[UUID, UUID] = {}

    def comes(self, user_id: UUID, kinds: tuple[str, ...] = ("ride",)) -> UUID:
        self.line[user_id] = uuid4()
        state: Any = SimpleNamespace(
            id=uuid4(), user_id=user_id, service_types=kinds, radius_m=1, open=False, active_job=None, place=None
        )
        self.presence.arrive(state, self.line[user_id])
        return user_id

    def goes(self, user_id: UUID) -> None:
        self.presence.depart(user_id, self.line[user_id])

    async def later(self, seconds: float) -> set[UUID]:
        """Who is known then. What a tick carries to Redis is not asked here, so there is nothing to carry."""
        self.clock.advance(seconds)
        self.presence._dirty.clear()
        self.presence._released.clear()
        await self.presence.tick()
        return {known.user_id for known in self.presence}


async def test_each_is_forgotten_in_his_time() -> None:
    scene = Scene()
    first, second, stays = scene.comes(uuid4()), scene.comes(uuid4()), scene.comes(uuid4())
    scene.goes(second)
    assert await scene.later(2.0) == {first, second, stays}
    scene.goes(first)
    assert await scene.later(AWAY_S - 2.1) == {first, second, stays}
    assert await scene.later(0.2) == {first, stays}
    assert await scene.later(2.0) == {stays}
    assert await scene.later(60.0) == {stays}


async def test_who_comes_back_is_not_forgotten_and_his_next_absence_counts_anew() -> None:
    scene = Scene()
    one, other = scene.comes(uuid4()), scene.comes(uuid4())
    scene.goes(one)
    scene.goes(other)
    await scene.later(3.0)
    scene.comes(one)
    assert await scene.later(AWAY_S) == {one}
    scene.goes(one)
    assert await scene.later(AWAY_S - 0.1) == {one}
    assert await scene.later(0.2) == set()


async def test_a_line_that_was_replaced_and_closes_later_is_no_absence() -> None:
    scene = Scene()
    one = scene.comes(uuid4())
    old = scene.line[one]
    scene.comes(one)
    scene.presence.depart(one, old)
    assert await scene.later(AWAY_S + 1) == {one}


async def test_who_is_lost_twice_waits_from_the_last_time() -> None:
    """The order of going is the order of forgetting: whoever went again goes behind the others."""
    scene = Scene()
    one, other = scene.comes(uuid4()), scene.comes(uuid4())
    scene.goes(one)
    await scene.later(1.0)
    scene.goes(other)
    await scene.later(1.0)
    scene.goes(one)
    assert await scene.later(AWAY_S - 0.9) == {one}
    assert await scene.later(1.0) == set()


def test_the_same_service_types_are_kept_once() -> None:
    scene = Scene()
    one, other = (scene.presence.of(scene.comes(uuid4(), tuple(kind for kind in ["ride"]))) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.service_types == ("ride",)
    assert one.service_types is other.service_types
