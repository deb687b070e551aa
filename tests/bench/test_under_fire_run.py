"""Attackers and storms once, small, against the real server. What must hold at any speed is judged; figures of time are not."""

import asyncio
import json
import math
import random
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest

import bench.storms.trade
from bench.demo.stage import Person
from bench.fleet import Phone
from bench.hostile import judge
from bench.hostile.command import code_of_run, memory_figures
from bench.hostile.corpus import distinct, filled, load, placeheld
from bench.hostile.judge import Memory
from bench.hostile.mutate import WIRE, Mutator, frame, masked
from bench.hostile.record import Frames
from bench.logs import judged_log, wrong_line
from bench.server import Target
from bench.storms.trade import Pair, Trade
from bench.storms.weather import rides
from protocol.client import Client
from protocol.codec import decode_client
from protocol.errors import Denied, ErrorCode, Refused
from protocol.frames import FRAME_BYTES_MAX, ClientFrame, Event
from tests.support.scenario import run

ROOT = Path(__file__).parents[2]
LIVING = {
    "id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1", "job_id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c2", "offer_id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c3",
    "token": "t", "epoch": "e", "device": "d", "at": "2026-11-20T10:36:00.123Z",
}  # fmt: skip


def test_the_corpus_has_every_frame_and_each_of_them_is_right() -> None:
    corpus = load()
    assert {document["type"] for document in corpus} == {kind.__struct_config__.tag for kind in get_args(ClientFrame)}
    for document in corpus:
        decode_client(json.dumps(filled(document, LIVING)))
    assert len(distinct([json.dumps(document).encode() for document in corpus])) == len(corpus)
    assert placeheld({"id": 1, "points": [{"at": 2, "lat": 3}]}) == {"id": "{id}", "points": [{"at": "{at}", "lat": 3}]}


def test_mutants_are_the_same_for_the_same_seed_and_most_of_them_are_wrong() -> None:
    one, two = (Mutator(load(), random.Random(5)) for _ in range(2))
    wrong = 0
    for _ in range(3_000):
        mutant = one.text(LIVING)
        assert mutant == two.text(LIVING) and len(mutant.data) <= FRAME_BYTES_MAX
        try:
            decode_client(mutant.data)
        except Refused:
            wrong += 1
    assert 1_500 < wrong < 3_000, "some stay right: what they ask for is then judged"
    assert {one.wire(LIVING).name for _ in range(1_000)} == set(WIRE)


def test_a_tap_reads_what_a_client_sends() -> None:
    kept: list[bytes] = []
    tap = Frames(kept)
    long = b"x" * 70_000
    stream = b"GET /v1/socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + b"".join(
        frame(op, data, mask=b"abcd") for op, data in ((1, b"one"), (9, b"ping"), (1, b"y" * 300), (1, long))
    )
    for at in range(0, len(stream), 1_000):
        tap.feed(stream[at : at + 1_000])
    assert kept == [b"one", b"y" * 300, long]
    assert masked(masked(b"hello", b"abcd"), b"abcd") == b"hello"


@pytest.mark.parametrize(
    "line",
    [
        '{"level":"error","event":"request failed"}',
        '{"level":"warning","event":"x","exception":"Traceback"}',
        "Traceback (most recent call last):",
        '{"level":"critical","event":"frame for another user stopped"}',
        '{"level":"warning","logger":"py.warnings","event":"RuntimeWarning: coroutine was never awaited"}',
    ],
)
def test_a_bad_line_of_the_log_is_seen(line: str) -> None:
    assert judged_log('{"level":"warning","event":"fine"}\n' + line)["unhandled"] == 1


def test_a_bad_line_is_named_by_what_it_ended_in() -> None:
    exception = "Traceback\n  File x\nKeyError: 1\n\nDuring handling\n\nTraceback\na.b.Gone: it is\nDETAIL:  more"
    line = wrong_line(json.dumps({"level": "error", "event": "x", "exception": exception}))
    assert line is not None and (line.text, line.error, line.said) == ("error: x: Gone: it is", "Gone", "it is")


def grown(seconds: int, warm_at: int, by: float) -> Memory:
    """Looks every two seconds: memory grows by a third until `warm_at`, and by this share in all after it."""
    memory = Memory([])
    for at in range(2, seconds + 1, 2):
        kib = (
            75_000 + 25_000 * at // warm_at
            if at < warm_at
            else 100_000 * (1 + by * (at - warm_at) / (seconds - warm_at))
        )
        memory.series.append((float(at), int(kib)))
    return memory


