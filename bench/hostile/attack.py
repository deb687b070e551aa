"""A socket that attacks, and the judge of what comes back: whatever was sent, each answer is one of the contract's."""

import asyncio
import base64
import os
import random
import time
from collections import Counter, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast, get_args
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from bench.demo.stage import Person
from bench.fleet import unframed
from bench.hostile.mutate import WIRE, Mutator, frame
from protocol.codec import Refused, decode_server, encode, wire_time
from protocol.errors import CloseCode, ErrorCode
from protocol.frames import SUBPROTOCOL, ErrorFrame, Event, Hello, Online, Reply, ServerFrame, Welcome

RATE, BURST = 9.0, 17.0
"""Below the server's 10 a second and 20 at once: what is sent is parsed, and not dropped unread."""
WELCOME_WITHIN_S: Final = 20.0
CLOSED_WITHIN_S: Final = 5.0
WIRE_SHARE: Final = 0.012
LIFE: Final = 400
"""Frames of one socket, if the server lets it live so long."""
ALLOWED_CLOSES: Final = frozenset({int(code) for code in CloseCode} | {1000, 1002, 1003, 1007})
"""The contract's, and those that RFC 6455 §7.4.1 gives a server for what is no WebSocket."""
REFUSED_WITH: Final = frozenset({401, 403, 426, 429, 503, 400})
CODES: Final = frozenset(map(str, ErrorCode)) - {ErrorCode.INTERNAL_ERROR, ErrorCode.UNKNOWN_ERROR}
KINDS: Final = get_args(ServerFrame)
SAMPLES_MAX: Final = 20


class Verdicts:
    """What all attackers together have sent and were answered."""

    def __init__(self) -> None:
        self.mutants: Counter[str] = Counter()
        self.text_sent = 0
        self.wire_sent = 0
        self.valid_sent = 0
        """Text frames that were not mutants: greetings and what leads to a state worth attacking."""
        self.answers: Counter[str] = Counter()
        self.closes: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.sockets = 0
        self.cut = 0
        """Lines lost without a close frame after their framing had been broken: the peer need not read on."""
        self.stuck = 0
        """Lines that were neither closed nor welcomed in time."""
        self.violations: list[str] = []
        self.violation_count = 0

    def violation(self, what: str) -> None:
        """An answer that the contract does not know."""
        self.violation_count += 1
        if len(self.violations) < SAMPLES_MAX:
            self.violations.append(what[:400])


