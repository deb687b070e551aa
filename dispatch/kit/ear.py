"""A subscription to Redis that knows whether it hears, and is opened anew when it does not."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import structlog

from dispatch.kit.clock import Clock
from dispatch.kit.ids import new_word
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.tasks import Nursery

log = structlog.get_logger("ear")

DEAF_S: Final = 3.0
"""Three of our own words in a row unheard, though Redis takes them: the subscription is dead."""
PATIENCE_S_MAX: Final = 24.0
"""Of one that stays silent however often it is opened."""
_CANARY: Final = b"canary "


class Ear:
    """Channels that come and go on one pub/sub connection, and among them one of its own, on which it says words to itself: a line may
    look open and be dead, which only they can tell. `speak` is to be called every second, and `listen` never ends.

    Silence for `patience_s` closes the connection and opens another. The patience starts at DEAF_S, doubles with each silent one up to a
    bound, and starts again after a connection that was heard for as long: what cannot be mended by opening anew is not opened all the time.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        nursery: Nursery,
        *,
        own: str,
        hear: Callable[[str, bytes], None],
        one_by_one: bool = False,
    ) -> None:
        """`one_by_one`: a command for each channel, as those of a cluster may have different slots."""
        self._one_by_one = one_by_one
        self._redis = redis
        self._clock = clock
        self._nursery = nursery
        self._own = own
        self._hear = hear
        self._channels = {own}
        self._word = b""
        self._pubsub = redis.subscriber(own)
        self._open = False
        """Whoever listens has opened the line. redis-py opens one in whoever uses it first, and of many at once each opens its own."""
        self._torn = False
        """A change got lost on the way: the line is opened anew, with all channels."""
        self._heard_at = self._opened_at = clock.monotonic()
        self.patience_s = DEAF_S

    # --- what to listen to

    @property
    def channels(self) -> frozenset[str]:
        """All that it follows, its own among them."""
        return frozenset(self._channels)

    def follow(self, channel: str) -> None:
        """Hear this channel too. At once, or when Redis is back."""
        if channel not in self._channels:
            self._channels.add(channel)
            self._change(self._pubsub.ssubscribe, channel)

    def unfollow(self, channel: str) -> None:
        if channel in self._channels:
            self._channels.discard(channel)
            self._change(self._pubsub.sunsubscribe, channel)

    def _change(self, do: Callable[..., Awaitable[Any]], *channels: str) -> None:
        # While it is not open, whoever opens it takes the channels as they are then.
        if self._open:
            for some in self._together(channels):
                self._nursery.start(self._changed(self._pubsub, do(*some)), "follow")

    def _together(self, channels: Iterable[str]) -> Iterable[Sequence[str]]:
        """What may be asked for in one command."""
        some = tuple(channels)
        return ((channel,) for channel in some) if self._one_by_one else (some,) if some else ()

    async def _changed(self, pubsub: object, change: Awaitable[Any]) -> None:
        try:
            await change
        except DOWN as error:
            log.debug("change of a subscription lost", own=self._own, error=repr(error))
        except AttributeError as error:
            if error.obj is not None:
                raise
            log.debug("change of a subscription given up", own=self._own)  # its line was taken from under it
        else:
            return
        self._torn = self._torn or pubsub is self._pubsub

    # --- whether it hears

    @property
    def unheard_s(self) -> float:
        """How long it has not heard its own words though Redis was there. Whoever cannot hear because there is nothing to hear is not deaf:
        his seconds start when Redis is back.
        """
        now = self._clock.monotonic()
        if not self._redis.reachable:
            self._heard_at = now
        return now - self._heard_at

    async def speak(self) -> None:
        """Say a word to ourselves through Redis; hearing it is what tells a deaf worker from a healthy one."""
        word = new_word()
        self._word = word.encode()
        await self._redis.once.execute_command("SPUBLISH", self._own, f"canary {word}")

    # --- listening

    async def listen(self) -> None:
        """Hear until cancelled. A dropped connection is opened again and everything subscribed again; so is a silent one."""
        while True:
            self._opened_at = self._clock.monotonic()
            why = "silent"
            try:
                asked = set(self._channels)
                for some in self._together(asked):
                    await self._pubsub.ssubscribe(*some)
                self._open, self._torn = True, False
                self._change(self._pubsub.ssubscribe, *(self._channels - asked))
                self._change(self._pubsub.sunsubscribe, *(asked - self._channels))
                while not self._torn and not self._silent():
                    message = await self._pubsub.get_message(timeout=1.0)
                    if message is not None and message["type"] == "smessage":
                        self._take(message["channel"].decode(), message["data"])
                if self._torn:
                    why = "a change was lost"
                else:
                    self.patience_s = min(2 * self.patience_s, PATIENCE_S_MAX)
            except DOWN as error:
                why = repr(error)
            self._open = False
            log.info("subscription lost, opening it again", own=self._own, error=why)
            lost, self._pubsub = self._pubsub, self._redis.subscriber(self._own)
            await lost.aclose()
            await self._clock.sleep(0.2)

    def _silent(self) -> bool:
        return min(self.unheard_s, self._clock.monotonic() - self._opened_at) >= self.patience_s

    def _take(self, channel: str, data: bytes) -> None:
        if channel == self._own and data.startswith(_CANARY):
            if data == _CANARY + self._word:
                self._heard_at = self._clock.monotonic()
                if self._heard_at - self._opened_at >= self.patience_s:
                    self.patience_s = DEAF_S
            return
        try:
            self._hear(channel, data)
        except Exception:
            # One word that cannot be used must not make this worker deaf for the rest.
            log.exception("word not understood", channel=channel)

    async def close(self) -> None:
        """Give the connection back. For whoever does not listen until the process ends."""
        await self._pubsub.aclose()
