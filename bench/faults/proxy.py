"""A TCP proxy between the server under test and one of its stores, for the faults that lines have.

It understands just enough of both protocols to act on *one statement*: let it run and lose the answer, lose it before it
runs, or hold it until the test says go. Each such trap tells when it was reached, so that a test can
assert that its fault happened.

    async with Proxy(database_url) as line:
        pool = await asyncpg.create_pool(line.url)
        trap = line.drop_next_reply(b"accept_offer")
        ...                                   # the call fails with a lost connection, but it was executed
        await trap.reached.wait()
"""

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import hiredis

CHUNK_BYTES = 65536
SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
REDIS_HANDSHAKE = (b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING")  # what a client says by itself


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
    action: Literal["drop_reply", "cut_before", "hold"]
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let a held statement go on its way."""
        self.released.set()


class PostgresRequests:
    """Client bytes → (message, SQL that it executes or None)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False
        self._statements: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        self._buffer += data
        while True:
            skip = 1 if self._started else 0  # the first messages of a connection have no type byte
            if len(self._buffer) < skip + 4:
                return
            end = skip + struct.unpack_from(">I", self._buffer, skip)[0]
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            yield message, self._executed(message)

    def _executed(self, message: bytes) -> bytes | None:
        if not self._started:
            code = struct.unpack_from(">I", message, 4)[0]
            self._started = code not in {SSL_REQUEST, CANCEL_REQUEST}
            return None
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, sql, _ = body.split(b"\0", 2)
            self._statements[name] = sql
        elif kind == b"B":
            return self._statements.get(body.split(b"\0", 2)[1], b"")
        elif kind == b"Q":
            return body.rstrip(b"\0")
        return None


class PostgresReplies:
    """Server bytes from one request on → whether its answer is complete (ReadyForQuery was seen)."""

    def __init__(self) -> None:
        self._buffer = b""

    def complete(self, data: bytes) -> bool:
        self._buffer += data
        while len(self._buffer) >= 5:
            end = 1 + struct.unpack_from(">I", self._buffer, 1)[0]
            if len(self._buffer) < end:
                return False
            if self._buffer[:1] == b"Z":
                return True
            self._buffer = self._buffer[end:]
        return False


class RedisRequests:
    """Client bytes → (command, its words or None for the client's own handshake)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        self._buffer += data
        while (end := self._end()) is not None:
            command, self._buffer = self._buffer[:end], self._buffer[end:]
            words = command.split(b"\r\n")[2::2]
            yield command, None if words and words[0].upper() in REDIS_HANDSHAKE else b" ".join(words)

    def _end(self) -> int | None:
        """Where the first command of the buffer ends; None while it is not whole. Commands are arrays of strings."""
        at = self._buffer.find(b"\r\n")
        if at < 0:
            return None
        end = at + 2
        for _ in range(int(self._buffer[1:at])):
            at = self._buffer.find(b"\r\n", end)
            if at < 0:
                return None
            end = at + 2 + int(self._buffer[end + 1 : at]) + 2
            if len(self._buffer) < end:
                return None
        return end


class RedisReplies:
    """Server bytes from one command on → whether its answer is complete. Pushed messages are no answers."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def complete(self, data: bytes) -> bool:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not isinstance(reply, hiredis.PushNotification):
                return True
        return False


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to the store of `url`, until told otherwise.

    `url` is what the fixtures give (Unix sockets) or a TCP address; `self.url` is the same by way of the proxy.
    """

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._postgres = self._parts.scheme.startswith("postgres")
        self.delay_s = 0.0  # held back, each piece of an answer
        self.accepted = 0  # connections so far
        self._mode = Mode.PASS
        self._may_move = asyncio.Event()
        self._may_move.set()
        self._traps: list[Trap] = []
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
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
        if self._postgres:
            user = f"{self._parts.netloc.rpartition('@')[0] or 'postgres'}@"
            return f"postgresql://{user}{self.host}:{self.port}{self._parts.path}?{urlencode(query | {'sslmode': 'disable'})}"
        database = query.pop("db", "") or ("" if self._parts.scheme == "unix" else self._parts.path.lstrip("/"))
        return f"redis://{self.host}:{self.port}/{database or 0}?{urlencode(query)}".rstrip("?")

    def drop_next_reply(self, match: bytes | None = None) -> Trap:
        """Let the next matching statement be executed, swallow its whole answer, then reset the connection."""
        return self._set(Trap(match, "drop_reply"))

    def cut_before(self, match: bytes | None = None) -> Trap:
        """Reset the connection instead of passing the next matching statement on: it is never executed."""
        return self._set(Trap(match, "cut_before"))

    def hold_next(self, match: bytes | None = None) -> Trap:
        """Keep the next matching statement back until `release()`; its connection waits, the others go on."""
        return self._set(Trap(match, "hold"))

    def cut(self) -> None:
        """Reset every connection that there is now. New ones are welcome."""
        for line in [*self._lines]:
            line.reset()

    def refuse(self) -> None:
        """Reset every connection, and each new one at once, until `heal`."""
        self._mode = Mode.REFUSE
        self.cut()

    def freeze(self) -> None:
        """Stop all bytes without losing one, until `heal`."""
        self._mode = Mode.FROZEN
        self._may_move.clear()

    def blackhole(self) -> None:
        """Lose all bytes from now on, both ways, while connections look open."""
        self._mode = Mode.BLACKHOLE

    def heal(self) -> None:
        """A good line again. Connections that lost bytes are reset."""
        if self._mode is Mode.BLACKHOLE:
            self.cut()
        self._mode = Mode.PASS
        self._may_move.set()

    def _set(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    def _sprung(self, executed: bytes | None) -> Trap | None:
        """The first trap for this statement; it springs once."""
        if executed is None:
            return None
        for trap in self._traps:
            if trap.match is None or trap.match in executed:
                self._traps.remove(trap)
                return trap
        return None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        line = _Line(self, reader, writer)
        self._lines.add(line)
        try:
            if self._mode is Mode.REFUSE:
                return
            await line.run(*await self._connect())
        except OSError:
            pass  # one end reset it: so does the other
        finally:
            line.reset()
            self._lines.discard(line)
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._parts.query)
        if self._postgres and "host" in query:
            port = query.get("port", ["5432"])[0]
            return await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{port}")
        if self._parts.scheme == "unix":
            return await asyncio.open_unix_connection(unquote(self._parts.path))
        return await asyncio.open_connection(self._parts.hostname, self._parts.port)


class _Line:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._swallowing: tuple[Trap, PostgresReplies | RedisReplies] | None = None

    async def run(self, server_reader: asyncio.StreamReader, server_writer: asyncio.StreamWriter) -> None:
        self._server = server_writer
        pumps = [asyncio.create_task(self._requests(server_writer)), asyncio.create_task(self._replies(server_reader))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def reset(self) -> None:
        """Close both ends; the client sees a reset, not an orderly end."""
        for writer in (self._writer, self._server):
            if writer is None:
                continue
            if writer is self._writer and (raw := writer.get_extra_info("socket")) is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _requests(self, server: asyncio.StreamWriter) -> None:
        frames = PostgresRequests() if self._proxy._postgres else RedisRequests()
        while data := await self._reader.read(CHUNK_BYTES):
            for message, executed in frames.feed(data):
                trap = self._proxy._sprung(executed)
                if trap is not None and trap.action == "cut_before":
                    trap.reached.set()
                    return
                if trap is not None and trap.action == "hold":
                    trap.reached.set()
                    await trap.released.wait()
                if trap is not None and trap.action == "drop_reply":
                    self._swallowing = (trap, PostgresReplies() if self._proxy._postgres else RedisReplies())
                await self._pass_on(server, message)

    async def _replies(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(CHUNK_BYTES):
            if self._swallowing is not None:
                trap, replies = self._swallowing
                if replies.complete(data):
                    trap.reached.set()
                    return
                continue
            if self._proxy.delay_s:
                await asyncio.sleep(self._proxy.delay_s)
            await self._pass_on(self._writer, data)

    async def _pass_on(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._proxy._may_move.wait()
        if self._proxy._mode is not Mode.BLACKHOLE:
            writer.write(data)
            await writer.drain()
