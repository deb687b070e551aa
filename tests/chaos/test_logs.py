"""A worker's log is part of the verdict: what no fault explains breaks a run, and so does a death that nobody caused."""

import json
from pathlib import Path

import pytest

from bench.chaos.logs import judged
from bench.chaos.workers import Worker


def line(event: str, exception: str = "", level: str = "warning", **more: object) -> str:
    found: dict[str, object] = {"level": level, "event": event, **more}
    return json.dumps(found | ({"exception": f"Traceback ...\n{exception}"} if exception else {}))


DIED = line("worker died", level="error", exit_code=-9, was_ready=True)
AWAY = "asyncpg.exceptions.CannotConnectNowError: the database system is not yet accepting connections\nDETAIL:  Consistent ..."


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(0, (), 1, {}, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        line("loop failed", AWAY),
        line("search failed", "asyncpg.exceptions.LockNotAvailableError: canceling statement due to lock timeout", "error"),
        line("loop failed", "redis.exceptions.TimeoutError: Timeout reading from 127.0.0.1:1"),
        line("loop failed", "TimeoutError"),
        line("loop failed", "asyncpg.exceptions.AdminShutdownError: terminating connection due to unexpected postmaster exit"),
        line("loop failed", "redis.exceptions.MaxConnectionsError: Too many connections"),
        line("Exception while processing entrypoint/job-id: notify.sms/35", AWAY, "error"),
        "ready: http://127.0.0.1:80 (1 worker)",
    ],
)  # fmt: skip
def test_what_a_fault_must_cause_is_excused(worker: Worker, text: str) -> None:
    worker.log.write_text(text + "\n" + line("greeting failed"))
    found = judged([worker], [])
    assert not found.unexpected and found.excused.total() == 1


@pytest.mark.parametrize(
    "text",
    [
        line("loop failed", "KeyError: 1"),
        line("loop failed", "redis.exceptions.ResponseError: WRONGTYPE Operation"),
        line("loop failed", "asyncpg.exceptions.CannotConnectNowError: it does not like us"),
        line("task failed", AWAY, "error"),
        line("a loop ended", level="critical"),
        line("Task exception was never retrieved", AWAY, "error"),
        line("RuntimeWarning: coroutine 'x' was never awaited", logger="py.warnings"),
        "Traceback (most recent call last):",
        "dispatch: The database at x cannot be migrated: it is too old.",
        DIED,
        line("worker died", level="error", exit_code=1, was_ready=True),
    ],
)
def test_what_no_fault_explains_breaks_the_run(worker: Worker, text: str) -> None:
    worker.log.write_text(f"{text}\n{line('greeting failed')}\n{text}\n")
    assert len(judged([worker], []).unexpected) == 1 and "2x" in judged([worker], []).unexpected[0]


def test_each_death_needs_a_kill_of_ours(worker: Worker) -> None:
    worker.log.write_text(f"{DIED}\n{DIED}\n")
    worker.killed = 2
    assert not judged([worker], []).unexpected
    worker.killed = 1
    assert any("died by itself" in text for text in judged([worker], []).unexpected)


BORN_DEAD = """Process dispatch-worker-0:
ConnectionResetError: [Errno 104] Connection reset by peer

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "x.py", line 1, in run
asyncpg.exceptions.ConnectionDoesNotExistError: connection was closed in the middle of operation
"""
UNREADY = line("worker died", level="error", exit_code=1, was_ready=False)


def test_a_worker_that_starts_without_a_store_may_end_and_says_why(worker: Worker) -> None:
    worker.log.write_text(BORN_DEAD + UNREADY + "\nready: http://127.0.0.1:80 (1 worker)\n")
    assert not judged([worker], []).unexpected
    worker.log.write_text(BORN_DEAD + UNREADY + "\n" + UNREADY)
    assert len(judged([worker], []).unexpected) == 1
    worker.log.write_text(BORN_DEAD.replace("asyncpg.exceptions.ConnectionDoesNotExistError", "KeyError") + UNREADY)
    assert len(judged([worker], []).unexpected) == 2


def test_a_kill_may_tear_one_line(worker: Worker) -> None:
    worker.log.write_text('{"level":"warn\n{"level":"war\n')
    worker.killed_whole = 2
    assert not judged([worker], []).unexpected
    worker.killed_whole = 1
    assert judged([worker], []).unexpected


def test_a_command_that_ends_says_why(worker: Worker) -> None:
    worker.log.write_text(
        "dispatch: The database at x cannot be migrated: connection was closed in the middle of operation.\n"
    )
    assert not judged([worker], ["worker 0", "postgres"]).unexpected
    assert judged([worker], ["worker 0", "worker 0"]).unexpected
    starting = "the database system is not yet accepting connections; DETAIL:  Consistent recovery state has not been yet reached."
    worker.log.write_text(
        f"dispatch: Postgres cannot be reached at DATABASE_URL=x ({starting}). Start it or correct the address; without ...\n"
        f"dispatch: The database at x cannot be migrated: {starting}.\n"
    )
    assert not judged([worker], ["worker 0", "worker 0"]).unexpected


def test_a_supervisor_gives_up_after_deaths_that_are_ours(worker: Worker) -> None:
    giving_up = line("giving up", level="error", reason="Worker 0 died 5 times in a row")
    said = "dispatch: Worker 0 died 5 times in a row, the last time with exit code -9; its log says why."
    worker.log.write_text("\n".join([*[DIED] * 5, giving_up, said]) + "\n")
    worker.killed = 5
    assert not judged([worker], ["worker 0"]).unexpected
    assert judged([worker], ["worker 0", "worker 0"]).unexpected, "it ended once more than it says"
    worker.killed = 4
    assert judged([worker], ["worker 0"]).unexpected
