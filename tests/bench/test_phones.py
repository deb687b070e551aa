"""The phones of the load generator: their frames, their lines, and how they race."""

import asyncio
import itertools
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from bench.accepts import Race, Score
from bench.demo.stage import Person
from bench.fleet import Answered, Phone, framed, unframed
from bench.pace import Drive
from dispatch.kit.geo import distance_m
from protocol import codec
from protocol.frames import ErrorObject, Event, Online, Reply, Request
from tests.support.loops import stand_still

# --- frames


SIZES = st.integers(0, 300) | st.sampled_from([125, 126, 65_535, 65_536])
"""The length of a payload is written in one of three ways."""


@given(SIZES, st.sampled_from([Opcode.TEXT, Opcode.CLOSE, Opcode.PONG]))
def test_a_websocket_server_reads_our_frames(size: int, opcode: Opcode) -> None:
    payload = {Opcode.TEXT: b"a" * size, Opcode.CLOSE: b"\x03\xe8", Opcode.PONG: b"a" * min(size, 125)}[opcode]
    peer = Protocol(SERVER, max_size=None)
    peer.receive_data(framed(payload, opcode))
    (frame,) = peer.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (opcode, payload, True)


@given(st.lists(SIZES, max_size=4), st.data())
def test_we_read_a_websocket_servers_frames_however_they_are_cut(sizes: list[int], data: st.DataObject) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    sender = Protocol(SERVER)
    for payload in payloads:
        sender.send_binary(payload)
    stream = b"".join(sender.data_to_send())
    cut = data.draw(st.integers(0, len(stream)))
    first, rest = unframed(stream[:cut])
    second, rest = unframed(rest + stream[cut:])
    assert [payload for _, payload in first + second] == payloads
    assert rest == b""
    assert {opcode for opcode, _ in first + second} <= {0x2}


class Line(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False


def a_phone(name: str = "ann") -> tuple[Phone, Line]:
    phone, line = Phone("http://127.0.0.1:1", Person(name, "token"), 13.75, 100.5), Line()
    phone.connection_made(line)
    line.written.clear()
    return phone, line


def test_a_position_is_a_frame_of_the_contract_and_moves_like_a_person() -> None:
    phone, line = a_phone()
    places = []
    for second in range(40):
        phone.locate(f"2026-11-20T10:36:{second:02}.000Z".encode())
        peer = Protocol(SERVER)
        peer.receive_data(line.written[-1])
        (frame,) = peer.events_received()
        assert isinstance(frame, Frame)
        location: Any = codec.decode_client(bytes(frame.data))
        assert (location.lat, location.lng) == pytest.approx(phone.sent, abs=1e-6)
        places.append((location.lat, location.lng))
    assert len(set(places)) == 16
    assert all(distance_m(*a, *b) < 20 for a, b in itertools.pairwise(places))


def test_a_phone_that_is_refused_says_with_which_status() -> None:
    phone, line = a_phone()
    aborted: list[bool] = []
    line.abort = lambda: aborted.append(True)  # type: ignore[method-assign]
    phone.data_received(b"HTTP/1.1 503 Service")
    assert aborted == []
    phone.data_received(b" Unavailable\r\nRetry-After: 3\r\n\r\n")
    assert (phone.refused, aborted) == (503, [True])


def test_a_ping_is_answered() -> None:
    phone, line = a_phone()
    server_side = Protocol(SERVER)
    server_side.send_ping(b"are you there")
    phone.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + b"".join(server_side.data_to_send()))
    hello, pong = line.written
    reader = Protocol(SERVER)
    reader.receive_data(hello + pong)
    frames = [frame for frame in reader.events_received() if isinstance(frame, Frame)]
    assert [frame.opcode for frame in frames] == [Opcode.TEXT, Opcode.PONG]
    assert bytes(frames[1].data) == b"are you there"