def test_memory_that_grows_under_attack_fails_the_run() -> None:
    figures = {
        "unhandled": 0, "answers_not_of_the_contract": 0, "workers_alive": True, "never_welcomed": 0,
        "bystander": {"failed": 0, "rides": 3, "sockets_needed": 1},
    }  # fmt: skip
    assert code_of_run(figures | memory_figures(grown(600, 40, 0.03))) == 0
    assert code_of_run(figures | memory_figures(grown(600, 40, 0.2))) == 1
    assert memory_figures(grown(130, 40, 0.0))["rss_drift"] == 0, "its first fifth is not warm yet, its first minute is"
    short = memory_figures(grown(100, 40, 0.2))
    assert short["rss_drift"] is None and code_of_run(figures | short) == 0


def test_a_phone_that_does_not_come_back_has_not_resumed() -> None:
    phone = Phone("http://127.0.0.1:1", Person("somebody", "token"), 0.0, 0.0)
    phone.resumed = True
    phone.close()
    assert not phone.resumed


async def test_a_line_that_was_lost_is_not_resumed_until_the_next_welcome() -> None:
    async with asyncio.timeout(10):
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as deaf:
            port = deaf.sockets[0].getsockname()[1]
            phone = Phone(f"http://127.0.0.1:{port}", Person("somebody", "token"), 0.0, 0.0)
            phone.resumed = True
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            with pytest.raises(ConnectionError):
                await phone.come_back_by(sock)
    assert not phone.resumed


class Orders:
    """The customer's half: an order is an offer to the driver at once, until the stores refuse."""

    def __init__(self, pair: Pair, orders: int) -> None:
        self.pair, self.left = pair, orders

    async def create_job(self, *_: object) -> dict[str, Any]:
        if not self.left:
            raise Denied(ErrorCode.OVERLOADED, "no room")
        self.left -= 1
        job = {"id": str(uuid4())}
        data = {"job": job, "offer_id": str(uuid4()), "round": 1}
        self.pair.told(self.pair.driver.user_id, cast(Event, SimpleNamespace(seq=1, name="offer.created", data=data)))
        return job


class Driver:
    """His phone: the accept is answered when the test says so."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    def locate(self, *_: object) -> None:
        pass

    async def accept(self, *_: object) -> None:
        self.asked.set()
        await self.answer.wait()

    async def advance(self, *_: object) -> None:
        pass


class Paired(Pair):
    async def join(self, stack: AsyncExitStack) -> None:
        pass


def paired(monkeypatch: pytest.MonkeyPatch, orders: int) -> tuple[Pair, Driver]:
    running = cast(Target, SimpleNamespace(url="http://127.0.0.1:1", http=None))
    pair, driver = Paired(running, Person("driver", "d"), Person("rider", "r"), (0.0, 0.0)), Driver()
    pair.clients = [cast(Client, driver)]
    monkeypatch.setattr(bench.storms.trade, "Http", lambda *_, **__: Orders(pair, orders))
    monkeypatch.setattr(bench.storms.trade, "EVERY_S", 0.01)
    return pair, driver


async def test_an_accept_that_still_waits_counts_as_long_as_it_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, driver = paired(monkeypatch, orders=1)
    async with asyncio.timeout(10), Trade([pair]) as trade:
        began = time.monotonic()
        await driver.asked.wait()
        asked = time.monotonic()
        assert not pair.accepts
        (waited,) = trade.accept_ms(began, asked)
        assert 0 <= waited <= (time.monotonic() - began) * 1e3
        assert trade.accept_ms(began, asked)[0] > waited, "it waits on"
        assert trade.accept_ms(asked, asked + 1) == [], "it was asked before"
        driver.answer.set()
        await trade.finish()
        assert len(trade.accept_ms(began, asked)) == 1 and pair.accepts, "once, with its answer"


async def test_a_pair_that_died_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = paired(monkeypatch, orders=0)
    async with asyncio.timeout(10):
        async with Trade([pair]) as trade:
            while not trade.failed():
                await asyncio.sleep(0)
            await trade.finish()
            (failure,) = trade.failed()
            assert "no room" in failure
        assert trade.failed() == [failure]


async def test_rides_come_due_while_the_server_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for an answer before he asks again would give such a moment one sample."""
    pair, driver = paired(monkeypatch, orders=1)
    async with asyncio.timeout(10), Trade([pair]) as trade:
        await driver.asked.wait()
        began = pair.first
        while time.monotonic() < began + 0.05:
            await asyncio.sleep(0.01)
        waiting = trade.ride_ms(began, began + 0.045)
        assert len(waiting) == 5 and waiting == sorted(waiting, reverse=True)
        assert waiting[0] >= 50 > waiting[0] - waiting[-1] >= 39, "each from when it was due"
        driver.answer.set()
        await trade.finish()
        yes_ms, *never = trade.ride_ms(began, began + 0.045)
        assert yes_ms >= 50 and never == [math.inf] * 4, "it was told to stop before these had their turn"
        assert trade.ride_ms(began + 0.005, began + 0.045) == never, "due in that time"
        assert len(trade.accept_ms(began, time.monotonic())) == 1


