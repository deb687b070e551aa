"""Workers are started, replaced, drained and given up; nobody survives his supervisor."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from dispatch import supervisor
from dispatch.settings import Settings
from dispatch.supervisor import PortUnavailable, Reservation, Supervisor, listen

ROOT = Path(__file__).resolve().parents[1]

PARENT = """
import asyncio, signal, sys
from dispatch.kit import log
from dispatch.settings import Settings
from dispatch.supervisor import Supervisor
async def main():
    log.configure()
    run = Supervisor(Settings(workers=2, port=0), worker=sys.argv[1], announce=lambda line: print(line, flush=True))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, run.stop)
    return await run.run()
if __name__ == "__main__":
    print("ended:", asyncio.run(main()), flush=True)
"""


@asynccontextmanager
async def running(name: str, workers: int = 2) -> AsyncIterator[tuple[Supervisor, int, "asyncio.Task[str | None]"]]:
    """A supervisor whose workers all listen: (it, port, the task of its run)."""
    announced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = Settings(host="127.0.0.1", port=0, workers=workers)
    run = Supervisor(settings, worker=f"tests.support.workers:{name}", announce=announced.set_result)
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(60):
        await asyncio.wait([task, announced], return_when=asyncio.FIRST_COMPLETED)
    assert announced.done(), f"it ended before it was ready: {task.result()}"
    line = announced.result()
    assert line.endswith(f"({workers} workers)")
    yield run, int(line.split(":")[3].split()[0]), task
    run.stop()
    async with asyncio.timeout(60):
        await task


async def ask(port: int, word: str) -> tuple[int, int]:
    """(slot, pid) of the worker that got the connection, after telling it `word`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    slot, pid = (await reader.readline()).split()
    writer.write(f"{word}\n".encode())
    await reader.read()
    writer.close()
    return int(slot), int(pid)


async def pids(port: int) -> dict[int, int]:
    """Pid by slot, asked until both slots have answered."""
    found: dict[int, int] = {}
    async with asyncio.timeout(30):
        while len(found) < 2:
            slot, pid = await ask(port, "bye")
            found[slot] = pid
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until_dead(*numbers: int) -> None:
    async with asyncio.timeout(30):
        while any(map(alive, numbers)):
            await asyncio.to_thread(os.sched_yield)


async def test_workers_share_one_port_and_drain_when_told() -> None:
    async with running("echo") as (run, port, task):
        before = await pids(port)
        assert set(before) == {0, 1}
        run.stop()
        assert await task is None
        assert not any(map(alive, before.values()))
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_worker_that_dies_is_replaced_in_its_slot() -> None:
    async with running("echo") as (_, port, task):
        before = await pids(port)
        slot, dead = await ask(port, "die")
        await until_dead(dead)
        async with asyncio.timeout(30):
            while (after := await pids(port))[slot] == dead:
                pass
        assert after[1 - slot] == before[1 - slot]
        assert not task.done()


async def test_a_worker_that_is_told_to_end_is_replaced_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are replaced one by one by SIGTERM: nothing has died, and nothing is given up for it."""
    monkeypatch.setattr(supervisor, "CRASHES_MAX", 1)
    with structlog.testing.capture_logs() as logs:
        async with running("echo") as (_, port, task):
            before = await pids(port)
            os.kill(before[0], signal.SIGTERM)
            await until_dead(before[0])
            async with asyncio.timeout(30):
                while (after := await pids(port))[0] == before[0]:
                    pass
            assert after[1] == before[1]
            assert not task.done()
    assert not [log for log in logs if log["log_level"] in ("error", "critical")]


async def test_workers_that_cannot_start_are_given_up_with_a_reason() -> None:
    run = Supervisor(Settings(port=0, workers=2), worker="tests.support.workers:broken", announce=pytest.fail)
    async with asyncio.timeout(60):
        reason = await run.run()
    assert reason is not None
    assert "died 2 times in a row" in reason
    assert "exit code 1" in reason


async def test_a_crash_loop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CRASHES_MAX", 3)
    run = Supervisor(Settings(port=0, workers=1), worker="tests.support.workers:fickle", announce=lambda _: None)
    async with asyncio.timeout(60):
        assert "died 3 times in a row" in (await run.run() or "")


async def test_workers_that_do_not_drain_are_killed_and_a_second_stop_hurries() -> None:
    began = time.monotonic()
    async with running("deaf") as (run, _, task):
        run.stop()
        run.stop()
        assert "killed" in (await task or "")
    assert time.monotonic() - began < supervisor.DRAIN_GRACE_S


async def test_a_failing_health_check_ends_the_run_with_its_reason() -> None:
    reasons = iter([None, "the store is gone"])
    run = Supervisor(
        Settings(port=0, workers=1),
        worker="tests.support.workers:echo",
        announce=lambda _: None,
        health=lambda: next(reasons, "the store is gone"),
    )
    async with asyncio.timeout(60):
        assert await run.run() == "the store is gone"


@asynccontextmanager
async def parent_of(name: str) -> AsyncIterator[tuple["subprocess.Popen[str]", int]]:
    """A supervisor in a process of its own whose workers all listen: (process, port)."""
    process = subprocess.Popen(  # noqa: ASYNC220 it returns in a millisecond
        [sys.executable, "-c", PARENT, f"tests.support.workers:{name}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        yield process, int(line.split(":")[3].split()[0])
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)


@pytest.mark.parametrize("way", ["ctrl-c", "SIGTERM"])
async def test_signals_drain_and_leave_nobody(way: str) -> None:
    async with parent_of("echo") as (process, port):
        workers = (await pids(port)).values()
        if way == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C goes to the workers too
        else:
            process.send_signal(signal.SIGTERM)
        out, err = await asyncio.to_thread(process.communicate, timeout=30)
        assert (process.returncode, out) == (0, "ended: None\n")
        assert "Traceback" not in err
        await until_dead(*workers)


async def test_workers_do_not_survive_a_killed_supervisor() -> None:
    async with parent_of("echo") as (process, port):
        workers = (await pids(port)).values()
        process.kill()
        await until_dead(*workers)


def test_a_port_in_use_is_told_even_when_it_could_be_shared() -> None:
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port}.*in use.*--port"):
            Reservation("127.0.0.1", port)
    Reservation("127.0.0.1", port).close()


def test_a_reserved_port_stays_ours_and_takes_no_connections() -> None:
    reservation = Reservation("127.0.0.1", 0)
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", reservation.port))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", reservation.port))
    with listen("127.0.0.1", reservation.port), socket.create_connection(("127.0.0.1", reservation.port)):
        pass
    reservation.close()


def test_a_host_that_is_not_ours_is_told() -> None:
    with pytest.raises(PortUnavailable, match=r"Cannot listen on 192\.0\.2\.1"):
        Reservation("192.0.2.1", 0)
