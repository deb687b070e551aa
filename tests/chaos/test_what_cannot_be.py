"""What a run must not swallow: frames that nobody understands, answers that nobody asked for, phones that never come back, and
excuses that the promises do not know.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from bench.chaos.blows import redis_stop
from bench.chaos.command import code_of_run
from bench.chaos.figures import measured, silences
from bench.chaos.nemesis import Marks
from bench.chaos.phones import Counts, Phone
from bench.chaos.plan import Planned
from bench.chaos.recorder import Recorder
from bench.chaos.run import at_the_end
from bench.chaos.stores import _alive, family
from bench.demo.stage import Person
from bench.faults.history import Fault, Final, History, Op, read
from protocol.frames import Cancel

S = 1_000_000_000


def frame(text: str) -> bytes:
    data = text.encode()
    return bytes((0x81, len(data))) + data if len(data) < 126 else b"\x81\x7e" + len(data).to_bytes(2, "big") + data


class Wire(asyncio.Transport):
    """A line that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: Any) -> None:
        """Gone."""

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    made = Phone(
        Person(str(uuid4()), "token"), "phone", [], Recorder(tmp_path), Counts(), random.Random(1), (0.0, 0.0),
        on_event=lambda phone, event: None, on_snapshot=lambda phone, snapshot: None,
    )  # fmt: skip
    made.connection_made(Wire())
    made.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    yield made


@pytest.mark.parametrize("text", ['{"type":"nonsense"}', "{", '{"type":"event","seq":"one"}'])
async def test_a_frame_that_nobody_understands_is_no_weather(phone: Phone, text: str) -> None:
    phone.data_received(frame(text))
    assert phone._counts.unexpected


async def test_a_line_that_breaks_the_phone_is_told(phone: Phone) -> None:
    """An exception in a protocol's callback would else close the line, and the next one repair everything."""
    phone._on_event = lambda *_: 1 // 0
    phone.session.live, phone.session.epoch = True, "e"
    phone.data_received(frame('{"type":"event","seq":1,"name":"x","data":{},"at":"2026-11-20T10:36:00.123Z"}'))
    assert any("ZeroDivisionError" in line for line in phone._counts.unexpected)


async def test_an_answer_that_it_never_asked_for_is_written_down(phone: Phone, tmp_path: Path) -> None:
    foreign = uuid4()
    phone.data_received(frame(f'{{"type":"reply","id":"{foreign}","ok":true,"data":{{}}}}'))
    phone._recorder.flush()
    (tmp_path / "final.json").write_bytes(b'{"at":0}')
    assert [(told.kind, told.name) for told in read(tmp_path).told] == [("stray", str(foreign))]


async def test_the_second_answer_to_a_request_is_no_stray_and_must_be_the_same(phone: Phone) -> None:
    request = Cancel(id=uuid4(), job_id=uuid4(), reason="x")
    phone.session.live, phone.live_at = True, 0.0
    asking = asyncio.ensure_future(phone.ask(request))
    await asyncio.sleep(0)
    one, other = (
        f'{{"type":"reply","id":"{request.id}","ok":true,"data":{{"job":{{"version":{n}}}}}}}' for n in (1, 2)
    )
    phone.data_received(frame(one))
    await asking
    phone.data_received(frame(one))
    assert not phone._recorder.told_count and not phone._counts.unexpected
    phone.data_received(frame(other))
    assert phone._counts.unexpected, "the same request, another answer"


async def test_a_bug_of_the_server_is_no_weather(phone: Phone) -> None:
    """INTERNAL_ERROR is what the server says of its own bugs; what a store cannot do just now is BUSY."""
    request = Cancel(id=uuid4(), job_id=uuid4(), reason="x")
    asking = asyncio.ensure_future(phone.ask(request))
    await asyncio.sleep(0)
    phone.data_received(
        frame(f'{{"type":"reply","id":"{request.id}","ok":false,"error":{{"code":"INTERNAL_ERROR","message":"?"}}}}')
    )
    assert any("INTERNAL_ERROR" in line for line in phone._counts.unexpected)
    asking.cancel()