async def test_a_ride_that_nobody_was_offered_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = paired(monkeypatch, orders=0)
    unheard = SimpleNamespace(create_job=Taken().create_job, cancel=AsyncMock())
    monkeypatch.setattr(bench.storms.trade, "Http", lambda *_, **__: unheard)
    monkeypatch.setattr(bench.storms.trade, "OFFERED_WITHIN_S", 0.0)
    async with asyncio.timeout(10), Trade([pair]) as trade:
        while pair.not_offered < 2:
            await asyncio.sleep(0)
        await trade.finish()
    first = trade.ride_ms(pair.first, pair.first + 0.015)
    assert first == [math.inf] * 2 and unheard.cancel.await_count == pair.not_offered
    found = rides([5.0, *first])
    assert (found["rides_due"], found["rides_without_yes"], found["ride_ms_p99"]) == (3, 2, None)


async def test_rides_of_a_pair_that_died_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = paired(monkeypatch, orders=0)
    async with asyncio.timeout(10), Trade([pair]) as trade:
        while not trade.failed() or time.monotonic() < pair.first + 0.02:
            await asyncio.sleep(0.001)
        assert trade.ride_ms(pair.first, pair.first + 0.015) == [math.inf] * 2


async def test_a_pair_that_was_called_off_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, driver = paired(monkeypatch, orders=1)
    async with asyncio.timeout(10):
        async with Trade([pair]) as trade:
            await driver.asked.wait()
        assert trade.failed() == []


def test_twenty_thousand_broken_frames_harm_nobody(tmp_path: Path) -> None:
    found = run(tmp_path, "hostile", "--frames", "20000", "--sockets", "200", "--seed", "11")
    assert found["frames_reached"] >= 20_000
    assert (found["unhandled"], found["answers_not_of_the_contract"], found["bystander"]["failed"]) == (0, 0, 0)
    assert found["workers_alive"] and found["bystander"]["rides"] > 0
    assert len(found["mutants"]) > 40


def test_two_hundred_return_and_twenty_do_not_read(tmp_path: Path) -> None:
    options = (
        "--sockets",
        "200",
        "--pairs",
        "4",
        "--workers",
        "2",
        "--calm",
        "2",
        "--rounds",
        "1",
        "--only",
        "returning",
        "--only",
        "not_reading",
    )
    found = run(tmp_path, "storms", *options)
    storm, deaf = found["returning"], found["not_reading"]
    assert (storm["returned"], storm["resumed"]) == (200, 200)
    assert (deaf["gone"], deaf["not_reading"]) == (20, 20) and 0 < deaf["waiting_kib_max"] <= 256
    assert storm["accepts"] > 0 and storm["loop_lag_ms_max"] > 0
    assert storm["ride_ms_before_p50"] > 0 and storm["rides_without_yes"] <= storm["rides_due"]


def test_replacing_the_workers_loses_no_accept_and_no_event(tmp_path: Path) -> None:
    found = run(tmp_path, "storms", "--pairs", "4", "--workers", "2", "--only", "restarting")["restarting"]
    assert (found["failed"], found["events_lost"], found["events_out_of_order"], found["replaced"]) == (0, 0, 0, 2)
    assert found["accepts"] > 5 and found["welcomes"] > 8, "sockets moved"
    assert found["rides_due"] > found["accepts"] / 2 and found["ride_ms_p50"] > found["accept_ms_p50"] / 2


class Taken:
    """A server at which somebody else takes every job, and drives it to its end."""

    async def create_job(self, *_: Any) -> dict[str, Any]:
        return {"id": str(uuid4())}

    async def cancel(self, _: UUID) -> None:
        raise Denied(self.refuses, "")

    refuses = "INVALID_STATUS_TRANSITION"


async def test_whose_job_was_taken_is_harmed_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "OFFERED_WITHIN_S", 0.0)
    nobody: Any = None
    bystander = judge.Bystander("", nobody, nobody, (13.7, 100.5))
    bystander._http = taken = cast("Any", Taken())
    await bystander._one_ride()
    assert (bystander.rides, bystander.rides_not_offered, bystander.failed) == (0, 1, [])
    taken.refuses = "INTERNAL_ERROR"
    with pytest.raises(Denied):
        await bystander._one_ride()