class Cut(Line):
    """Closes when told to, as a transport does: it says so first, and is lost a moment later."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing


BUSY = ErrorObject(code="BUSY", message="", details={"retry_after_ms": 1})


async def test_who_asks_on_a_line_that_is_down_is_told_so_and_does_not_wait_for_ever() -> None:
    phone, line = Phone("http://127.0.0.1:1", Person("ann", "token"), 13.75, 100.5), Cut()
    frame = Online(id=UUID(int=1), lat=13.75, lng=100.5)
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionError):
            await phone.ask(frame)
        phone.connection_made(line)
        asking = asyncio.ensure_future(phone.ask(frame))
        await settle()
        phone._answer(Reply(id=frame.id, ok=False, error=BUSY), 1)
        # The line goes while he waits to ask again: nobody answers what is asked then.
        line.closing = True
        phone.connection_lost(None)
        with pytest.raises(ConnectionError):
            await asking


async def test_a_position_says_the_moment_that_was_its_also_when_it_is_sent_late() -> None:
    phone, line = a_phone()
    async with Drive([phone], 100.0):
        await asyncio.sleep(0)
        stand_still(0.1)
        async with asyncio.timeout(5):
            while len(line.written) < 8:
                await asyncio.sleep(0.001)
    stamps = []
    for data in line.written:
        peer = Protocol(SERVER)
        peer.receive_data(data)
        (frame,) = peer.events_received()
        assert isinstance(frame, Frame)
        location: Any = codec.decode_client(bytes(frame.data))
        stamps.append(location.at.timestamp())
    assert [round(b - a, 3) for a, b in itertools.pairwise(stamps)] == [0.01] * (len(stamps) - 1)


# --- the race


class Asked(Phone):
    """A phone whose server is the test."""

    def __init__(self, name: str) -> None:
        super().__init__("http://127.0.0.1:1", Person(name, "token"), 0, 0)
        self.provider_id = name
        self.asked: list[tuple[str, asyncio.Future[Answered]]] = []

    async def ask(self, frame: Request) -> Answered:
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.asked.append((str(getattr(frame, "job_id", "")), answer))
        return await answer


JOBS = [str(UUID(int=number)) for number in range(3)]
YES = Answered(Reply(id=UUID(int=9), ok=True, data={}), 0, 1)
NO = Answered(Reply(id=UUID(int=9), ok=False, error=ErrorObject(code="JOB_NOT_AVAILABLE", message="")), 0, 1)


def an_offer(race: Race, phone: Phone, job: str) -> None:
    data = {"offer_id": str(UUID(int=100 + JOBS.index(job))), "round": 1, "job": {"id": job}}
    at = codec.decode_server(codec.event(1, "offer.created", b"{}", "2026-11-20T10:36:00.000Z"))
    assert isinstance(at, Event)
    race.event(phone, Event(1, "offer.created", at.at, data), 0)


class Straight:
    """Chance that changes nothing."""

    def shuffle(self, _: list[Any]) -> None:
        pass


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("fingers", "at_once"), [(1, JOBS[:1]), (2, JOBS[:2]), (5, JOBS)])
async def test_nobody_accepts_before_the_start_and_then_with_all_his_fingers(fingers: int, at_once: list[str]) -> None:
    score = Score()
    race, phone = Race(fingers, score), Asked("ann")
    for job in JOBS:
        an_offer(race, phone, job)
    await settle()
    assert phone.asked == []
    chance: Any = Straight()
    race.start(chance)
    await settle()
    assert [job for job, _ in phone.asked] == at_once
    phone.asked[0][1].set_result(NO)
    await settle()
    assert len(phone.asked) == min(3, fingers + 1)
    assert score.answers == {"JOB_NOT_AVAILABLE": 1}
    assert not race.quiet
    for _ in JOBS:
        for _, answer in phone.asked:
            if not answer.done():
                answer.set_result(NO)
        await settle()
    assert race.quiet


async def test_two_phones_that_are_told_yes_are_a_double_assignment() -> None:
    score = Score()
    race = Race(1, score)
    phones = [Asked("ann"), Asked("bob")]
    for phone in phones:
        an_offer(race, phone, JOBS[0])
    chance: Any = Straight()
    race.start(chance)
    await settle()
    for phone in phones:
        phone.asked[0][1].set_result(YES)
        await settle()
    assert score.assignments.doubles() == 1
    assert len(score.winners_ms) == 2
