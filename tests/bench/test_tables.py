"""Accepts and lists beside a history: what a plan read is counted, and no list reads all of it."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.demo.stage import StageError
from bench.tables.command import (
    DISK_BYTES_PER_JOB,
    SIZES,
    SPARE_BYTES,
    acting,
    fitting,
    grown,
    main,
    summed,
    times,
    too_large,
)
from bench.tables.history import UntoldError
from bench.tables.plans import LINES_MAX, blocks, drawn, drawn_all, rows_read, shortened, whole
from dispatch.kit.postgres import Postgres

ROOT = Path(__file__).parents[2]


def test_an_accept_and_every_list_read_by_an_index(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ("--sizes", "2000,20000", "--providers", "100", "--accepts", "40", "--asks", "10", "--plans")
    done = subprocess.run(
        [sys.executable, "-m", "bench", "tables", *options, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert file.exists(), done.stdout[-2_000:] + done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(file.read_bytes())
    assert found["reading_all"] == []
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    assert [size["jobs"] for size in found["sizes"]] == [2_000, 20_000]
    for size in found["sizes"]:
        plans = {one["what"]: one for one in size["of"]}
        assert plans.keys() == {
            "accept",
            "customer's jobs",
            "provider's jobs",
            "jobs of a customer without any",
            "office's newest",
            "office's newest open",
            "loop: due searches",
            "loop: offers left open",
            "loop: offers unheard",
            "loop: stuck jobs",
            "loop: steps to be told",
        }
        assert all(one["plans"] and one["blocks"] > 0 and one["ms_p50"] <= one["ms_p99"] for one in plans.values())
        assert plans["accept"]["rows_read"]["jobs"] >= 1, "the statements inside of the function are seen"
        assert plans["accept"]["rows_read"]["jobs"] < 20 > plans["accept"]["rows_read"]["offers"]
        assert plans["office's newest"]["rows_read"]["jobs"] >= 51
        assert plans["provider's jobs"]["rows_read"]["jobs"] >= 18, "he has some"
        assert plans["loop: steps to be told"]["rows_read"]["job_events"] >= 200, "each ask finds them anew"
        assert plans["loop: offers left open"]["rows_read"].get("jobs", 0) < 1_000
        assert plans["loop: offers unheard"]["rows_read"].get("offers", 0) < 50, "asked accepts leave nothing open"
    assert all(found["bytes_per_job"][table] > 100 for table in ("jobs", "offers", "job_events"))
    books = {"earnings", "ledger_txn", "ledger_entry"}
    assert books <= found["bytes_per_completion_elsewhere"].keys(), "a completion pays"
    assert 0 < found["notices_per_completion"] <= 4, "of completions, not of the whole history"
    assert "accept, 20,000 jobs" in done.stdout, "the plans are printed"
    (kept,) = (one for one in found["tables"] if one.get("text"))
    assert kept["title"] == "the plans, 20,000 jobs" and "office's newest" in kept["text"]
    assert any("Index" in line and "jobs" in line for line in kept["text"])


async def test_what_a_loop_writes_is_undone_after_each_ask(database_url: str) -> None:
    async with Postgres.open(database_url, size=1) as pg:
        for _ in range(2):
            async with acting(pg, None) as tx:
                await tx.execute("CREATE TEMP TABLE of_this_ask (n int)")  # refused where it is there already


def test_what_was_measured_is_kept_when_completions_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def untold(*_: object) -> None:
        raise UntoldError("not told of within 60 s")

    monkeypatch.setattr("bench.tables.command.completed", untold)
    file = tmp_path / "figures.json"
    options = ("--sizes", "300", "--providers", "20", "--accepts", "5", "--asks", "2")
    assert main([*options, "--json", str(file)]) == 1
    found: dict[str, Any] = json.loads(file.read_bytes())
    assert [size["jobs"] for size in found["sizes"]] == [300]
    missed = [row for shown in found["tables"] for row in shown["rows"] if row[-1].endswith("MISSED")]
    assert missed == [["every completion", "not told of within 60 s", "all told: MISSED"]]


def scan(of: str, rows: float, *, removed: float = 0, loops: float = 1, **more: Any) -> dict[str, Any]:
    return {
        "Node Type": of,
        "Relation Name": "jobs",
        "Actual Rows": rows,
        "Actual Loops": loops,
        "Rows Removed by Filter": removed,
        **more,
    }


def test_what_a_filter_throws_away_was_read() -> None:
    limit = {
        "Node Type": "Limit",
        "Actual Rows": 51,
        "Actual Loops": 1,
        "Shared Hit Blocks": 40,
        "Shared Read Blocks": 2,
    }
    plans = [{"Plan": limit | {"Plans": [scan("Index Scan", 51, removed=949, **{"Index Name": "jobs_recent"})]}}]
    assert rows_read(plans) == {"jobs": 1_000}
    assert blocks(plans) == 42
    rows = {"jobs": 2_000, "offers": 10_000, "job_events": 9_000}
    assert whole(rows_read(plans), rows) == ["jobs"]
    assert whole(rows_read(plans), rows | {"jobs": 2_001}) == []
    assert list(drawn(plans[0]["Plan"]))[1].startswith("  Index Scan jobs_recent jobs · rows 51 × 1, 949 thrown away")


def test_plans_on_a_page_have_an_end() -> None:
    plans = [{"Plan": scan("Index Scan", 1)}] * LINES_MAX
    assert shortened(drawn_all(plans)) == drawn_all(plans) and len(drawn_all(plans)) == LINES_MAX
    assert shortened(drawn_all(plans * 2)) == [*drawn_all(plans), f"  … and {LINES_MAX} more lines"]
    assert drawn_all([{"Plan": {"Node Type": "Result", "Actual Rows": 1, "Actual Loops": 1}}]) == [], (
        "it reads no table"
    )


def test_loops_and_writes_are_counted_rightly() -> None:
    assert rows_read([{"Plan": scan("Index Scan", 1, loops=30)}, {"Plan": scan("Seq Scan", 5)}]) == {"jobs": 35}
    assert rows_read([{"Plan": scan("ModifyTable", 1, Plans=[scan("Index Scan", 1)])}]) == {"jobs": 1}


def test_sizes_are_those_that_the_disk_holds() -> None:
    room = SPARE_BYTES + 1_500_000 * DISK_BYTES_PER_JOB
    assert fitting(None, 10**15) == list(SIZES)
    assert fitting(None, room) == [10_000, 1_000_000]
    assert fitting([5, 1_500_000], room) == [5, 1_500_000]
    with pytest.raises(StageError, match="2,000,000 jobs need about"):
        fitting([5, 2_000_000], room)
    with pytest.raises(StageError, match="10,000 jobs need about"):
        fitting(None, SPARE_BYTES)


def test_growth_and_what_reads_all() -> None:
    def size(jobs: int, p50: float, reads: list[str]) -> dict[str, Any]:
        one = {"what": "accept", "ms_p50": p50, "ms_p99": 4.0, "blocks": 10, "whole": reads}
        return {"jobs": jobs, "bytes": {"jobs": jobs * 900}, "of": [one]}

    found = summed([size(9_999, 2.0, ["jobs"]), size(10_000, 5.0, ["jobs"])])
    assert found["growth"] == {"accept": {"ms_p50": 2.5, "ms_p99": 1.0, "blocks": 1.0}}
    assert found["reading_all"] == ["accept reads all of jobs at 10,000 jobs"], (
        "a small table is read whole, and rightly"
    )
    assert found["bytes_per_job"] == {"jobs": 900}
    assert summed([size(10_000, 5.0, [])])["growth"] == {}, "one size has grown from nothing"
    assert [(one["of"], one["at"], one["value"]) for one in found["scaling"]][::2] == [
        ("accept, p50", 9_999, 2.0),
        ("accept, p50", 10_000, 5.0),
    ]


def test_what_never_came_from_the_large_table_has_grown_for_ever() -> None:
    assert (times(2.0, 5.0), times(2.0, None), times(None, 5.0), times(0, 0), times(0, 3)) == (
        2.5,
        None,
        None,
        1.0,
        None,
    )

    def size(jobs: int, p99: float | None) -> dict[str, Any]:
        one = {"what": "office's newest", "ms_p50": 2.0, "ms_p99": p99, "blocks": 10, "whole": []}
        return {"jobs": jobs, "bytes": {"jobs": 1}, "of": [one]}

    found = summed([size(10_000, 4.0), size(5_000_000, None)])
    rows = grown(found, argparse.Namespace(sizes=[10_000, 5_000_000], short=False))
    assert ("office's newest, p99", "never", "≤ 1.3 times: MISSED") in rows
    assert ("office's newest, p50", "1.00", "≤ 1.3 times: met") in rows
    for sizes, short in (([10_000, 1_000_000], False), ([20_000, 5_000_000], False), ([10_000, 5_000_000], True)):
        assert {row[2] for row in grown(found, argparse.Namespace(sizes=sizes, short=short))} == {""}


def test_a_size_that_the_disk_does_not_hold_is_one_that_was_missed() -> None:
    assert too_large(5_000_000, 10 * 2**30) == (
        "5,000,000 jobs",
        "need 41 GiB of disk, 10 are free",
        "every size: MISSED",
    )
