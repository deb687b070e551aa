"""What Postgres gives up while the books are measured is counted, and what was measured besides is kept."""

import argparse
import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast
from uuid import uuid4

import asyncpg
import pytest

from bench import ledger
from bench.figures import perform
from bench.ledger import CLIENTS, completed, hammer
from bench.server import Running, Usage
from dispatch.app import App
from dispatch.kit.errors import Overloaded

GIVEN_UP = (
    asyncpg.LockNotAvailableError("lock timeout"),
    asyncpg.DeadlockDetectedError(""),
    TimeoutError(),
    Overloaded(),
)


class Ticking:
    """A machine on which each look finds one second more of this process and of Postgres."""

    def __init__(self) -> None:
        self._looks = itertools.count()

    def usage(self) -> Usage:
        at = float(next(self._looks))
        return Usage(0.0, 0.0, at, at, at, at)


def ticking() -> Running:
    return cast(Running, Ticking())


async def test_a_posting_that_is_given_up_is_counted_and_ends_nobody() -> None:
    async def work(client: int, turn: int) -> None:
        if turn < len(GIVEN_UP):
            raise GIVEN_UP[turn]

    run = await hammer(ticking(), work, 0.05)
    assert run.given_up == CLIENTS * len(GIVEN_UP)
    assert run.done > 0, "each went on with his next"
    assert run.took_ms.count(math.inf) == run.given_up and len(run.took_ms) == run.done + run.given_up


async def test_what_is_wrong_with_the_work_itself_is_not_hidden() -> None:
    async def work(client: int, turn: int) -> None:
        raise KeyError(turn)

    with pytest.raises(KeyError):
        await hammer(ticking(), work, 0.05)


async def test_whoever_is_left_when_a_line_is_lost_does_not_go_on() -> None:
    ended: list[int] = []

    async def work(client: int, turn: int) -> None:
        if client == CLIENTS - 1:
            raise ConnectionResetError
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(client)

    with pytest.raises(ConnectionResetError):
        await hammer(ticking(), work, 5.0)
    assert sorted(ended) == list(range(CLIENTS - 1))


async def test_completions_that_are_given_up_are_no_completions() -> None:
    jobs = [{"id": uuid4(), "provider_user_id": uuid4()} for _ in range(4)]
    stuck = {jobs[1]["id"]}

    async def advance(actor: object, job: object, *args: object, **words: object) -> None:
        if job in stuck:
            raise GIVEN_UP[0]

    app = cast(App, SimpleNamespace(jobs=SimpleNamespace(advance=advance)))
    each, given_up = await completed(ticking(), app, jobs)
    assert given_up == [jobs[1]["id"]]
    assert each == pytest.approx(2e6 / 3), "of those that were completed"
    stuck |= {one["id"] for one in jobs}
    each, given_up = await completed(ticking(), app, jobs)
    assert math.isnan(each) and len(given_up) == 4


METERED = {
    "took_s": 1.0, "workers": [], "rss_mib": {"redis": 1.0, "postgres": 1.0}, "cpu_s": {"server": 1.0}, "loop_lag_ms_max": 1.0,
    "others_cores": 0.0,
}  # fmt: skip


class Metering:
    """What a meter would have found."""

    def __init__(self, _: object) -> None:
        self.figures = METERED

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass


def test_what_was_measured_before_a_part_ended_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def server(**_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(stage=SimpleNamespace(versions={"postgres": "18"}))

    async def completions(*_: object) -> dict[str, Any]:
        ratio = {"median": 1.5, "min": 1.0, "max": 1.7}
        cpu = {"completion_cpu_us": 3_000, "unpaid_completion_cpu_us": 2_000, "completion_cpu_ratio": ratio}
        return cpu | {"completions_given_up": 2}

    async def postings(*_: object) -> dict[str, Any]:
        raise GIVEN_UP[0]

    async def reconciling(*_: object) -> dict[str, Any]:
        sums = {"reconcile_s": 1.0, "reconciled_entries": 5, "differences": 0, "reconcile_exit": 0}
        return sums | {"writer_alone_ms_p99": 1.0, "writer_beside_ms_p99": None}

    for name, fake in {"server": server, "Meter": Metering, "completions": completions, "postings": postings, "reconciling": reconciling}.items():  # fmt: skip
        monkeypatch.setattr(ledger, name, fake)
    shown = argparse.Namespace(**vars(ledger.parser().parse_args([])) | {"json": tmp_path / "ledger.json"})
    assert perform(ledger.scenario, shown) == 1
    found = json.loads((tmp_path / "ledger.json").read_bytes())
    assert found["completion_cpu_us"] == 3_000 and found["reconciled_entries"] == 5
    assert "postings ended: LockNotAvailableError" in found["void"][0]
    rows = {row[0]: row[1:] for row in found["tables"][0]["rows"]}
    assert rows["completions given up"] == ["2", "0: MISSED"] and "postings" not in rows
    assert "writer p99 beside it" in capsys.readouterr().out
