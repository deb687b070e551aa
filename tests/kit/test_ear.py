"""A subscription that listens for its own words, on a clock that the test moves and a Redis that says what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as LineLost

from dispatch.kit.clock import ManualClock, SystemClock
from dispatch.kit.ear import DEAF_S, PATIENCE_S_MAX, Ear
from dispatch.kit.redis import Redis
from dispatch.kit.tasks import Nursery

OWN = "{w:1}:do"


class Subscription:
    """One pub/sub connection. `dead`: it looks open, and nothing comes through."""

    def __init__(self, clock: ManualClock, *, dead: bool) -> None:
        self.clock = clock
        self.opened_at = clock.monotonic()
        self.dead = dead
        self.closed = False
        self.channels: set[str] = set()
        self.words: asyncio.Queue[dict[str, Any] | LineLost] = asyncio.Queue()

    async def ssubscribe(self, *channels: str) -> None:
        self.channels.update(channels)

    async def sunsubscribe(self, *channels: str) -> None:
        self.channels.difference_update(channels)

    async def get_message(self, *, timeout: float) -> dict[str, Any] | None:
        coming = asyncio.ensure_future(self.words.get())
        lapsing = asyncio.ensure_future(self.clock.sleep(timeout))
        try:
            await asyncio.wait([coming, lapsing], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return None
            if isinstance(word := coming.result(), LineLost):
                raise word
            return word
        finally:
            coming.cancel()
            lapsing.cancel()

    async def aclose(self) -> None:
        self.closed = True


class Store:
    """As much of `Redis` as an ear needs."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.reachable = True
        self.dead = False
        """Of subscriptions opened from now on."""
        self.opened: list[Subscription] = []
        self.once = self

    def subscriber(self) -> Subscription:
        self.opened.append(Subscription(self.clock, dead=self.dead))
        return self.opened[-1]

    async def execute_command(self, command: str, channel: str, word: str) -> int:
        assert command == "SPUBLISH"
        for one in self.opened:
            if channel in one.channels and not one.dead and not one.closed:
                one.words.put_nowait({"type": "smessage", "channel": channel.encode(), "data": word.encode()})
        return 1


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.redis = Store(self.clock)
        self.heard: list[tuple[str, bytes]] = []
        self.nursery = Nursery()
        self.ear = Ear(cast("Redis", self.redis), self.clock, self.nursery, own=OWN, hear=self.hear)

    def hear(self, channel: str, data: bytes) -> None:
        if data == b"nonsense":
            raise ValueError(data)
        self.heard.append((channel, data))

    async def pass_(self, seconds: float) -> None:
        """Time goes by in quarters of a second; each second the ear speaks."""
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            if self.clock.monotonic() % 1 == 0:
                await self.ear.speak()
            await settled()


