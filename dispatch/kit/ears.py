"""An ear on every primary of a cluster, told apart by nobody who listens."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.cluster import Shard, slot_of
from dispatch.kit.ear import Ear
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.tasks import Nursery, cancel

log = structlog.get_logger("ears")


def ear_on(
    redis: Redis, clock: Clock, nursery: Nursery, *, own: str, hear: Callable[[str, bytes], None]
) -> "Ear | Ears":
    """What listens on `own` and on whatever else it is to follow: one connection, or one for each primary of a cluster."""
    kind = Ears if redis.clustered else Ear
    return kind(redis, clock, nursery, own=own, hear=hear)


class Ears:
    """As `Ear`, over a cluster: a sharded channel is heard on the primary that has its slot, and nowhere else.

    Each ear says words to itself on a channel of its own shard, so a deaf line is noticed wherever it is. Where slots come, their channels
    are followed; where a slot of ours goes, the primary takes its channels from the line by itself, so that line is opened anew without them.
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
        self._shards: tuple[Shard, ...] = ()
        self._ears: dict[str, Ear] = {}
        """By the address of their primary."""
        self._leaving: list[Ear] = []
        """To be stopped and closed by whoever listens, in this order: one that still listened would open its line again."""
        self._listening: dict[Ear, asyncio.Task[None]] = {}
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
        return next((self._ears.get(shard.address) for shard in self._shards if shard.has(slot)), None)

    @property
    def unheard_s(self) -> float:
        """Of the ear that has not heard its own words for longest."""
        return max((ear.unheard_s for ear in self._ears.values()), default=0.0)

    async def speak(self) -> None:
        """A word on every shard, after a look at which there are: a primary that gives a slot away ends its subscriptions in silence."""
        self._arrange(await self._redis.shards(anew=True))
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
                await self._let_go()
                for ear in self._ears.values():
                    if ear not in self._listening:
                        self._listening[ear] = asyncio.create_task(ear.listen())
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
            await cancel(set(self._listening.values()))
            self._listening.clear()

    async def _let_go(self) -> None:
        while self._leaving:
            ear = self._leaving.pop()
            if (task := self._listening.pop(ear, None)) is not None:
                await cancel({task})
            await ear.close()

    def _arrange(self, shards: tuple[Shard, ...]) -> None:
        """An ear for each of these shards, and each channel with the one that has it."""
        version = self._redis.shards_version
        if version == self._version:
            return
        self._version = version
        before, self._ears, self._shards = self._ears, {}, shards
        if before:
            log.info("slots have moved", shards=len(shards), before=len(before))
        channels: dict[str, list[str]] = {shard.address: [] for shard in shards}
        for channel in self._channels:
            slot = slot_of(channel)
            for shard in shards:
                if shard.has(slot):
                    channels[shard.address].append(channel)
        for shard in shards:
            ear = before.get(shard.address)
            if ear is None or not all(shard.has(slot_of(channel)) for channel in ear.channels):
                own = self._own_on(shard)
                ear = Ear(self._redis, self._clock, self._nursery, own=own, hear=self._hear, one_by_one=True)
            self._ears[shard.address] = ear
            for channel in channels[shard.address]:
                ear.follow(channel)
        self._leaving += [ear for ear in before.values() if ear not in self._ears.values()]
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
        for ear in (*self._leaving, *self._ears.values()):
            await ear.close()
