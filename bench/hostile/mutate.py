"""Recorded frames, broken: in their JSON, in their bytes, in their WebSocket framing. Pure: the dice decide everything.

`text` breaks what a text frame carries; the socket below it stays whole. `wire` breaks the framing itself. Each tells
the name of what it did, for the counts.
"""

import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from bench.hostile.corpus import filled
from protocol.frames import FRAME_BYTES_MAX

DEEPEST = 60
LONGEST = 6_000
ITEMS_MAX = 200
BYTES_SHARE: Final = 0.06
"""Of the text mutants, those broken in their bytes: a socket is closed by its fifth undecodable frame within 10 s."""


class Raw(str):
    """JSON text that stands as it is, whether or not it is JSON."""


@dataclass(slots=True)
class Pairs:
    """An object that may hold a key twice."""

    items: list[tuple[str, Any]]


NASTY: Final = [
    *(["null", "true", "false", "0", "-0", "-1", "1", "-0.0", "1e999", "-1e999", "1e308", "5e-324", "1E400", "0.1e-400", "NaN", "Infinity", "-Infinity", "nan", "-NaN"]),
    *(["9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775808", "18446744073709551616", "01", "+1", ".5", "1.", "0x1F"]),
    *(["90.0000001", "-90.1", "180.1", "-180.1", "360.1", "41000000", "1e17"]),
    "1" * 400, "-" + "9" * 4_500, "0." + "0" * 400 + "1", "1" + "0" * 309,
    '""', '" "', '"null"', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udc00\\ud800"', '"\\uD83D\\uDE00"', '"\\x41"', '"\\u12"', '"\u202e\u200b\ufeff"',
    '"\U0001f697\U0001f697"', '"e\u0301\u0301\u0301"', '"' + "\u0e01" * 200 + '"', '"' + "x" * LONGEST + '"', '"' + "\\u0041" * 900 + '"',
    "[]", "{}", "[[]]", "[null]", '{"":0}', "[" * 9 + "]" * 9, '{"a":' * DEEPEST + "1" + "}" * DEEPEST, "[" * 4_000, "{" * 900,
    '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999Z"', '"2026-02-30T00:00:00Z"', '"2016-12-31T23:59:60Z"', '"2026-01-01T00:00:00"',
    '"2026-01-01T00:00:00+24:00"', '"0000-01-01T00:00:00Z"', '"2026-01-01"', '"1970-01-01T00:00:00-23:59"', '"now"', "1763650000", "1763650000000",
    '"00000000-0000-0000-0000-000000000000"', '"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"', '"{6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1}"',
    '"urn:uuid:6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1"', '"6f0dd2c81f864a3c9f2e3a36b6f3d0c1"', '"6f0dd2c8-1f86-4a3c-9f2e"', '"6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c\\u0661"',
    '"\' OR 1=1; DROP TABLE jobs;--"', '"../../../../etc/passwd"', '"${jndi:ldap://127.0.0.1/a}"', '"<script>alert(1)</script>"', '"%s%n{0}"', '"\\r\\nSet-Cookie: a=b"',
    '["ride"]', '["ride","ride","ride","ride","ride","ride"]', '"accepted"', '"completed"', '"arrived"', '"cancelled"',
]  # fmt: skip
"""Values that have broken somebody's parser, schema, column or arithmetic before; some are no JSON."""

EXTRAS: Final = ["status", "user_id", "provider_id", "customer_id", "balance_minor", "amount_minor", "role", "roles", "round", "is_online", "actor", "sub", "version", "__proto__", "constructor", "", "id ", "ID", "type "]  # fmt: skip
TAGS: Final = ["hello", "auth", "online", "offline", "location", "locations", "accept", "decline", "advance", "cancel", "track", "untrack", "ack", "welcome", "event", "reply", "snapshot", "bye", "error", "ping", "", "Hello", "hello\u0000", "accept "]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """What to send, and what was done to it."""

    name: str
    data: bytes


