"""The stores of a run come up again, whatever happens to them, and nobody gets into the way of a start."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import asyncpg
import pytest

from bench.chaos.cluster import Cluster
from bench.chaos.nemesis import Nemesis
from bench.chaos.stores import Hurry, Judge, _alive, _Server, family, redis_build
from dispatch.kit.embedded import EmbeddedError
from dispatch.kit.embedded.postgres import home_of


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[Judge]:
    made = Judge(tmp_path / "stores", tmp_path, lambda text: None)
    await made.start()
    yield made
    await made.leave()


class Slow(_Server):
    """A store that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = True
        self.starting = self.starts = self.at_once = 0
        self.go = asyncio.Event()

    @property
    def running(self) -> bool:
        return self.alive

    async def start(self) -> None:
        self.wanted, self.starts = True, self.starts + 1
        self.starting += 1
        self.at_once = max(self.at_once, self.starting)
        await self.go.wait()
        self.starting -= 1
        self.alive = True


def _cluster(judge: Any, hurry: Any) -> Cluster:
    return Cluster(Path(), judge, hurry, {}, lambda text: None, ())


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.chaos.cluster.WATCH_S", 0.0)
    monkeypatch.setattr("bench.chaos.cluster.RESTART_AFTER_S", 0.0)


@pytest.mark.usefixtures("soon")
async def test_a_fault_waits_for_a_start_by_the_watcher() -> None:
    """Else it kills what has long ended, and its own start waits in vain for the lock of the one that is recovering."""
    store, other = Slow(), Slow()
    store.wanted, store.alive = True, False
    made = _cluster(store, other)
    nemesis = Nemesis(made, SimpleNamespace(), SimpleNamespace(), SimpleNamespace(), {})  # type: ignore[arg-type]
    watch = asyncio.create_task(made.watch())
    while not store.starts:
        await asyncio.sleep(0)

    async def blow() -> None:
        async with nemesis.lock("postgres"):
            store.alive = False
            await store.start()

    struck = asyncio.create_task(blow())
    for _ in range(20):
        await asyncio.sleep(0)
    assert store.starts == 1
    store.go.set()
    await struck
    assert (store.starts, store.at_once) == (2, 1)
    watch.cancel()


@pytest.mark.usefixtures("soon")
async def test_the_watcher_leaves_a_store_alone_while_a_fault_has_its_turn() -> None:
    store, other = Slow(), Slow()
    store.wanted, store.alive = True, False
    made = _cluster(store, other)
    async with store.turn:
        watch = asyncio.create_task(made.watch())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not store.starts and not made.ended
    watch.cancel()


@pytest.mark.usefixtures("soon")
async def test_a_watcher_that_breaks_is_told() -> None:
    store, other = Slow(), Slow()
    store.wanted, store.alive = True, False

    async def broken() -> None:
        raise RuntimeError("no words")

    store.start = broken  # type: ignore[method-assign]
    made = _cluster(store, other)
    watch = asyncio.create_task(made.watch())
    watch.add_done_callback(made.watched)
    await asyncio.wait([watch])
    assert len(made.broken) == 1 and "no words" in made.broken[0]


async def test_a_start_that_fails_is_tried_again_by_whoever_watches(judge: Judge) -> None:
    """A disk that is full while Postgres recovers ends it: that was for good."""
    await judge.kill()
    with pytest.raises(EmbeddedError):
        await judge.start(("/bin/sh", "-c", "exit 1"))
    assert judge.wanted and not judge.running
    await judge.back()
    assert judge.running


async def test_a_kill_leaves_nothing_behind_and_commits_survive_it(judge: Judge) -> None:
    conn = await asyncpg.connect(judge.url)
    await conn.execute("CREATE TABLE kept (n int)")
    acked = [0, 0, 0, 0]
    writers = [asyncio.create_task(_write(judge, acked, number)) for number in range(4)]
    try:
        for way in (judge.kill, judge.quit, judge.kill):
            everybody = family(judge.pid)
            assert len(everybody) > 4
            await way()
            assert not judge.running and not any(_alive(pid) for pid in everybody)
            await judge.start()
    finally:
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    conn = await asyncpg.connect(judge.url)
    assert await conn.fetchval("SELECT count(*) FROM kept") >= sum(acked)
    await conn.close()


