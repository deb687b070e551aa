"""A client of bare TCP: every byte, from the request line on, is what the test says."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import orjson

from bench.fleet import unframed
from bench.hostile.mutate import frame
from tests.support.server import WITHIN_S, Person, Server

HELLO = b'{"type":"hello","device":"wire","attempt":1}'
WARP = b'{"type":"warp"}'
"""A frame that everybody gets an answer to who still has a line."""


class Wire:
    """One connection. `closed_with` is the code of the server's close frame; None while none came, or when it was cut."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0
        self.headers = b""
        self.closed_with: int | None = None
        self._rest = b""
        self._frames: list[tuple[int, bytes]] = []

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def request(self, token: str, method: str = "GET", **other: str | None) -> None:
        """An upgrade; `other` replaces headers by name (dashes as underscores), None leaves one out."""
        headers: dict[str, str | None] = {
            "Host": "x",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "dispatch.v1",
            "Authorization": f"Bearer {token}",
        }
        headers |= {name.replace("_", "-"): value for name, value in other.items()}
        lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        self.send(f"{method} /v1/socket HTTP/1.1\r\n".encode() + "\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(WITHIN_S):
            self.headers = await self.reader.readuntil(b"\r\n\r\n")
        self.status = int(self.headers.split(b" ", 2)[1])

    async def next(self) -> tuple[int, bytes] | None:
        """The next frame of the server: (opcode, payload); None at the end of the line."""
        async with asyncio.timeout(WITHIN_S):
            while not self._frames:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._frames, self._rest = unframed(self._rest + data)
        opcode, payload = self._frames.pop(0)
        if opcode == 0x8 and self.closed_with is None:
            self.closed_with = int.from_bytes(payload[:2], "big")
        return opcode, payload

    async def told(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next text frame of this type. AssertionError when the line ends before."""
        while (found := await self.next()) is not None:
            if found[0] == 0x1:
                document: dict[str, Any] = orjson.loads(found[1])
                if document["type"] == kind and all(document.get(key) == value for key, value in fields.items()):
                    return document
        raise AssertionError(f"no {kind}: closed with {self.closed_with}")

    async def greet(self) -> None:
        """As a device of its own."""
        self.send(frame(1, HELLO.replace(b"wire", uuid4().hex.encode())))
        await self.told("snapshot")

    async def lives(self) -> None:
        """It is asked, and it answers."""
        self.send(frame(1, WARP))
        await self.told("error")

    async def ends(self) -> int | None:
        """Until the end of the line; the code of the close frame that came before it, if one did."""
        while await self.next() is not None:
            pass
        return self.closed_with


@asynccontextmanager
async def dialled(server: Server) -> AsyncIterator[Wire]:
    """A connection on which nothing has been said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def wired(
    server: Server, person: Person, *, greet: bool = True, headers: Mapping[str, str | None] | None = None
) -> AsyncIterator[Wire]:
    """A socket, greeted unless told."""
    async with dialled(server) as wire:
        await wire.request(person.token, **(headers or {}))
        assert wire.status == 101, wire.headers
        if greet:
            await wire.greet()
        yield wire
