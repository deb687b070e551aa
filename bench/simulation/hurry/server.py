"""The server end of Redis' model: latency, lost replies, lies, flushes, pub/sub that loses, doubles and reorders."""

import asyncio
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as LineLost
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TooSlow

from bench.faults.history import Fault
from bench.simulation.hurry.clients import Client, Subscriber
from bench.simulation.hurry.data import Data
from bench.simulation.hurry.functions import FUNCTIONS, called

if TYPE_CHECKING:
    from bench.simulation.surroundings import Surroundings

_LIBRARY = re.compile(r"register_function\('(\w+)'")
_LIES = (b"first", b"yours", b"pending", b"committed", b"stale", b"nonsense")
OTHERS = frozenset({"fix_push", "track_push"})


class RedisModel:
    """One server for all workers. Faults come out of `Surroundings.weather`; a mutant overrides `said`."""

    def __init__(self, around: "Surroundings") -> None:
        self.around = around
        self.loop = around.loop
        self.chance: random.Random = around.chance
        self.up = True
        self.clock_skew_s = 0.0
        self.data = Data(lambda: (self.loop.time() + self.clock_skew_s) * 1000, self.publish)
        self.loaded: set[str] = set()
        self.unloaded_by: Fault | None = None
        """The fault that took the functions away last."""
        self.subscribers: dict[Subscriber, None] = {}

    def client(self, worker: str, *, retries: int, timeout_s: float) -> Client:
        return Client(self, worker, retries, timeout_s)

    def _latency(self) -> float:
        base = 0.0002 + self.chance.random() * 0.0008
        if (fault := self.around.weather.on("redis_slow")) is not None:
            fault.met += 1
            base += self.chance.random() * 0.3
        return base

    def _met(self, kind: str) -> None:
        if (fault := self.around.weather.on(kind)) is not None:
            fault.met += 1

    # --- commands

    def ask(self, worker: str, commands: Sequence[tuple[Any, ...]], timeout_s: float) -> "asyncio.Future[list[Any]]":
        """The answers to `commands`, in order, an error among them as a value. Raises LineLost or TooSlow for all of them."""
        future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.loop.after(self._latency(), self._arrived, worker, commands, timeout_s, future)
        return future

    def _arrived(
        self, worker: str, commands: Sequence[tuple[Any, ...]], timeout_s: float, future: "asyncio.Future[list[Any]]"
    ) -> None:
        weather, chance = self.around.weather, self.chance
        if not self.up:
            self._met("redis_down")
            return self._fail(future, LineLost("Redis is down"))
        if (fault := weather.on("redis_hang")) is not None:
            fault.met += 1
            self.loop.after(timeout_s, self._fail, future, TooSlow("Timeout reading from Redis"))
            return None
        if (fault := weather.on("redis_line_lost")) is not None and chance.random() < 0.15:
            fault.met += 1
            return self._fail(future, LineLost("Connection closed by server."))
        answers = [self._answer(words) for words in commands]
        for words, answer in zip(commands, answers, strict=True):
            self.around.note("redis", worker, f"{words[0]} {words[1] if len(words) > 1 else ''}", answer)
        if (fault := weather.on("redis_reply_lost")) is not None and chance.random() < 0.2:
            fault.met += 1
            return self._fail(future, LineLost("Connection closed by server."))
        self.loop.after(self._latency(), self._tell, future, answers)
        return None

    def _answer(self, words: tuple[Any, ...]) -> Any:
        try:
            if words[0] == "FUNCTION":
                named = _LIBRARY.search(str(words[3]))
                assert named is not None
                self.loaded.add(named[1])
                return b"dispatch"
            if words[0] == "FCALL":
                if words[1] not in self.loaded:
                    if self.unloaded_by is not None:
                        self.unloaded_by.met += 1
                    return ResponseError("Function not found")
                return self.said(str(words[1]), words)
            return self.data.run(words)
        except ResponseError as error:
            self.around.broken(error)
            raise

    def said(self, name: str, words: tuple[Any, ...]) -> Any:
        """What a function answers: overridden by mutants."""
        answer = called(self.data, words, FUNCTIONS)
        if name == "claim" and (fault := self.around.weather.on("redis_lies")) is not None:
            fault.met += 1
            return self.chance.choice(_LIES)
        return answer

    def _tell(self, future: "asyncio.Future[list[Any]]", answers: list[Any]) -> None:
        if not future.done():
            future.set_result(answers)

    def _fail(self, future: "asyncio.Future[list[Any]]", error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    # --- pub/sub

    def publish(self, channel: str, message: bytes) -> int:
        heard = 0
        weather, chance = self.around.weather, self.chance
        for subscriber in self.subscribers:
            if channel not in subscriber.channels:
                continue
            heard += 1
            if (fault := weather.on("pubsub_deaf", subscriber.worker)) is not None:
                fault.met += 1
                continue
            if (fault := weather.on("pubsub_lost")) is not None and chance.random() < 0.4:
                fault.met += 1
                continue
            delay, times = self._latency(), 1
            if (fault := weather.on("pubsub_disorder")) is not None:
                if chance.random() < 0.5:
                    fault.met += 1
                    delay += chance.random() * 1.5
                if chance.random() < 0.3:
                    fault.met += 1
                    times = 2
            for _ in range(times):
                self.loop.after(delay, subscriber.hear, channel, message)
                delay += chance.random() * 0.01
        return heard

    # --- what happens to the whole of it

    def crash(self, *, empty: bool) -> int:
        """The server goes. With `empty` what comes back knows nothing. Returns how many subscribers lost it."""
        self.up = False
        if empty:
            self.flush()
            self.loaded.clear()
        subscribers, self.subscribers = self.subscribers, {}
        for subscriber in subscribers:
            subscriber.cut()
        return len(subscribers)

    def flush(self) -> int:
        """FLUSHALL. Returns how many keys there were."""
        count = len(self.data.keys)
        self.data.flush()
        return count