async def settled() -> None:
    """Whatever can run has run."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with listening(scene):
        yield scene


@asynccontextmanager
async def listening(scene: Scene) -> AsyncIterator[None]:
    task = asyncio.create_task(scene.ear.listen())
    await settled()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_who_hears_himself_stays(scene: Scene) -> None:
    await scene.pass_(120)
    assert len(scene.redis.opened) == 1
    assert scene.ear.unheard_s < DEAF_S and scene.heard == [], "own words are nobody's business"


async def test_a_silent_subscription_is_opened_anew_with_all_its_channels(scene: Scene) -> None:
    scene.ear.follow("a")
    scene.ear.follow("b")
    scene.ear.unfollow("a")
    await scene.pass_(2)
    scene.redis.opened[0].dead = True
    await scene.pass_(DEAF_S + 2)
    assert [one.closed for one in scene.redis.opened] == [True, False]
    assert scene.redis.opened[1].channels == {OWN, "b"}
    await scene.redis.execute_command("SPUBLISH", "b", "nonsense")
    await scene.redis.execute_command("SPUBLISH", "b", "news")
    await settled()
    assert scene.heard == [("b", b"news")], "a word that cannot be used deafens nobody"
    assert scene.ear.unheard_s < DEAF_S


async def test_patience_grows_while_opening_anew_does_not_help_and_starts_again_when_it_has(scene: Scene) -> None:
    scene.redis.dead = True
    scene.redis.opened[0].dead = True
    await scene.pass_(200)
    stood = [round(b.opened_at - a.opened_at) for a, b in zip(scene.redis.opened, scene.redis.opened[1:], strict=False)]
    assert stood[:4] == sorted(stood[:4]) and stood[0] <= 4 and stood[1] >= 6 and stood[2] >= 12
    assert all(PATIENCE_S_MAX <= each <= PATIENCE_S_MAX + 2 for each in stood[3:]) and len(stood) > 5
    assert scene.ear.unheard_s >= 199, "it says that it is deaf all the while"
    scene.redis.dead = False
    await scene.pass_(PATIENCE_S_MAX + 2)
    assert scene.ear.unheard_s < DEAF_S and scene.ear.patience_s == PATIENCE_S_MAX, "one word is no recovery"
    await scene.pass_(PATIENCE_S_MAX)
    assert scene.ear.patience_s == DEAF_S


async def test_a_subscription_that_dies_after_its_first_word_does_not_flap(scene: Scene) -> None:
    for _ in range(300):
        await scene.pass_(1)
        if scene.ear.unheard_s < 1:
            scene.redis.opened[-1].dead = True
    assert len(scene.redis.opened) < 20, "reopened every few seconds for ever"


async def test_without_redis_nobody_is_deaf(scene: Scene) -> None:
    scene.redis.opened[0].dead = True
    scene.redis.reachable = False
    await scene.pass_(60)
    assert scene.ear.unheard_s == 0 and len(scene.redis.opened) == 1
    scene.redis.reachable = True
    await scene.pass_(1)
    assert scene.ear.unheard_s < DEAF_S, "his seconds start when it is back"
    await scene.pass_(DEAF_S + 1)
    assert len(scene.redis.opened) == 2 and scene.ear.unheard_s < DEAF_S


async def test_a_lost_connection_is_opened_at_once_and_costs_no_patience(scene: Scene) -> None:
    for _ in range(5):
        await scene.pass_(1)
        scene.redis.opened[-1].words.put_nowait(LineLost("Connection closed by server."))
        await scene.pass_(1)
    assert len(scene.redis.opened) == 6 and scene.ear.patience_s == DEAF_S


async def test_a_change_that_was_lost_opens_the_line_anew(scene: Scene) -> None:
    """The channel was to be heard from then on, and nothing else would have noticed."""
    for error in (LineLost("Connection closed by server."), AttributeError("its connection is gone", obj=None)):
        line = scene.redis.opened[-1]

        async def lost(*channels: str, error: Exception = error) -> None:
            raise error

        line.ssubscribe = lost  # type: ignore[method-assign]
        scene.ear.follow(f"after {type(error).__name__}")
        await scene.pass_(2)
        assert scene.redis.opened[-1] is not line and line.closed
    assert scene.redis.opened[-1].channels == {OWN, "after ConnectionError", "after AttributeError"}
    assert len(scene.redis.opened) == 3 and scene.ear.patience_s == DEAF_S


async def test_many_who_follow_before_the_line_is_open_open_no_line_each(redis_url: str) -> None:
    """redis-py opens one in whoever uses it first, and of thirty at once each opened its own: twenty-nine were never given back."""
    async with Redis.open(redis_url) as redis:
        nursery = Nursery()
        heard = asyncio.Event()
        ear = Ear(redis, SystemClock(), nursery, own=OWN, hear=lambda channel, data: heard.set())
        listening = asyncio.create_task(ear.listen())
        for number in range(30):
            ear.follow(f"{{w:1}}:{number}")
        await asyncio.sleep(0)
        for number in range(30, 60):
            ear.follow(f"{{w:1}}:{number}")
        async with asyncio.timeout(10):
            while not heard.is_set():
                await redis.once.execute_command("SPUBLISH", "{w:1}:59", "x")
                await asyncio.sleep(0.01)
        lines = await redis.once.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
        assert len(str(lines).strip().split("cmd=")) == 2, lines
        listening.cancel()
        await asyncio.wait([listening])
        await ear.close()
