"""An ear on every primary of a cluster, told apart by nobody who listens."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.cluster import Shard, slot_of
from dispatch.kit.ear import Ear
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.tasks import Nursery

log = structlog.get_logger("ears")


def ear_on(
    redis: Redis, clock: Clock, nursery: Nursery, *, own: str, hear: Callable[[str, bytes], None]
) -> "Ear | Ears":
    """What listens on `own` and on whatever else it is to follow: one connection, or one for each primary of a cluster."""
    kind = Ears if redis.clustered else Ear
    return kind(redis, clock, nursery, own=own, hear=hear)


class Ears:
    """As `Ear`, over a cluster: a sharded channel is heard on the primary that has its slot, and nowhere else.

    Each ear says words to itself on a channel of its own shard, so a deaf line is noticed wherever it is. When slots move, the channels do.
    """

    def __init__(
        self, redis: Redis, clock: Clock, nursery: Nursery, *, own: str, hear: Callable[[str, bytes], None]
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._nursery = nursery
        self._own = own
        self._hear = hear
        self._channels = {own}
        self._ears: dict[Shard, Ear] = {}
        self._listening: dict[Shard, asyncio.Task[None]] = {}
        self._version = -1
        self._changed = asyncio.Event()

    def follow(self, channel: str) -> None:
        """Hear this channel too. At once, or when its shard is known."""
        self._channels.add(channel)
        if (ear := self._ear_of(channel)) is not None:
            ear.follow(channel)

    def unfollow(self, channel: str) -> None:
        self._channels.discard(channel)
        if (ear := self._ear_of(channel)) is not None:
            ear.unfollow(channel)

    def _ear_of(self, channel: str) -> Ear | None:
        slot = slot_of(channel)
        return next((ear for shard, ear in self._ears.items() if shard.has(slot)), None)

    @property
    def unheard_s(self) -> float:
        """Of the ear that has not heard its own words for longest."""
        return max((ear.unheard_s for ear in self._ears.values()), default=0.0)

    async def speak(self) -> None:
        """A word on every shard, after a look at which there are."""
        self._arrange(await self._redis.shards())
        said = await asyncio.gather(*(ear.speak() for ear in self._ears.values()), return_exceptions=True)
        for failed in said:
            if isinstance(failed, BaseException):
                raise failed

    async def listen(self) -> None:
        """Hear until cancelled, on every shard that there is."""
        try:
            while True:
                with suppress(*DOWN):
                    self._arrange(await self._redis.shards())
                self._changed.clear()
                for shard in self._listening.keys() - self._ears.keys():
                    await _ended(self._listening.pop(shard))
                for shard, ear in self._ears.items():
                    if shard not in self._listening:
                        self._listening[shard] = asyncio.create_task(ear.listen())
                waiting = asyncio.create_task(self._changed.wait())
                try:
                    done, _ = await asyncio.wait(
                        [waiting, *self._listening.values()],
                        timeout=None if self._ears else 1.0,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    waiting.cancel()
                for task in done - {waiting}:
                    task.result()
        finally:
            for task in self._listening.values():
                await _ended(task)
            self._listening.clear()

    def _arrange(self, shards: tuple[Shard, ...]) -> None:
        """An ear for each of these shards, and each channel with the one that has it."""
        version = self._redis.shards_version
        if version == self._version:
            return
        self._version = version
        if self._ears:
            log.info("slots have moved", shards=len(shards), before=len(self._ears))
        for shard in self._ears.keys() - set(shards):
            self._nursery.start(self._ears.pop(shard).close(), "ear")
        for shard in shards:
            if shard not in self._ears:
                own = self._own_on(shard)
                self._ears[shard] = Ear(
                    self._redis, self._clock, self._nursery, own=own, hear=self._hear, one_by_one=True
                )
                for channel in self._channels - {own}:
                    if shard.has(slot_of(channel)):
                        self._ears[shard].follow(channel)
        self._changed.set()

    def _own_on(self, shard: Shard) -> str:
        """A channel of ours on this shard: the one that others know, or one with another tag."""
        if shard.has(slot_of(self._own)):
            return self._own
        number = 0
        while not shard.has(slot_of(own := f"{{{number}}}{self._own}")):
            number += 1
        return own

    async def close(self) -> None:
        """Give the connections back. For whoever does not listen until the process ends."""
        for ear in self._ears.values():
            await ear.close()


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