class Line(asyncio.Protocol):
    """One socket of an attacker."""

    def __init__(self, url: str, person: Person, verdicts: Verdicts) -> None:
        self.person = person
        self.welcomed = asyncio.Event()
        self.ended = asyncio.Event()
        self.epoch = ""
        self.offers: deque[dict[str, Any]] = deque(maxlen=3)
        self.broken = False
        """The framing was attacked: what the server makes of the rest is its own business."""
        self.leaving = False
        self._verdicts = verdicts
        self._host = urlsplit(url).netloc
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._upgraded = False
        self._closed = False
        self._last = deque[str](maxlen=6)
        self.status: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /v1/socket HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
            f"Authorization: Bearer {self.person.token}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()
        self.welcomed.set()
        if self._upgraded and not self._closed and not self.leaving:
            if self.broken:
                self._verdicts.cut += 1
            else:
                self._verdicts.violation(f"line cut without a close frame after {list(self._last)}: {exc!r}")

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._upgraded:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self.status = int(head.split(b" ", 2)[1])
            if self.status != 101:
                self._refused(head, self.status)
                return
            if b"sec-websocket-extensions" in head.lower():
                self._verdicts.violation("the server took an extension")
            self._upgraded = True
            self._verdicts.sockets += 1
        frames, self._rest = unframed(data)
        for opcode, payload in frames:
            self._answer(opcode, payload)

    def _refused(self, head: bytes, status: int) -> None:
        self._verdicts.refused[status] += 1
        if status not in REFUSED_WITH:
            self._verdicts.violation(f"handshake answered {status}: {head[:200]!r}")
        if status in (429, 503) and b"\r\nretry-after: " not in head.lower():
            self._verdicts.violation(f"{status} without Retry-After")
        self.leave()

    def _answer(self, opcode: int, payload: bytes) -> None:
        if opcode == 0x1:
            self._text(payload)
        elif opcode == 0x8:
            self._closed = True
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
            self._verdicts.closes[code] += 1
            if code not in ALLOWED_CLOSES:
                self._verdicts.violation(f"closed with {code} after {list(self._last)}")
            self.write(frame(0x8, payload[:2]))
        elif opcode == 0x9:
            self.write(frame(0xA, payload))
        elif opcode != 0xA:
            self._verdicts.violation(f"the server sent opcode {opcode}")

    def _text(self, payload: bytes) -> None:
        try:
            told = decode_server(payload)
        except Refused as refused:
            self._verdicts.violation(f"no frame of the contract ({refused}): {payload[:200]!r}")
            return
        assert isinstance(told, KINDS)
        kind = type(told).__name__
        match told:
            case Reply(ok=False, error=error) | ErrorFrame(error=error):
                code = "nothing" if error is None else error.code
                self._verdicts.answers[f"{kind} {code}"] += 1
                if code not in CODES:
                    self._verdicts.violation(f"answered {payload[:300]!r} to {list(self._last)}")
                return
            case Welcome(epoch=epoch):
                self.epoch = epoch
                self.welcomed.set()
            case Event(name="offer.created", data=offer):
                self.offers.append(offer)
            case _:
                pass
        self._verdicts.answers[kind] += 1

    # --- out

    def write(self, data: bytes) -> None:
        """To the server, if there is a line."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def note(self, name: str) -> None:
        """Remember what was sent last, for the words of a violation."""
        self._last.append(name)

    @property
    def writable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def leave(self) -> None:
        """Cut it from our side."""
        self.leaving = True
        if self._transport is not None:
            self._transport.abort()


def _same(line: Line) -> Line:
    return line


class Attacker:
    """One person who attacks until told to stop. He comes back whenever he is thrown out."""

    def __init__(
        self, url: str, person: Person, place: tuple[float, float], mutator: Mutator, dice: random.Random,
        verdicts: Verdicts, jobs: deque[str], *, provider: bool,
    ) -> None:  # fmt: skip
        self._url, self._person, self._place = url, person, place
        self._mutator, self._dice, self._verdicts = mutator, dice, verdicts
        self._jobs = jobs
        self._provider = provider
        self._attempt = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Attack; returns soon after `stop` is set."""
        address = urlsplit(self._url)
        host, port = address.hostname or "", address.port or 80
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            line = Line(self._url, self._person, self._verdicts)
            try:
                async with asyncio.timeout(WELCOME_WITHIN_S):
                    await loop.create_connection(partial(_same, line), host, port)
                    await self._greet(line)
            except TimeoutError:
                self._verdicts.stuck += 1
                line.leave()
                continue
            except OSError:
                await asyncio.sleep(self._dice.uniform(0.2, 1.0))
                continue
            if line.ended.is_set():
                await asyncio.sleep(self._dice.uniform(0.3, 1.5))
                continue
            try:
                await self._attack(line, stop)
            finally:
                line.leave()

    async def _greet(self, line: Line) -> None:
        self._attempt += 1
        if self._dice.random() < 0.1:
            # Whatever is said before a good hello is not done, and costs nobody his socket.
            self._text(line, self._mutator.text(self._living(line)).data, "before hello")
        self._valid(line, encode(Hello(device=f"hostile-{self._person.user_id}", attempt=self._attempt)))
        await line.welcomed.wait()
        if self._provider and not line.ended.is_set() and self._dice.random() < 0.7:
            self._valid(line, encode(Online(id=uuid4(), lat=self._place[0], lng=self._place[1])))

    def _valid(self, line: Line, payload: bytes) -> None:
        self._verdicts.valid_sent += 1
        line.write(frame(0x1, payload))

    def _text(self, line: Line, payload: bytes, name: str) -> None:
        self._verdicts.mutants[name] += 1
        self._verdicts.text_sent += 1
        line.note(f"{name}: {payload[:120]!r}")
        try:
            payload.decode()
        except UnicodeDecodeError:
            line.broken = True  # RFC 6455 §8.1: the server fails the connection
        line.write(frame(0x1, payload))

    def _living(self, line: Line) -> dict[str, Any]:
        """Ids of things that exist: his own offer, or somebody's job."""
        living: dict[str, Any] = {
            "device": "hostile",
            "epoch": line.epoch,
            "token": self._person.token,
            "at": wire_time(datetime.now(UTC)),
        }
        if line.offers and self._dice.random() < 0.8:
            offer = self._dice.choice(line.offers)
            living |= {"offer_id": offer["offer_id"], "job_id": offer["job"]["id"]}
        elif self._jobs:
            living |= {"job_id": self._dice.choice(self._jobs), "offer_id": str(uuid4())}
        return living

    async def _attack(self, line: Line, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        tokens, at = BURST - 2.0, loop.time()
        for _ in range(LIFE):
            now = loop.time()
            tokens, at = min(BURST, tokens + (now - at) * RATE), now
            if tokens < 1.0:
                await asyncio.sleep((1.0 - tokens) / RATE + self._dice.random() / RATE)
                tokens, at = min(BURST, tokens + (loop.time() - at) * RATE), loop.time()
            tokens -= 1.0
            if stop.is_set() or not line.writable:
                return
            if self._dice.random() < WIRE_SHARE:
                await self._break(line)
                return
            mutant = self._mutator.text(self._living(line))
            self._text(line, mutant.data, mutant.name)

    async def _break(self, line: Line) -> None:
        mutant = self._mutator.wire(self._living(line))
        self._verdicts.mutants[mutant.name] += 1
        self._verdicts.wire_sent += 1
        line.broken = True
        line.note(mutant.name)
        line.write(mutant.data)
        # Some leave the server waiting for the rest of a frame: then we go, in mid-frame.
        try:
            async with asyncio.timeout(self._dice.choice((0.05, CLOSED_WITHIN_S if mutant.name in CLOSING else 0.3))):
                await line.ended.wait()
        except TimeoutError:
            pass


CLOSING: Final = frozenset(WIRE) & {
    *("reserved bit", "reserved data opcode", "reserved control opcode", "length of 2^63", "length over the bound"),
    *("continuation of nothing", "fragmented control", "long control", "close of one byte", "close with a bad code"),
    *("close with a bad reason", "binary", "deflated", "fragments of no letter", "close"),
}


class Crowd:
    """All attackers. Their people and places are cut from the same dice."""

    def __init__(
        self, url: str, providers: Iterable[tuple[Person, tuple[float, float]]], customers: Iterable[Person],
        corpus: list[dict[str, Any]], *, seed: int,
    ) -> None:  # fmt: skip
        self.verdicts = Verdicts()
        self.jobs: deque[str] = deque(maxlen=200)
        """Jobs that live, or lived a moment ago."""
        self._stop = asyncio.Event()
        people = [(person, place, True) for person, place in providers]
        people += [(person, (0.0, 0.0), False) for person in customers]
        self._attackers = []
        for number, (person, place, provider) in enumerate(people):
            dice = random.Random(f"{seed}:{number}")
            self._attackers.append(
                Attacker(url, person, place, Mutator(corpus, dice), dice, self.verdicts, self.jobs, provider=provider)
            )
        self._tasks: list[asyncio.Task[None]] = []
        self.began = 0.0

    def start(self) -> None:
        """Let them loose."""
        self.began = time.monotonic()
        self._tasks = [asyncio.create_task(attacker.run(self._stop)) for attacker in self._attackers]

    def check(self) -> None:
        """Raises what an attacker died of: a bug of ours, not of the server."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop(self) -> None:
        """Call them back."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, BaseException) and not isinstance(ended, asyncio.CancelledError):
                raise ended

    def figures(self) -> dict[str, Any]:
        """Counts, with plain types."""
        verdicts = self.verdicts
        return {
            "text_mutants_sent": verdicts.text_sent,
            "wire_mutants_sent": verdicts.wire_sent,
            "valid_frames_sent": verdicts.valid_sent,
            "mutants": dict(sorted(verdicts.mutants.items())),
            "sockets": verdicts.sockets,
            "handshakes_refused": {str(code): count for code, count in sorted(verdicts.refused.items())},
            "closes": {str(code): count for code, count in sorted(verdicts.closes.items())},
            "cut_after_broken_framing": verdicts.cut,
            "never_welcomed": verdicts.stuck,
            "answers": dict(sorted(verdicts.answers.items())),
            "answers_not_of_the_contract": verdicts.violation_count,
            "violations": orjson.loads(orjson.dumps(verdicts.violations)),
        }