class Mutator:
    """All mutants of a corpus. The same for the same seed and the same living ids."""

    def __init__(self, corpus: Sequence[dict[str, Any]], dice: random.Random) -> None:
        self._corpus = corpus
        self._dice = dice
        self._shapes: list[Callable[[Pairs], str]] = [
            self._drop, self._double, self._rename, self._poison, self._poison, self._poison, self._swap, self._retag, self._add, self._wrap,
            self._deepen, self._shuffle, self._stretch, self._renumber, self._stranger, self._elsewhere,
        ]  # fmt: skip
        self._bytes: list[Callable[[bytes], tuple[str, bytes]]] = [
            self._flip, self._delete, self._insert, self._truncate, self._repeat, self._splice, self._no_utf8, self._controls, self._space, self._nothing,
        ]  # fmt: skip

    def _uuid(self) -> str:
        return str(UUID(int=self._dice.getrandbits(128), version=4))

    def frame(self, living: Mapping[str, Any]) -> dict[str, Any]:
        """A recorded frame with what lives in it; its `id` is new."""
        document: dict[str, Any] = filled(self._dice.choice(self._corpus), {"id": self._uuid(), **living})
        return document

    # --- text

    def text(self, living: Mapping[str, Any]) -> Mutant:
        """The payload of a text frame. About one in eight is no JSON any more, or no UTF-8."""
        document = _opened(self.frame(living))
        names = []
        for _ in range(1 if self._dice.random() < 0.6 else self._dice.randint(2, 4)):
            names.append(self._dice.choice(self._shapes)(document))
        data = _written(document).encode("utf-8", "surrogatepass")
        if self._dice.random() < BYTES_SHARE:
            data = _written(_opened(self.frame(living))).encode()
            name, data = self._dice.choice(self._bytes)(data)
            names = [name]
        return Mutant(names[0], data[:FRAME_BYTES_MAX])

    def _place(self, document: Pairs) -> tuple[list[tuple[str, Any]], int] | None:
        """Somewhere in the document: (the pairs of an object, the number of one of them)."""
        pairs, at = document.items, 0
        while pairs:
            at = self._dice.randrange(len(pairs))
            inner = pairs[at][1]
            if isinstance(inner, list) and inner and isinstance(inner[0], Pairs):
                inner = self._dice.choice(inner)
            if not isinstance(inner, Pairs) or self._dice.random() < 0.3:
                return pairs, at
            pairs = inner.items
        return None

    def _drop(self, document: Pairs) -> str:
        if place := self._place(document):
            del place[0][place[1]]
        return "field left out"

    def _double(self, document: Pairs) -> str:
        if place := self._place(document):
            pairs, at = place
            key, value = pairs[at]
            twin = value if self._dice.random() < 0.5 else Raw(self._dice.choice(NASTY))
            pairs.insert(self._dice.randint(0, len(pairs)), (key, twin))
        return "key twice"

    def _rename(self, document: Pairs) -> str:
        if place := self._place(document):
            pairs, at = place
            key, value = pairs[at]
            other = self._dice.choice(
                [
                    key.upper(),
                    key + " ",
                    "\ufeff" + key,
                    key + "\u0000",
                    key[:-1],
                    "x" * 3_000,
                    key.replace("i", "\u0456"),
                ]
            )
            pairs[at] = (other, value)
        return "field renamed"

    def _poison(self, document: Pairs) -> str:
        if place := self._place(document):
            pairs, at = place
            pairs[at] = (pairs[at][0], Raw(self._dice.choice(NASTY)))
        return "value replaced"

    def _swap(self, document: Pairs) -> str:
        one, two = self._place(document), self._place(document)
        if one and two and one[1] < len(one[0]) and two[1] < len(two[0]):
            (a_key, a), (b_key, b) = one[0][one[1]], two[0][two[1]]
            # Copies: one of the two may lie within the other.
            one[0][one[1]], two[0][two[1]] = (a_key, deepcopy(b)), (b_key, deepcopy(a))
        return "values exchanged"

    def _retag(self, document: Pairs) -> str:
        document.items[:] = [
            (key, self._dice.choice(TAGS) if key == "type" else value) for key, value in document.items
        ]
        return "other type"

    def _add(self, document: Pairs) -> str:
        for _ in range(self._dice.choice((1, 1, 3, 200))):
            extra = (self._dice.choice(EXTRAS), Raw(self._dice.choice(NASTY[:60])))
            document.items.insert(self._dice.randint(0, len(document.items)), extra)
        return "fields too many"

    def _wrap(self, document: Pairs) -> str:
        if place := self._place(document):
            pairs, at = place
            key, value = pairs[at]
            pairs[at] = (key, [value] if self._dice.random() < 0.5 else Pairs([(key, value)]))
        return "value wrapped"

    def _deepen(self, document: Pairs) -> str:
        depth = self._dice.choice((7, 8, 9, 30, 900, 3_000))
        opening, closing = self._dice.choice((("[", "]"), ('{"a":', "}")))
        depth = min(depth, LONGEST // len(opening))
        document.items.append((self._dice.choice(EXTRAS), Raw(opening * depth + "0" + closing * depth)))
        return "too deep"

    def _shuffle(self, document: Pairs) -> str:
        self._dice.shuffle(document.items)
        return "other order"

    def _stretch(self, document: Pairs) -> str:
        lists = [value for _, value in document.items if isinstance(value, list)]
        if lists:
            chosen = self._dice.choice(lists)
            chosen[:] = (chosen * self._dice.choice((0, 30, 31, 60, 90)))[:ITEMS_MAX]  # twice would be thousands
        else:
            document.items.append(("reason", "r" * self._dice.choice((500, 501, LONGEST))))
        return "stretched"

    def _renumber(self, document: Pairs) -> str:
        if place := self._place(document):
            pairs, at = place
            key, value = pairs[at]
            if isinstance(value, int | float):
                forms = [
                    f'"{value}"',
                    f"{value:.0f}.0",
                    f"{value}e0",
                    str(-value),
                    str(value * 1e6),
                    str(2**53 + 1),
                    "1e999",
                ]
                pairs[at] = (key, Raw(self._dice.choice(forms)))
        return "other number"

    def _stranger(self, document: Pairs) -> str:
        document.items[:] = [
            (key, self._uuid() if key in ("job_id", "offer_id") else value) for key, value in document.items
        ]
        return "ids of nobody"

    def _elsewhere(self, document: Pairs) -> str:
        place = (self._dice.uniform(-90, 90), self._dice.uniform(-180, 180))
        document.items[:] = [
            (key, place[key == "lng"] if key in ("lat", "lng") else value) for key, value in document.items
        ]
        return "elsewhere"

    # --- bytes

    def _flip(self, data: bytes) -> tuple[str, bytes]:
        found = bytearray(data)
        for _ in range(self._dice.choice((1, 1, 2, 8))):
            found[self._dice.randrange(len(found))] ^= 1 << self._dice.randrange(8)
        return "bits flipped", bytes(found)

    def _delete(self, data: bytes) -> tuple[str, bytes]:
        at = self._dice.randrange(len(data))
        return "bytes deleted", data[:at] + data[at + self._dice.randint(1, 8) :]

    def _insert(self, data: bytes) -> tuple[str, bytes]:
        at = self._dice.randrange(len(data))
        return "bytes inserted", data[:at] + self._dice.randbytes(self._dice.randint(1, 8)) + data[at:]

    def _truncate(self, data: bytes) -> tuple[str, bytes]:
        return "cut short", data[: self._dice.randrange(len(data))]

    def _repeat(self, data: bytes) -> tuple[str, bytes]:
        return "repeated", data * self._dice.randint(2, 20)

    def _splice(self, data: bytes) -> tuple[str, bytes]:
        other = _written(_opened(self._dice.choice(self._corpus))).encode()
        return "two in one", data[: self._dice.randrange(len(data))] + other[self._dice.randrange(len(other)) :]

    def _no_utf8(self, data: bytes) -> tuple[str, bytes]:
        at = self._dice.randrange(len(data))
        bad = self._dice.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"))
        return "no UTF-8", data[:at] + bad + data[at:]

    def _controls(self, data: bytes) -> tuple[str, bytes]:
        at = self._dice.randrange(len(data))
        return "control characters", data[:at] + self._dice.choice((b"\0", b"\x1b[2J", b"\r\n\r\n", b"\x7f")) + data[
            at:
        ]

    def _space(self, data: bytes) -> tuple[str, bytes]:
        return "white space", self._dice.choice((b"\xef\xbb\xbf", b" " * 5_000, b"\n\t", b"")) + data + b" \n"

    def _nothing(self, data: bytes) -> tuple[str, bytes]:
        return "nothing", self._dice.choice((b"", b" ", b"null", b"0", b'""', b"[]", b"{}", data[:1]))

    # --- wire

    def wire(self, living: Mapping[str, Any]) -> Mutant:
        """Bytes below the text frame: what RFC 6455 forbids, what it allows and nobody does, and what only looks broken."""
        payload = _written(_opened(self.frame(living))).encode()
        name = self._dice.choice(list(WIRE))
        return Mutant(name, WIRE[name](self._dice, payload))


def _opened(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs([(key, _opened(inner)) for key, inner in value.items()])
    if isinstance(value, list):
        return [_opened(inner) for inner in value]
    return value


def _written(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(inner)}" for key, inner in value.items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# --- framing


def masked(payload: bytes, mask: bytes) -> bytes:
    """The payload under a mask of 4 bytes, or taken from under it."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\0\0\0\0", form: int = 0, says: int | None = None
) -> bytes:  # fmt: skip
    """A client frame as told, right or not. `form`: 0 the shortest length field, else 126 or 127; `says`: a length that
    it claims; `mask` None: not masked.
    """
    size = len(payload) if says is None else says
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0 if mask is None else 0x80
    if form == 127 or size > 0xFFFF:
        head = struct.pack("!BBQ", first, bit | 127, size)
    elif form == 126 or size > 125:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = bytes((first, bit | size))
    return head + (payload if mask is None else mask + masked(payload, mask))


def _halves(dice: random.Random, payload: bytes) -> tuple[bytes, bytes]:
    at = dice.randrange(len(payload) + 1)
    return payload[:at], payload[at:]


def _fragments(dice: random.Random, payload: bytes, between: bytes = b"") -> bytes:
    one, two = _halves(dice, payload)
    return frame(1, one, fin=False) + between + frame(0, two)


WIRE: Final[Mapping[str, Callable[[random.Random, bytes], bytes]]] = {
    "reserved bit": lambda dice, data: frame(1, data, rsv=dice.randint(1, 7)),
    "reserved data opcode": lambda dice, data: frame(dice.randint(3, 7), data),
    "reserved control opcode": lambda dice, data: frame(dice.randint(11, 15), data[:100]),
    "not masked": lambda dice, data: frame(1, data, mask=None),
    "masked at random": lambda dice, data: frame(1, data, mask=dice.randbytes(4)),
    "length in 16 bits": lambda dice, data: frame(1, data[:100], form=126),
    "length in 64 bits": lambda dice, data: frame(1, data, form=127),
    "length of 2^63": lambda dice, data: frame(1, data, form=127, says=dice.choice((2**63, 2**64 - 1, 2**62))),
    "length over the bound": lambda dice, data: frame(1, b"x" * (FRAME_BYTES_MAX + 1)),
    "length that lies": lambda dice, data: frame(1, data, says=len(data) + dice.choice((1, 7, 100))) + frame(1, data),
    "length too short": lambda dice, data: frame(1, data, says=max(0, len(data) - dice.randint(1, 9))),
    "fragments": lambda dice, data: _fragments(dice, data),
    "many fragments": lambda dice, data: (
        frame(1, b"", fin=False)
        + b"".join(frame(0, data[at : at + 1], fin=False) for at in range(min(300, len(data))))
        + frame(0, data[300:])
    ),
    "fragments with a ping between": lambda dice, data: _fragments(dice, data, frame(9, b"between")),
    "fragments with a message between": lambda dice, data: _fragments(dice, data, frame(1, data)),
    "fragments of a letter": lambda dice, data: frame(1, b'"\xe0\xb8', fin=False) + frame(0, b'\x81"'),
    "fragments of no letter": lambda dice, data: frame(1, b'"\xe0\xb8', fin=False) + frame(0, b'"'),
    "fragments without an end": lambda dice, data: frame(1, data, fin=False),
    "empty fragments": lambda dice, data: frame(1, b"", fin=False) + frame(0, b"", fin=False) * 40 + frame(0, data),
    "continuation of nothing": lambda dice, data: frame(0, data),
    "fragmented control": lambda dice, data: frame(dice.choice((8, 9, 10)), b"", fin=False),
    "long control": lambda dice, data: frame(dice.choice((8, 9, 10)), b"c" * dice.choice((126, 200, 70_000))),
    "ping": lambda dice, data: frame(9, data[: dice.randrange(126)]),
    "pings": lambda dice, data: frame(9, b"p" * 125) * 40,
    "pong unasked": lambda dice, data: frame(10, data[:20]),
    "close": lambda dice, data: frame(8, struct.pack("!H", dice.choice((1000, 1001, 3000, 4999))) + b"bye"),
    "close without a code": lambda dice, data: frame(8, b""),
    "close of one byte": lambda dice, data: frame(8, b"\x03"),
    "close with a bad code": lambda dice, data: frame(
        8, struct.pack("!H", dice.choice((0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)))
    ),
    "close with a bad reason": lambda dice, data: frame(8, struct.pack("!H", 1000) + b"\xff\xfe"),
    "binary": lambda dice, data: frame(2, data),
    "deflated": lambda dice, data: frame(1, b"\xaaV*\xa9,HU\xb2R\xcaH\xcd\xc9\xc9W\xaa\x05\x00", rsv=4),
    "HTTP again": lambda dice, data: b"GET /v1/me HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": lambda dice, data: dice.randbytes(dice.randint(1, 400)),
    "half a head": lambda dice, data: frame(1, data)[: dice.randint(1, 5)],
}
"""Name → bytes. Some are right: a server that closes on them is wrong too, and the well-behaved client would tell."""
