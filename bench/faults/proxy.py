"""A TCP proxy for the faults that lines have: between a server under test and one of its stores, or its clients and it.

It understands just enough of the stores' protocols to act on *one statement*: let it run and lose the answer, lose it
before it runs, hold it until the test says go, or answer in the store's place. Each such trap tells when it was reached, so
that a test can assert that its fault happened.

    async with Proxy(database_url) as line:
        pool = await asyncpg.create_pool(line.url)
        trap = line.drop_next_reply(b"accept_offer")
        ...                                   # the call fails with a lost connection, but it was executed
        await trap.reached.wait()
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from bench.faults.lines import Line

Action = Literal["drop_reply", "cut_before", "hold", "lie"]
Direction = Literal["requests", "replies"]


class Mode(Enum):
    """What happens to every byte on the line."""

    PASS = "pass"
    FROZEN = "frozen"  # nothing moves, nothing is lost; `heal` lets it go on
    BLACKHOLE = "blackhole"  # bytes vanish, connections stay open; `heal` resets them, as their streams have holes
    REFUSE = "refuse"  # new connections are reset at once


@dataclass(eq=False)
class Trap:
    """A fault for the next statement that contains `match` (None: for the next one at all)."""

    match: bytes | None
    action: Action
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    on_release: list[Callable[[], None]] = field(default_factory=list)
    answer: bytes = b""
    """Of a lie: what is answered in place of the truth."""

    def release(self) -> None:
        """Let a held statement go on its way."""
        self.released.set()
        for go_on in self.on_release:
            go_on()


@dataclass(frozen=True, eq=False)
class Standing:
    """A fault for a share of the statements that contain one of `matches`, until it is taken away."""

    matches: tuple[bytes, ...]
    action: Action
    rate: float
    dice: random.Random
    answers: Sequence[bytes] = ()

    def sprung(self, executed: bytes) -> Trap | None:
        if not any(match in executed for match in self.matches) or self.dice.random() >= self.rate:
            return None
        return Trap(None, self.action, answer=self.dice.choice(self.answers) if self.answers else b"")


Struck = Callable[[Action, bytes], None]
"""Told (what was done, the message that it was done to) of each statement that a standing fault met."""


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to what is at `url`, until told otherwise.

    `url` is what the fixtures give (Unix sockets) or a TCP address; `self.url` is the same by way of the proxy. An http
    address is a line of bytes without statements: traps are for stores.
    """

    def __init__(self, url: str, *, port: int = 0, seed: int = 0, struck: Struck | None = None) -> None:
        self._parts = urlsplit(url)
        self._port = port
        scheme = self._parts.scheme
        self.speaks: Literal["postgres", "redis", ""] = (
            "postgres" if scheme.startswith("postgres") else "" if scheme.startswith("http") else "redis"
        )
        self.dice = random.Random(seed)
        self.delay_s = 0.0  # held back, each piece of an answer
        self.jitter_s = 0.0  # so much more or less, by chance
        self.bytes_per_s: float | None = None  # each way of each connection
        self.accepted = 0  # connections so far
        self.refused = 0  # of these, those that found nobody behind us or were not let in
        self.slowed = 0  # calls so far that were held back (`SLOWED_S`) or lost bytes; without statements, pieces
        self.lost = 0  # statements whose connection ended before their answer
        self.mode = Mode.PASS
        self.silent: Direction | None = None
        self.lines: set[Line] = set()
        self._struck = struck
        self._traps: list[Trap] = []
        self._standing: list[Standing] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Line(self).client, self.host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        query = {name: values[0] for name, values in parse_qs(self._parts.query).items()}
        query.pop("host", None)
        query.pop("port", None)
        if self.speaks == "postgres":
            user = f"{self._parts.netloc.rpartition('@')[0] or 'postgres'}@"
            return f"postgresql://{user}{self.host}:{self.port}{self._parts.path}?{urlencode(query | {'sslmode': 'disable'})}"
        if not self.speaks:
            return f"{self._parts.scheme}://{self.host}:{self.port}{self._parts.path}"
        database = query.pop("db", "") or ("" if self._parts.scheme == "unix" else self._parts.path.lstrip("/"))
        return f"redis://{self.host}:{self.port}/{database or 0}?{urlencode(query)}".rstrip("?")

    @property
    def in_flight(self) -> int:
        """Connections on which a statement waits for its answer now."""
        return sum(line.busy for line in self.lines)

    # --- single statements

    def drop_next_reply(self, match: bytes | None = None) -> Trap:
        """Let the next matching statement be executed, swallow its whole answer, then reset the connection."""
        return self._set(Trap(match, "drop_reply"))

    def cut_before(self, match: bytes | None = None) -> Trap:
        """Reset the connection instead of passing the next matching statement on: it is never executed."""
        return self._set(Trap(match, "cut_before"))

    def hold_next(self, match: bytes | None = None) -> Trap:
        """Keep the next matching statement back until `release()`; its connection waits, the others go on."""
        return self._set(Trap(match, "hold"))

    def forget(self, trap: Trap) -> None:
        """Take a trap away that nobody may have met."""
        if trap in self._traps:
            self._traps.remove(trap)

    def drop_some(self, matches: Sequence[bytes], rate: float) -> Standing:
        """Lose the answer of a share of the statements that contain one of `matches`: executed, then the connection is reset."""
        return self._stand(Standing(tuple(matches), "drop_reply", rate, self.dice))

    def cut_some(self, matches: Sequence[bytes], rate: float) -> Standing:
        """Reset the connection in place of a share of the statements: they are never executed."""
        return self._stand(Standing(tuple(matches), "cut_before", rate, self.dice))

    def lie(self, matches: Sequence[bytes], answers: Sequence[bytes], rate: float = 1.0) -> Standing:
        """Let a share of the statements be executed and answer one of `answers` (whole replies), whatever is true."""
        return self._stand(Standing(tuple(matches), "lie", rate, self.dice, answers))

    def end(self, standing: Standing) -> None:
        """Take a standing fault away."""
        self._standing.remove(standing)

    # --- all of them

    def cut(self) -> None:
        """Reset every connection that there is now. New ones are welcome."""
        for line in [*self.lines]:
            line.reset()

    def refuse(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self.mode = Mode.REFUSE
        self.cut()

    def freeze(self) -> None:
        """Stop all bytes without losing one, until `heal`."""
        self.mode = Mode.FROZEN

    def blackhole(self) -> None:
        """Lose all bytes from now on, both ways, while connections look open."""
        self.mode = Mode.BLACKHOLE

    def half_open(self, silent: Direction) -> None:
        """Lose all bytes of one direction from now on; the other one works."""
        self.silent = silent

    def turn_to(self, url: str) -> None:
        """What is behind us is at `url` from now on, which speaks the same; every connection is reset."""
        self._parts = urlsplit(url)
        self.cut()

    def heal(self) -> None:
        """A good line again, quick and silent about nothing. Connections that lost bytes are reset. Standing faults stay."""
        self.mode, self.silent = Mode.PASS, None
        self.delay_s = self.jitter_s = 0.0
        self.bytes_per_s = None
        for line in [*self.lines]:
            line.healed()

    # --- what lines ask

    def sprung(self, executed: bytes, message: bytes) -> Trap | None:
        """The trap for this statement, if there is one. Those that were set spring once, and are known to whoever set them."""
        for trap in self._traps:
            if trap.match is None or trap.match in executed:
                self._traps.remove(trap)
                return trap
        for standing in self._standing:
            if (found := standing.sprung(executed)) is not None:
                if self._struck is not None:
                    self._struck(found.action, message)
                return found
        return None

    def connect(self, line: Line) -> None:
        """Find the other end of a new connection."""
        self.accepted += 1
        self.lines.add(line)
        if self.mode is Mode.REFUSE:
            self.refused += 1
            line.reset()
            return
        task = asyncio.get_running_loop().create_task(self._connect(line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        query = parse_qs(self._parts.query)
        try:
            if self.speaks == "postgres" and "host" in query:
                path = f"{query['host'][0]}/.s.PGSQL.{query.get('port', ['5432'])[0]}"
                await loop.create_unix_connection(lambda: cast("Any", line.server), path)
            elif self._parts.scheme == "unix":
                await loop.create_unix_connection(lambda: cast("Any", line.server), unquote(self._parts.path))
            else:
                host, port = self._parts.hostname or self.host, self._parts.port or 0
                await loop.create_connection(lambda: cast("Any", line.server), host, port)
        except OSError:
            self.refused += 1
            line.reset()  # one end is not there: so is the other

    def _set(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _stand(self, standing: Standing) -> Standing:
        self._standing.append(standing)
        return standing
