"""What RFC 6455 says a server must fail, and what it must bear: the list of Autobahn's fuzzing client, by own cases.

What aiohttp's reader forgives, and we with it, stands in FORGIVEN: frames without a mask (§5.1; masks protect proxies on the way from a
browser's script, browsers mask by themselves, and such a frame does no more than another; a strict edge proxy may refuse them), an
empty first fragment that a whole message follows, and the close codes 1006 and 5000 up.
"""

import asyncio
import os
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from bench.hostile.mutate import frame
from bench.server import rss_kib
from protocol.errors import CloseCode
from protocol.frames import FRAME_BYTES_MAX
from tests.gateway.wire import HELLO, WARP, Wire, dialled, wired
from tests.support.server import WITHIN_S, Server, serving

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LETTER = '"\u0e01"'.encode()


@pytest.fixture(params=[10, 0], ids=["read together", "read each by itself"])
async def server(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[Server]:
    """With a bystander, who must not notice."""
    async with serving(database_url, redis_url, read_every_ms=request.param) as running:
        bystander = await running.person()
        async with bystander.connected() as phone:
            yield running
            await phone.untrack(uuid4())
            assert phone.welcomes == 1, "somebody else's failure closed a bystander's socket"


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


FAILED: dict[str, tuple[bytes, int]] = {
    **{f"reserved bits {rsv:03b}": (frame(TEXT, WARP, rsv=rsv), 1002) for rsv in range(1, 8)},
    **{f"reserved bit on opcode {op}": (frame(op, b"x", rsv=4), 1002) for op in (BINARY, CLOSE, PING, PONG)},
    **{f"opcode {op}": (frame(op, b"x"), 1002) for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"fragmented control {op}": (frame(op, b"", fin=False), 1002) for op in (CLOSE, PING, PONG)},
    **{f"control {op} of 126 bytes": (frame(op, b"x" * 126), 1002) for op in (CLOSE, PING, PONG)},
    **{f"control {op} of 64 KiB": (frame(op, b"x" * 65_536), 1002) for op in (CLOSE, PING, PONG)},
    **{
        f"no UTF-8: {bad!r}": (frame(TEXT, b'"' + bad + b'"'), 1007)
        for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82", b"\x80")
    },
    "no UTF-8, over two fragments": (frame(TEXT, LETTER[:2], fin=False) + frame(0, b'"'), 1007),
    "no UTF-8, its end missing": (frame(TEXT, LETTER[:3]), 1007),
    "continuation of nothing": (frame(0, WARP), 1002),
    "continuation of nothing, unfinished": (frame(0, WARP, fin=False), 1002),
    "continuation after the end": (frame(TEXT, WARP[:4], fin=False) + frame(0, WARP[4:]) + frame(0, b"x"), 1002),
    "a message between fragments": (frame(TEXT, WARP[:4], fin=False) + frame(TEXT, WARP), 1002),
    "a message begun between fragments": (frame(TEXT, WARP[:4], fin=False) + frame(TEXT, WARP, fin=False), 1002),
    "another kind between fragments": (frame(TEXT, WARP[:4], fin=False) + frame(BINARY, WARP, fin=False), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a reason that is no UTF-8": (close(1000, b"\xff"), 1007),
    **{
        f"close code {code}": (close(code), 1002)
        for code in (0, 1, 999, 1004, 1005, 1015, 1016, 1100, 2000, 2999)
    },
    "a frame of 16 KiB and a byte": (frame(TEXT, b"x" * (FRAME_BYTES_MAX + 1)), 1009),
    "a length of 2^62 and nothing else": (frame(TEXT, b"", form=127, says=2**62), 1009),
    "a length of 2^63": (frame(TEXT, b"", form=127, says=2**63), 1009),
    "fragments of more than 16 KiB together": (
        frame(TEXT, b"x" * 9_000, fin=False) + frame(0, b"x" * 9_000, fin=False), 1009,
    ),
    "deflated, though nothing was agreed": (frame(TEXT, zlib.compress(WARP)[2:-4], rsv=4), 1002),
}  # fmt: skip
BINARIES = {"binary": frame(BINARY, WARP), "binary, fragmented": frame(BINARY, b"a", fin=False) + frame(0, b"b")}

BORNE: dict[str, bytes] = {
    "masked": frame(TEXT, WARP, mask=os.urandom(4)),
    "length in 16 bits that fits in 7": frame(TEXT, WARP, form=126),
    "length in 64 bits that fits in 7": frame(TEXT, WARP, form=127),
    "two fragments": frame(TEXT, WARP[:4], fin=False) + frame(0, WARP[4:]),
    "a byte in each": frame(TEXT, b"", fin=False) + b"".join(frame(0, WARP[n : n + 1], fin=False) for n in range(len(WARP))) + frame(0, b""),
    "a letter over two fragments": frame(TEXT, b'{"type":' + LETTER[:2], fin=False) + frame(0, LETTER[2:] + b"}"),
    "a ping between fragments": frame(TEXT, WARP[:4], fin=False) + frame(PING, b"between") + frame(0, WARP[4:]),
    "a pong between fragments": frame(TEXT, WARP[:4], fin=False) + frame(PONG, b"") + frame(0, WARP[4:]),
    "nothing": frame(TEXT, b""),
}  # fmt: skip


FORGIVEN: dict[str, bytes] = {
    "not masked": frame(TEXT, WARP, mask=None),
    "an empty fragment, then a message": frame(TEXT, b"", fin=False) + frame(TEXT, WARP),
}


@pytest.mark.parametrize("case", FAILED)
async def test_what_must_fail_fails(server: Server, case: str) -> None:
    data, code = FAILED[case]
    async with wired(server, await server.person()) as wire:
        wire.send(data)
        assert await wire.ends() == code


@pytest.mark.parametrize("case", BINARIES)
async def test_binary_is_not_our_protocol(server: Server, case: str) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(BINARIES[case])
        assert await wire.ends() == 4400


@pytest.mark.parametrize("case", BORNE)
async def test_what_must_be_borne_is_read_like_any_frame(server: Server, case: str) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(BORNE[case])
        assert (await wire.told("error"))["error"]["code"] == "BAD_FRAME"
        await wire.lives()


@pytest.mark.parametrize("case", FORGIVEN)
async def test_what_is_forgiven_does_no_more_than_a_right_frame(server: Server, case: str) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(FORGIVEN[case])
        assert (await wire.told("error"))["error"]["code"] == "BAD_FRAME"
        await wire.lives()


@pytest.mark.parametrize("code", [1006, 5000, 65535])
async def test_a_forgiven_close_code_closes_and_is_not_repeated(server: Server, code: int) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(close(code))
        assert await wire.ends() in (1000, 1002)


async def test_every_cut_of_a_frame_is_put_together(server: Server) -> None:
    """TCP owes nobody a whole frame: bytes that drip are the same frame."""
    async with wired(server, await server.person()) as wire:
        for byte in frame(TEXT, WARP, mask=b"abcd"):
            wire.send(bytes((byte,)))
            await wire.writer.drain()
        await wire.told("error")
        await wire.lives()


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_a_close_is_answered_by_a_close(server: Server, code: int) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(close(code, "ลาก่อน".encode()))
        assert await wire.ends() is not None


async def test_a_ping_is_answered_with_its_own_words(server: Server) -> None:
    async with wired(server, await server.person()) as wire:
        for words in (b"", b"x", os.urandom(125)):
            wire.send(frame(PING, words))
            assert await wire.next() == (PONG, words)


HANDSHAKES: dict[str, dict[str, str | None]] = {
    "no key": {"Sec_WebSocket_Key": None},
    "a key of 3 bytes": {"Sec_WebSocket_Key": "abcd"},
    "a key that is no base64": {"Sec_WebSocket_Key": "!!!!!!!!!!!!!!!!!!!!!!!!"},
    "no version": {"Sec_WebSocket_Version": None},
    "version 12": {"Sec_WebSocket_Version": "12"},
    "a version that is none": {"Sec_WebSocket_Version": "x"},
    "no upgrade": {"Upgrade": None},
    "an upgrade to something else": {"Upgrade": "h2c"},
    "a connection that stays": {"Connection": "keep-alive"},
    "no connection": {"Connection": None},
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_handshake_that_is_none_is_refused(server: Server, case: str) -> None:
    async with dialled(server) as wire:
        await wire.request((await server.person()).token, **HANDSHAKES[case])
        assert 400 <= wire.status < 500, wire.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_a_get_is_a_handshake(server: Server, method: str) -> None:
    async with dialled(server) as wire:
        await wire.request((await server.person()).token, method)
        assert wire.status == 405


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; server_max_window_bits=8; client_no_context_takeover",
        "x-webkit-deflate-frame", "permessage-deflate; nonsense=1, permessage-bzip2",
    ],
)  # fmt: skip
async def test_compression_stays_off_whatever_is_offered(server: Server, offer: str) -> None:
    async with wired(server, await server.person(), headers={"Sec_WebSocket_Extensions": offer}) as wire:
        assert b"extensions" not in wire.headers.lower()
        packer = zlib.compressobj(wbits=-15)
        wire.send(frame(TEXT, packer.compress(WARP) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4], rsv=4))
        assert await wire.ends() == 1002


