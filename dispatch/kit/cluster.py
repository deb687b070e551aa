"""A Redis or Valkey cluster behind the words that one server understands.

Every key of ours carries a tag, so each function and each command has one slot, and the only thing to add is which primary has it. redis-py's
own cluster client would also send commands again after a lost reply, as often as it likes; a claim executed twice tells its winner that
he lost. Here a command is sent again only when it was refused («MOVED»), which has executed nothing.

A slot on its way from one primary to another («ASK») counts as Redis being away, for those few keys and that moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio as aioredis
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as LineLost
from redis.exceptions import TimeoutError as TooSlow

SLOTS: Final = 16_384
EVERYWHERE: Final = frozenset({"PING", "FUNCTION", "FLUSHALL"})
"""Commands without a key: every primary is asked, and the answer is the first one's."""


def slot_of(key: str) -> int:
    """Of a key or of a sharded channel: that of the tag in its braces."""
    return key_slot(key.encode())


def key_of(words: Sequence[Any]) -> str:
    """The key that says where a command belongs. Raises ValueError for a function without keys."""
    name = str(words[0]).upper()
    if name not in ("FCALL", "FCALL_RO", "EVAL", "EVALSHA"):
        return str(words[1])
    if int(words[2]) < 1:
        raise ValueError(f"{name} {words[1]} names no key, so it belongs nowhere in a cluster")
    return str(words[3])


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary and the slots that it has: both ends of each range belong to it."""

    address: str
    ranges: tuple[tuple[int, int], ...]

    def has(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)


def shards_of(rows: Sequence[Sequence[Any]], asked: str) -> tuple[Shard, ...]:
    """From the answer to CLUSTER SLOTS of the node at `asked`: a node that does not know its own name answers with none. Sorted by address."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for first, last, primary, *_ in rows:
        host = primary[0].decode() if isinstance(primary[0], bytes) else primary[0]
        ranges.setdefault(_at(asked, host or "", int(primary[1])), []).append((int(first), int(last)))
    return tuple(Shard(address, tuple(sorted(some))) for address, some in sorted(ranges.items()))


def _at(url: str, host: str, port: int) -> str:
    """The address of another node of the same cluster: same scheme, name and password."""
    parts = urlsplit(url)
    who, at, _ = parts.netloc.rpartition("@")
    host = host or parts.hostname or "127.0.0.1"
    return urlunsplit(parts._replace(netloc=f"{who}{at}{f'[{host}]' if ':' in host else host}:{port}"))


@dataclass
class Topology:
    """Which primary has which slot, as it was last heard. `version` grows with every change."""

    shards: tuple[Shard, ...] = ()
    version: int = 0
    doubted: bool = True
    """A line broke, or a node said «MOVED» or that the cluster is down: ask before the next command."""
    suspect: str | None = None
    """The node that could not answer for its slots: what it knows of the others may be as old. It is asked last."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def doubt(self, address: str, error: BaseException) -> None:
        """A node did not do what it was asked for because of this."""
        self.doubted = True
        # Whoever says «MOVED» knows better than we do.
        self.suspect = None if isinstance(error, MovedError) else address

    def learn(self, shards: tuple[Shard, ...]) -> None:
        self.doubted = False
        if shards != self.shards:
            self.shards = shards
            self.version += 1

    def shard_of(self, slot: int) -> Shard:
        """Raises redis-py's ConnectionError while nobody has it."""
        for shard in self.shards:
            if shard.has(slot):
                return shard
        raise LineLost(f"no node of the cluster has slot {slot}")