async def _write(judge: Judge, acked: list[int], number: int) -> None:
    while True:
        try:
            conn = await asyncpg.connect(judge.url, timeout=5)
            while True:
                await conn.execute("INSERT INTO kept SELECT generate_series(1, 50)")
                acked[number] += 50
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await asyncio.sleep(0.01)


async def test_no_start_while_a_backend_of_the_last_one_lives(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers on one folder destroy it: the last process of the one before holds its lock."""
    monkeypatch.setattr("bench.chaos.stores.GONE_WITHIN_S", 0.3)
    conn = await asyncpg.connect(judge.url)
    orphan = await conn.fetchval("SELECT pg_backend_pid()")
    os.kill(orphan, signal.SIGSTOP)
    try:
        os.kill(judge.pid, signal.SIGKILL)
        while judge.running:
            await asyncio.sleep(0.01)
        with pytest.raises(EmbeddedError, match="its last processes hold"):
            await judge.start()
    finally:
        os.kill(orphan, signal.SIGCONT)
    monkeypatch.undo()
    await judge.start()
    assert judge.running and not _alive(orphan)
    conn.terminate()


async def test_killed_while_it_recovers_it_comes_up_all_the_same(judge: Judge) -> None:
    before = judge.pid
    await judge.kill()
    starting = asyncio.create_task(judge.start())
    note = next(judge.place.folder.glob("pg*")) / "postmaster.pid"
    while (now := _pid_in(note)) in (0, before):
        await asyncio.sleep(0)
    os.kill(now, signal.SIGKILL)
    with pytest.raises(EmbeddedError):
        await starting
    await judge.back()
    assert judge.running


def _pid_in(note: Path) -> int:
    words = note.read_text().split() if note.exists() else []
    return int(words[0]) if words else 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
async def test_as_another_user_it_keeps_its_data_through_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie where that user can reach them, and were removed with the server that was killed."""
    monkeypatch.setenv("EMBED_AS", "setuid")
    tmp_path.chmod(0o700)
    judge = Judge(tmp_path / "stores", tmp_path, lambda text: None)
    try:
        await judge.start()
        conn = await asyncpg.connect(judge.url)
        await conn.execute("CREATE TABLE kept (n int)")
        await judge.kill()
        await judge.start()
        conn = await asyncpg.connect(judge.url)
        assert await conn.fetchval("SELECT count(*) FROM kept") == 0
        await conn.close()
        home = home_of(judge.place)
        assert home.exists()
    finally:
        await judge.leave()
    assert not home.exists() or home == judge.place.folder


async def test_what_has_ended_is_sent_no_signals(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be another process' by now."""
    await judge.kill()
    sent: list[object] = []
    monkeypatch.setattr("bench.chaos.stores.send", lambda *what: sent.append(what))
    judge.stop()
    judge.go_on()
    await judge.kill()
    assert not sent


async def test_a_client_waits_for_its_turn_at_a_redis_that_was_stopped(tmp_path: Path) -> None:
    """The kernel keeps a queue of those who want to connect; once that is full the next one is refused at once."""
    hurry = Hurry(tmp_path / "stores", tmp_path, redis_build(), lambda text: None)
    await hurry.start()
    waiting: list[socket.socket] = []
    try:
        hurry.stop()
        path = unquote(hurry.url.removeprefix("unix://"))
        with pytest.raises(BlockingIOError):
            while True:
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)
                one.connect(path)
        client = hurry.client()
        asked = asyncio.create_task(client.ping())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not asked.done()
        hurry.go_on()
        for one in waiting:
            one.close()
        assert await asked
        await client.aclose()
    finally:
        for one in waiting:
            one.close()
        await hurry.leave()