async def _flat(server: Server, wire: Wire, data: bytes, times: int, code: set[int | None]) -> None:
    """Send so much, or until the line is closed; memory may grow by a few buffers."""
    before = rss_kib(Path("/proc/self/status").read_text())
    ending = asyncio.create_task(wire.ends())
    async with asyncio.timeout(WITHIN_S):
        for _ in range(times):
            if ending.done() or wire.writer.is_closing():
                break
            wire.send(data)
            try:
                await wire.writer.drain()
            except ConnectionError:
                break
        assert await ending in code
    assert rss_kib(Path("/proc/self/status").read_text()) - before < 8 * 1024


async def test_a_million_fragments_of_one_byte_take_no_memory(server: Server) -> None:
    async with wired(server, await server.person()) as wire:
        wire.send(frame(TEXT, b"x", fin=False))
        # Who goes on writing into a closed line may lose the close frame that lies in it: None.
        await _flat(server, wire, frame(0, b"x", fin=False) * 1_000, 1_000, {1009, None})


async def test_fragments_without_end_are_a_flood(server: Server) -> None:
    """Empty ones never become a message, so nobody counts them as one."""
    async with wired(server, await server.person()) as wire:
        wire.send(frame(TEXT, b"", fin=False))
        await _flat(server, wire, frame(0, b"", fin=False) * 1_000, 1_000, {CloseCode.FLOODING, None})


async def test_a_bomb_is_not_unpacked(server: Server) -> None:
    """16 MiB of zeros in 16 KiB: nothing was agreed, so nobody inflates it."""
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(b"\0" * 14 * 1024 * 1024) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < FRAME_BYTES_MAX
    async with wired(server, await server.person()) as wire:
        await _flat(server, wire, frame(TEXT, bomb, rsv=4), 1, {1002})


async def test_a_flood_of_pings_is_a_flood(server: Server) -> None:
    """It was answered for as long as it lasted, and pongs that nobody read piled up without a bound."""
    person = await server.person()
    async with wired(server, person) as wire:
        (conn,) = [c for c in server.app.door.connections.values() if c.user_id == person.user_id]
        bystander = await server.person()
        async with bystander.connected() as phone, asyncio.timeout(3 * WITHIN_S):
            waited = 0.0
            loop = asyncio.get_running_loop()
            while conn.closing_since is None:
                wire.send(frame(PING, b"p" * 125) * 400)
                assert conn._transport.get_write_buffer_size() < 400 * 1024
                began = loop.time()
                await phone.untrack(uuid4())
                waited = max(waited, loop.time() - began)
                await asyncio.sleep(0.1)  # ten frames a second are a bystander's share
        assert waited < 2.0, "others waited for a flooder"
        assert server.app.door.frames_limited == 0
        assert await wire.ends() in (4408, 4429, None)


async def test_headers_that_drip_are_cut_off_and_those_who_asked_are_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dialled(server) as patient, dialled(server) as slow, dialled(server) as silent:
        patient.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            await patient.reader.readuntil(b'{"status":"alive"}')
        monkeypatch.setattr("dispatch.api.strangers.FIRST_REQUEST_WITHIN_S", 0.5)
        slow.send(b"GET /v1/socket HTTP/1.1\r\n")

        async def drip() -> None:
            while not slow.reader.at_eof():
                slow.send(b"X")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(WITHIN_S):
            assert await silent.reader.read() == b""
            try:
                assert await slow.reader.read() == b""
            except ConnectionResetError:
                pass
        dripping.cancel()
        patient.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(WITHIN_S):
            await patient.reader.readuntil(b'{"status":"alive"}')


async def test_a_hello_that_never_ends_is_a_stranger_too(server: Server) -> None:
    """Headers came, the first frame drips: the ten seconds for `hello` hold all the same."""
    person = await server.person()
    async with wired(server, person, greet=False) as wire:
        wire.send(frame(TEXT, HELLO)[:-1])
        async with asyncio.timeout(WITHIN_S):
            while not (conns := [c for c in server.app.door.connections.values() if c.user_id == person.user_id]):
                await asyncio.sleep(0)
        conns[0].opened_at -= 11
        assert await wire.ends() == 4408