class Cluster:
    """A client for each primary that it hears of, and as many of redis-py's words as the server uses. `make` opens a client of one node;
    `topology` may be shared with another cluster of clients. Errors are those of the clients.
    """

    def __init__(self, seeds: Sequence[str], make: Callable[[str], "aioredis.Redis"], topology: Topology) -> None:
        self._seeds = tuple(seeds)
        self._make = make
        self._clients: dict[str, aioredis.Redis] = {}
        self.topology = topology

    def client(self, address: str) -> "aioredis.Redis":
        """Of one node, opened when first asked for."""
        if address not in self._clients:
            self._clients[address] = self._make(address)
        return self._clients[address]

    async def aclose(self) -> None:
        """Close every client."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    # --- who has what

    async def look(self, *, anew: bool = False) -> tuple[Shard, ...]:
        """The shards, asked for anew if there was a doubt. Raises ConnectionError when no node answers."""
        async with self.topology.asking:
            if anew or self.topology.doubted:
                await self._ask()
        return self.topology.shards

    async def _ask(self) -> None:
        known = [shard.address for shard in self.topology.shards]
        troubles = []
        for address in sorted(dict.fromkeys((*known, *self._seeds)), key=lambda one: one == self.topology.suspect):
            try:
                rows = await cast("Any", self.client(address).execute_command("CLUSTER", "SLOTS"))
            except (RedisError, OSError, TimeoutError) as error:
                self.topology.suspect = address
                troubles.append(f"{urlsplit(address).hostname}: {error}")
                continue
            if found := shards_of(rows, address):
                self.topology.learn(found)
                await self._forget({shard.address for shard in found} | set(self._seeds))
                return
            troubles.append(f"{urlsplit(address).hostname}: it knows of no slots")
        raise LineLost(f"no node of the cluster answers: {'; '.join(troubles)}")

    async def _forget(self, living: set[str]) -> None:
        for address in self._clients.keys() - living:
            await self._clients.pop(address).aclose()

    def _for(self, words: Sequence[Any]) -> tuple[Shard, ...]:
        if str(words[0]).upper() in EVERYWHERE:
            return self.topology.shards
        return (self.topology.shard_of(slot_of(key_of(words))),)

    # --- asking

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """On the primary that has the command's key, or on every one of them."""
        try:
            return await self._execute(words, options)
        except MovedError:
            return await self._execute(words, options)

    async def _execute(self, words: Sequence[Any], options: dict[str, Any]) -> Any:
        await self.look()
        asked = (
            self._said(shard.address, self.client(shard.address).execute_command(*words, **options))
            for shard in self._for(words)
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers[0]

    async def get(self, key: str) -> Any:
        return await self.execute_command("GET", key)

    async def getdel(self, key: str) -> Any:
        return await self.execute_command("GETDEL", key)

    async def set(self, key: str, value: Any, *, nx: bool = False, ex: int | None = None) -> Any:
        """`ex` in seconds."""
        lapse = () if ex is None else ("EX", ex)
        return await self.execute_command("SET", key, value, *lapse, *(("NX",) if nx else ()))

    async def delete(self, *keys: str) -> Any:
        """Of one slot."""
        return await self.execute_command("DEL", *keys)

    async def _said(self, address: str, asked: Any) -> Any:
        """The answer of this node; whatever casts doubt on where things are is noted."""
        try:
            return await asked
        except (MovedError, ClusterDownError, LineLost, TooSlow, OSError) as error:
            self.topology.doubt(address, error)
            raise

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        """Of commands of any slots, without a transaction. Commands of one slot keep their order."""
        if transaction:
            raise ValueError("a transaction does not reach over the nodes of a cluster")
        return Pipeline(self.batch)

    async def batch(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Their answers, refusals among them, in their order. Raises the first error of a line, when all others have answered."""
        answers = await self._batch(commands)
        moved = [number for number, answer in enumerate(answers) if isinstance(answer, MovedError)]
        if moved:
            for number, answer in zip(moved, await self._batch([commands[one] for one in moved]), strict=True):
                answers[number] = answer
        return answers

    async def _batch(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        await self.look()
        parts: dict[str, list[int]] = {}
        for number, words in enumerate(commands):
            for shard in self._for(words):
                parts.setdefault(shard.address, []).append(number)
        answers: list[Any] = [None] * len(commands)

        async def part(address: str, numbers: list[int]) -> None:
            async with self.client(address).pipeline(transaction=False) as pipe:
                for number in numbers:
                    pipe.execute_command(*commands[number])
                for number, answer in zip(numbers, await pipe.execute(raise_on_error=False), strict=True):
                    if isinstance(answer, (MovedError, ClusterDownError)):
                        self.topology.doubt(address, answer)
                    if not isinstance(
                        answers[number], Exception
                    ):  # of a command for everybody: a refusal by any of them
                        answers[number] = answer

        parting = (self._said(address, part(address, numbers)) for address, numbers in parts.items())
        for failed in await asyncio.gather(*parting, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
        return answers

    def pubsub(self, channel: str, **given: Any) -> "aioredis.client.PubSub":
        """A subscription on the primary that has this sharded channel. Raises ConnectionError while nobody has it."""
        return self.client(self.topology.shard_of(slot_of(channel)).address).pubsub(**given)


class Pipeline:
    """Commands that are sent together, as redis-py's pipeline takes them. `ask` gives their answers in order, refusals among them."""

    def __init__(self, ask: Callable[[list[tuple[Any, ...]]], Awaitable[list[Any]]]) -> None:
        self._ask = ask
        self.command_stack: list[tuple[Any, ...]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.command_stack = []

    def execute_command(self, *words: Any) -> Self:
        self.command_stack.append(words)
        return self

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Answers in the order of the commands. With `raise_on_error` the first refusal is raised, when all have been executed."""
        commands, self.command_stack = self.command_stack, []
        answers = await self._ask(commands)
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers
