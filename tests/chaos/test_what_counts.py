"""A fault counts by what it did to a call or to state: done where nothing was, it met nobody."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio as aioredis

from bench.chaos import blows, clocks, links
from bench.chaos.blows import flushall, redis_empty, redis_split, redis_stale
from bench.chaos.clocks import clock_worker
from bench.chaos.nemesis import Marks
from bench.chaos.plan import Planned
from bench.chaos.stores import Hurry, redis_build
from bench.faults import lines
from bench.faults.proxy import Proxy

DICE = random.Random(1)


@pytest.fixture
async def hurry(tmp_path: Path) -> AsyncIterator[Hurry]:
    made = Hurry(tmp_path / "stores", tmp_path, redis_build(), lambda text: None)
    await made.start()
    yield made
    await made.leave()


def _planned(kind: str, length_s: float = 0.05) -> Planned:
    return Planned(0.0, kind, length_s, 0)


def _nemesis(hurry: Any, nodes: Any = (), *, folder: Path = Path()) -> Any:
    """Statements are always under way: what counted as met until it had to have met something."""

    async def aim(calls: Any) -> int:
        return int(calls())

    return SimpleNamespace(
        lock=lambda _: asyncio.Lock(),
        cluster=SimpleNamespace(hurry=hurry, nodes=nodes, folder=folder, say=lambda text: None),
        store_calls=lambda store: 3,
        refused=lambda store: 0,
        aim=aim,
        marks=Marks(),
        splits=0,
    )


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blows, "AIM_WITHIN_S", 0.2)


async def test_an_empty_redis_that_is_flushed_met_nobody(hurry: Hurry) -> None:
    assert (await flushall(_nemesis(hurry), _planned("flushall"), DICE))[1] == 0


async def test_a_key_that_comes_back_was_met(hurry: Hurry) -> None:
    client = hurry.client()
    await client.mset({"kept": 1, "gone": 1})
    flushing = asyncio.create_task(flushall(_nemesis(hurry), _planned("flushall"), DICE))
    while await client.dbsize():
        await asyncio.sleep(0.001)
    await client.mset({"kept": 2, "new": 1})
    assert (await flushing)[1] == 3 + 1
    await client.aclose()


@pytest.mark.parametrize("blow", [redis_empty, redis_stale])
async def test_a_failover_to_the_same_data_met_nobody(hurry: Hurry, blow: Any) -> None:
    assert (await blow(_nemesis(hurry), _planned("x"), DICE))[1] == 0


async def test_a_failover_that_loses_something_counts(hurry: Hurry) -> None:
    client = hurry.client()
    await client.set("a", 1)
    assert (await redis_empty(_nemesis(hurry), _planned("x"), DICE))[1] == 3
    assert not await client.dbsize()
    striking = asyncio.create_task(redis_stale(_nemesis(hurry), _planned("x", 0.3), DICE))
    while not (hurry.folder / "redis.copy").exists():
        await asyncio.sleep(0.001)
    await client.set("b", 1)
    assert (await striking)[1] == 3
    await client.aclose()


class Link:
    """A worker's link, which writes what it is told to whichever Redis is behind it."""

    def __init__(self, hurry: Hurry, writes: dict[str, int]) -> None:
        self._hurry = hurry
        self._writes = writes

    def turn_to(self, url: str) -> None:
        if url != self._hurry.url and self._writes:
            self._task = asyncio.create_task(self._write(url))

    async def _write(self, url: str) -> None:
        client = aioredis.Redis.from_url(url)
        await client.mset(self._writes)
        await client.aclose()


@pytest.mark.parametrize(("writes", "met"), [({}, 0), ({"same": 1}, 0), ({"other": 1}, 0), ({"a": 2, "same": 1}, 1)])
async def test_two_masters_count_by_the_keys_that_they_disagree_on(
    hurry: Hurry, tmp_path: Path, writes: dict[str, int], met: int
) -> None:
    client = hurry.client()
    await client.mset({"a": 1, "same": 1})
    node = SimpleNamespace(worker=SimpleNamespace(number=0), redis=Link(hurry, writes))
    assert (await redis_split(_nemesis(hurry, [node], folder=tmp_path), _planned("x", 0.2), DICE))[1] == met
    await client.aclose()