async def test_a_phone_without_a_line_at_the_end_is_stuck(phone: Phone) -> None:
    assert at_the_end([phone]) == ({}, ["phone has no line"])
    phone.live_at = 1.0
    assert at_the_end([phone]) == ({"phone": 0}, [])


def test_a_worker_cut_off_from_redis_alone_is_excused_from_nothing() -> None:
    faults = [
        Fault(at=1, until=9, kind="link-blackhole", target="worker 1, redis", met=1),
        Fault(at=2, until=9, kind="link-blackhole", target="worker 1, postgres", met=1),
        Fault(at=3, until=9, kind="link-half-open", target="worker 2, redis, no replies", met=1),
        Fault(at=4, until=9, kind="worker-stop", target="worker 3", met=1),
    ]
    assert silences(History(faults=faults, final=Final(at=0))) == [(2, 9, "worker 1"), (4, 9, "worker 3")]


def _accept(at_s: float, done_s: float) -> Op:
    return Op(
        at=round(at_s * S),
        done=round(done_s * S),
        client="c",
        user="u",
        kind="accept",
        key=str(at_s),
        job="j",
        word="ok",
    )


def test_an_accept_that_outlasts_redis_death_counts() -> None:
    marks = Marks(redis_dead=[(100 * S, 104 * S)], outages=[(100 * S, 104 * S, "redis-kill")])
    found = measured(History(ops=[_accept(101, 101.1), _accept(102, 109)], final=Final(at=0)), marks, [])
    assert found["accept_ms_redis_dead"]["accept_max"] == 7_000


def test_a_service_that_never_came_back_is_not_left_out() -> None:
    """Orders went on, and nobody won a job any more."""
    ops = [
        _accept(90, 91),
        Op(at=160 * S, done=161 * S, client="c", user="u", kind="create", key="k", job="j2", word="ok"),
    ]
    found = measured(History(ops=ops, final=Final(at=0)), Marks(postgres_up=[100 * S, 158 * S]), [])
    assert found["never_served"] == 1, "the second time there was no time left for it"


@pytest.mark.parametrize(
    "name", ["violations", "unexpected", "not_done", "never_resumed", "never_served", "unknown_commits_unsettled"]
)
def test_what_breaks_a_run(name: str) -> None:
    fine = {
        "violations": 0,
        "unexpected": [],
        "not_done": [],
        "never_resumed": 0,
        "never_served": 0,
        "unknown_commits_unsettled": 0,
    }
    assert code_of_run(fine) == 0
    assert code_of_run(fine | {name: ["x"] if name in ("unexpected", "not_done") else 1}) == 1


HOGGING = """
import asyncio, random
from types import SimpleNamespace
from bench.chaos.blows import cpu_hog
nemesis = SimpleNamespace(cluster=SimpleNamespace(nodes=[]), calls_at=lambda node: 0)
asyncio.run(cpu_hog(nemesis, SimpleNamespace(length_s=60.0), random.Random(1)))
"""


async def test_hogs_end_with_whoever_started_them() -> None:
    """Also when that is killed and can clean up nothing: else both cores are theirs for ever."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOGGING, cwd=Path(__file__).parents[2])
    hogs: list[int] = []
    try:
        async with asyncio.timeout(20):
            while len(hogs := family(process.pid)[1:]) < 2:
                await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        async with asyncio.timeout(5):
            while any(_alive(pid) for pid in hogs):
                await asyncio.sleep(0.02)
    finally:
        for pid in (process.pid, *hogs):
            if _alive(pid):
                os.kill(pid, signal.SIGKILL)


async def test_who_gave_up_before_a_stopped_store_went_on_was_met_too() -> None:
    """A call to Redis gives up after half a second: at the end of the stop nobody may be waiting just then."""
    calls = iter([0, 3])

    def never() -> None:
        """It is no process."""

    hurry = SimpleNamespace(stop=never, go_on=never)
    nemesis = SimpleNamespace(
        lock=lambda _: asyncio.Lock(), cluster=SimpleNamespace(hurry=hurry), store_calls=lambda _: next(calls, 0)
    )
    assert await redis_stop(nemesis, Planned(0.0, "redis-stop", 0.2, 0), random.Random(1)) == ("redis", 3)  # type: ignore[arg-type]
