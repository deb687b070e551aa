"""Each scenario once, small, against a real server: it runs, it checks itself, and its JSON has the keys that others read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dispatch.matching import BEHIND
from tests.support.scenario import ROOT, run, told

KINDS = ("server", "redis", "postgres", "load_generator")


def shares(found: dict[str, Any], ending: str = "") -> dict[str, float]:
    """Microseconds for each by process, as the scenario tells them."""
    return {kind: found[kind + ending] for kind in KINDS}


def shared(processes: dict[str, Any], count: int) -> dict[str, float]:
    """The same, out of what its processes have used."""
    return {kind: processes["cpu_s"][kind] / count * 1e6 for kind in KINDS}


def test_positions_arrive_in_redis(tmp_path: Path) -> None:
    options = ("--sockets", "40", "--rates", "80", "--for", "1", "--warm-up", "0.5")
    found = run(tmp_path, "positions", *options)
    assert found["server_cpu_us_per_position"] > 0
    assert [one["rate"] for one in found["rates"]] == [80]
    for one in found["rates"]:
        # In ticks of 10 ms Redis may have had none of them: that each is its own process' share can be told even so.
        assert shares(one, "_cpu_us_per_position") == pytest.approx(shared(one["processes"], one["positions"]), abs=0.1)
        assert one["processes"]["rss_mib"]["redis"] > 1
        assert one["taken_by_server"] == one["sent_with_warm_up"] >= one["positions"] > 0
        assert one["misplaced_in_redis"] == 0
        assert 0 < one["searchable_ms_p50"] <= one["searchable_ms_max"]
    assert found["errors"] == {}


def test_offers_reach_their_phones(tmp_path: Path) -> None:
    options = (
        "--providers",
        "60",
        "--customers",
        "10",
        "--rate",
        "5",
        "--for",
        "1.5",
        "--warm-up",
        "0.5",
        "--hold",
        "0.3",
    )
    found = run(tmp_path, "offers", *options)
    assert found["offers"] > 0
    assert (found["offers_never_seen"], found["offers_seen_without_stamp"]) == (0, 0)
    assert 0 < found["commit_to_frame_ms_p50"] <= found["commit_to_frame_ms_p99"]
    assert found["requests_failed"] == {}


def test_every_job_gets_one_provider(tmp_path: Path) -> None:
    options = ("--jobs", "10", "--rounds", "1", "--racers", "8", "--races", "2")
    found = run(tmp_path, "accepts", *options)
    assert (found["jobs"], found["jobs_accepted"], found["double_assignments"]) == (10, 10, 0)
    assert found["accept_ms_p99"] > 0
    assert (found["racers"]["jobs"], found["racers"]["jobs_accepted"]) == (2, 2)
    assert found["racers"]["answers"] == {"JOB_NOT_AVAILABLE": 14, "ok": 2}


def test_sockets_are_weighed(tmp_path: Path) -> None:
    found = run(tmp_path, "sockets", "--sockets", "100", "--first", "30", "--settle", "0.5")
    assert (found["sockets"], found["workers"]) == (100, 2)
    assert found["rss_kib_per_empty_worker"] > 10_000
    assert 0 < found["rss_kib_per_greeted_socket"] and 0 < found["rss_kib_per_socket"] < 1_000


def test_the_books_are_clean_after_all_of_it(tmp_path: Path) -> None:
    found, said = told(tmp_path, "ledger", "--for", "0.2", "--runs", "1", "--entries", "4000", "--completions", "100")
    assert (found["deadlocks"], found["differences"], found["reconcile_exit"]) == (0, 0, 0)
    assert found["reconciled_entries"] > 4_000
    assert (found["postings_given_up"], found["completions_given_up"]) == (0, 0)
    assert "completions (400)\npostings and bare work, s (0.4)\n" in said
    assert found["postings_per_s"] > 0 and found["completion_cpu_us"] > 0


def test_what_explanations_cost_is_measured_beside_a_server_without_them(tmp_path: Path) -> None:
    options = ("--overhead", "1", "--rate", "8", "--run-s", "1", "--providers", "40", "--policy", "waves")
    found = run(tmp_path, "simulate", *options)
    (pair,) = found["pairs"]
    assert pair["with"]["offered"] > 0 and pair["without"]["offered"] > 0
    assert found["rounds_written"] >= pair["with"]["offered"] and found["rounds_written_without"] == 0
    assert found["requests_failed"] == {}


def test_searches_are_timed_inside_redis(tmp_path: Path) -> None:
    found = run(tmp_path, "candidates", "--providers", "1500,300", "--searches", "25")
    kinds = {(one["providers"], one["pickups"], one["k"], one["hold"], one["also"]) for one in found["searches_of"]}
    assert kinds == {
        (n, where, k, hold, also)
        for n in (300, 1_500)
        for where in ("even", "hot", "held")
        for k in (3, 10)
        for hold, also in ((False, 0), (True, 0), (True, BEHIND))
        if hold or where != "held"
    }
    for one in found["searches_of"]:
        assert one["searches"] == 25
        assert 0 < one["function_us_mean"] and 0 < one["waited_us_p50"] <= one["waited_us_max"]
    assert sum(one["load_generator_cpu_us"] for one in found["searches_of"]) > 0
    # Hot spots have a tenth of everybody within a kilometre: nobody there is offered fewer than he wants.
    assert all(one["found_too_few"] == 0 for one in found["searches_of"] if one["pickups"] == "hot")
    assert len(found["growth"]) == 16 and all(times > 0 for times in found["growth"].values())


def test_searches_that_find_too_few_make_their_run_void(tmp_path: Path) -> None:
    file = tmp_path / "candidates.json"
    command = [sys.executable, "-m", "bench", "candidates", "--providers", "6", "--searches", "3", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 1, done.stdout[-2_000:] + done.stderr[-4_000:]
    found = json.loads(file.read_bytes())
    assert "3 of 3 found fewer than they wanted: 10 nearest, even, 6 providers" in found["void"]
    assert all(f"void: {reason}" in done.stderr for reason in found["void"])


def test_customers_see_their_providers_come(tmp_path: Path) -> None:
    found = run(tmp_path, "tracking", "--pairs", "6", "--for", "2", "--warm-up", "0.5", "--fixes", "2")
    assert 0 < found["frames"] <= found["positions"] + 6
    assert found["customers_who_saw_nothing"] == 0 and found["frames"] + found["frames_missing"] >= 6
    assert 0 <= found["age_ms_p50"] < 60_000
    assert found["cpu_us_per_frame"]["server"] > 0
    assert shares(found["cpu_us_per_frame"]) == pytest.approx(shared(found["processes"], found["frames"]), abs=0.1)
    assert found["latency"]["age of a position at the customer"][-1][0] == 1.0


def test_everybody_reads_what_he_may(tmp_path: Path) -> None:
    options = ("--rate", "60", "--customers", "8", "--providers", "8", "--for", "2", "--warm-up", "0.5")
    found = run(tmp_path, "api", *options)
    assert (found["errors"], found["errors_by_route"]) == (0, {})
    assert sum(one["reads"] for one in found["routes"].values()) == found["reads"] > 0
    assert {"/v1/jobs/{job}", "/v1/providers/me", "/v1/me"} <= found["routes"].keys()
    assert 0 < found["read_ms_p50"] <= found["read_ms_p95"] <= found["read_ms_p99"] <= found["read_ms_max"]
    processes = found["processes"]
    assert set(processes["cpu_s"]) == {"server", "redis", "postgres", "load_generator"}
    assert len(processes["workers"]) == 2 and all(one["rss_mib"] > 10 for one in processes["workers"])
    assert processes["rss_mib"]["redis"] > 1 and processes["rss_mib"]["postgres"] > 1
    assert processes["loop_lag_ms_max"] > 0, "no loop is never late"


def test_a_storm_by_its_own_name(tmp_path: Path) -> None:
    found, said = told(tmp_path, "storm", "--short", "--sockets", "300", "--pairs", "15", "--calm", "1")
    assert found["returning"]["returned"] == found["returning"]["resumed"] == 300
    assert "phones connecting (300)\ncalm, s (1)\nphones back (300)\n" in said
    assert "not_reading" not in found and "restarting" not in found
    assert found["latency"]["back after all lines broke"] and found["processes"]["cpu_s"]["server"] > 0