async def test_a_worker_whose_clock_is_right_all_the_same_was_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library may be there and not take: then nothing was judged by a wrong clock, however much was asked."""

    async def nothing(*_: object) -> None:
        """It is no process."""

    monkeypatch.setattr(clocks, "fake_time", lambda shift_s: ())
    worker = SimpleNamespace(number=0, pid=os.getpid(), kill_all=nothing, start=nothing, ready=nothing)
    nemesis = _nemesis(None)
    nemesis.node = lambda dice: SimpleNamespace(worker=worker)
    nemesis.calls_at = lambda node: 5
    nemesis.city = SimpleNamespace(in_flight=lambda number: 5)
    assert (await clock_worker(nemesis, _planned("clock-worker"), DICE))[1] == 0


PING = b"*1\r\n$4\r\nPING\r\n"
SHORT = b"*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n"
ECHO = b"*2\r\n$4\r\nECHO\r\n$200\r\n" + b"x" * 200 + b"\r\n"
SLOWING = [links.link_delay, links.link_throttle, links.link_half_open, links.link_blackhole]


class Chosen(random.Random):
    """A link to Redis, and what it does to it, without dice."""

    def choice(self, options: Any) -> Any:
        return next((one for one in ("redis", "requests", 2_000.0) if one in options), options[0])


async def _struck_link(blow: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, says: list[bytes]) -> int:
    """What the blow counts on a worker's link to Redis on which somebody asks `says`, over and over, while it lasts."""
    monkeypatch.setattr(blows, "AIM_WITHIN_S", 5.0 if ECHO in says else 0.2)
    async with Proxy(redis_url) as link:
        reader, writer = await asyncio.open_connection(link.host, link.port)
        writer.write(PING)
        assert await reader.readline() == b"+PONG\r\n"
        node = SimpleNamespace(worker=SimpleNamespace(number=0), clients=None, redis=link, postgres=None)
        nemesis = _nemesis(None, [node])
        nemesis.node = lambda dice: node
        striking = asyncio.create_task(blow(nemesis, _planned("x", 0.6 if ECHO in says else 0.05), Chosen(1)))
        await asyncio.sleep(0)
        for said in says:
            writer.write(said)
        met = (await striking)[1]
        writer.close()
        return int(met)


@pytest.mark.parametrize("blow", SLOWING)
async def test_a_line_that_is_slow_or_silent_for_nobody_met_nobody(
    blow: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _struck_link(blow, redis_url, monkeypatch, []) == 0


@pytest.mark.parametrize("blow", SLOWING)
async def test_a_call_whose_bytes_were_held_back_or_lost_counts_once(
    blow: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _struck_link(blow, redis_url, monkeypatch, [ECHO]) == 1


async def test_a_throttle_that_held_nobody_up_met_nobody(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes are through at once."""
    monkeypatch.setattr(lines, "SLOWED_S", 0.5)
    assert await _struck_link(links.link_throttle, redis_url, monkeypatch, [SHORT]) == 0


@pytest.mark.parametrize(("grows_s", "met"), [(0.0, 0), (0.05, 5)])
async def test_hogs_count_by_whom_they_kept_waiting(monkeypatch: pytest.MonkeyPatch, grows_s: float, met: int) -> None:
    """By the kernel's count of it, from the moment at which they run; calls are under way all the time."""
    waited_s = {1: 0.0, 2: 0.0}
    running: list[int] = []

    def waited(pid: int) -> float:
        waited_s[pid] += 0.01 + (grows_s if running and pid == 1 else 0.0)
        return waited_s[pid]

    create = asyncio.create_subprocess_exec

    async def creating(*words: Any, **options: Any) -> Any:
        running.append(1)
        return await create(*words, **options)

    monkeypatch.setattr(blows, "_waited_s", waited)
    monkeypatch.setattr(blows.asyncio, "create_subprocess_exec", creating)
    nodes = [SimpleNamespace(worker=SimpleNamespace(number=pid, pid=pid)) for pid in waited_s]
    nemesis = _nemesis(None, nodes)
    nemesis.calls_at = lambda node: 5
    assert (await blows.cpu_hog(nemesis, _planned("cpu-hog"), DICE))[1] == met


def test_what_the_kernel_says_of_a_process_that_is_gone_is_nothing() -> None:
    assert blows._waited_s(None) == 0.0 and blows._waited_s(os.getpid()) >= 0.0
