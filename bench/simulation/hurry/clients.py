"""The client end: what stands where redis-py's clients and subscribers would."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as LineLost
from redis.exceptions import TimeoutError as TooSlow

from dispatch.kit.cluster import Pipeline

if TYPE_CHECKING:
    from bench.simulation.hurry.server import RedisModel


class Client:
    """A client of redis-py with so many retries: each sends the whole command again, executed or not."""

    def __init__(self, server: "RedisModel", worker: str, retries: int, timeout_s: float) -> None:
        self._server = server
        self._worker = worker
        self._retries = retries
        self._timeout_s = timeout_s

    async def send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        left = self._retries
        while True:
            try:
                return await self._server.ask(self._worker, commands, self._timeout_s)
            except (LineLost, TooSlow):
                if left == 0:
                    raise
                left -= 1
                await asyncio.sleep(0.02)

    async def execute_command(self, *words: Any) -> Any:
        answer = (await self.send([words]))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, key: str) -> Any:
        return await self.execute_command("GET", key)

    async def set(self, key: str, value: Any, *, nx: bool) -> Any:
        return await self.execute_command("SET", key, value, *(("NX",) if nx else ()))

    async def delete(self, *names: str) -> Any:
        return await self.execute_command("DEL", *names)

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self.send)

    def pubsub(self, *, ignore_subscribe_messages: bool) -> "Subscriber":
        assert ignore_subscribe_messages
        return Subscriber(self._server, self._worker)


class Subscriber:
    """A pub/sub connection."""

    def __init__(self, server: "RedisModel", worker: str) -> None:
        self._server = server
        self.worker = worker
        self.channels: set[str] = set()
        self._heard: deque[tuple[str, bytes]] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._lost = False

    async def ssubscribe(self, *channels: str) -> None:
        await self._server.ask(self.worker, [("PING",)], 1.0)
        if self._lost:
            raise LineLost("Connection closed by server.")
        self.channels.update(channels)
        self._server.subscribers[self] = None

    async def sunsubscribe(self, *channels: str) -> None:
        self.channels.difference_update(channels)

    async def get_message(self, *, timeout: float) -> dict[str, Any] | None:
        if not self._heard and not self._lost:
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await waiting
            except TimeoutError:
                return None
            finally:
                self._waiting = None
        if self._heard:
            channel, data = self._heard.popleft()
            return {"type": "smessage", "channel": channel.encode(), "data": data}
        raise LineLost("Connection closed by server.")

    async def aclose(self) -> None:
        self._server.subscribers.pop(self, None)

    def hear(self, channel: str, data: bytes) -> None:
        if channel in self.channels and not self._lost:
            self._heard.append((channel, data))
            self._wake()

    def cut(self) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
