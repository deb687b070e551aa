"""The page of evidence says what the kept results say, and its tables leave nothing out."""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.chaos.blows import BLOWS
from bench.chaos.command import BREAKING, code_of_run
from bench.faults.checkers import CHECKERS, LOOKS
from bench.faults.promises import FAULTS, MUTANTS, PROMISES
from bench.faults.targets import TARGETS
from bench.hostile.command import code_of_run as hostile_code
from bench.reliability import PAGE, breaches, page, results, runs
from bench.report import complete
from bench.simulate_faults import main
from bench.simulation.nemesis import KINDS


def test_the_page_is_what_the_results_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(results()), "python -m bench reliability writes it anew"


def test_every_promise_has_its_judge_and_every_judge_its_promise() -> None:
    judges = {check.__name__: name for name, check in CHECKERS.items()}
    assert {one.name for one in PROMISES if one.checker.isidentifier()} == set(CHECKERS)
    for one in PROMISES:
        if one.checker.isidentifier():
            assert judges[one.checker] == one.name
        assert set(one.mutants) <= {mutant.name for mutant in MUTANTS}
        assert set(one.faults) <= {fault.name for fault in FAULTS}


def test_every_checker_stands_beside_what_proves_it_awake() -> None:
    assert set(breaches()) == set(CHECKERS)
    lines = {cells[0].strip(" *"): cells for cells in rows(page(results()))}
    for name, made in breaches().items():
        assert "; ".join(made) in lines[name][5]
    assert "stuck" in lines["I9"][5]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of the page."""
    return [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]


def test_every_mutant_is_named_by_the_promise_that_it_breaks() -> None:
    for mutant in MUTANTS:
        assert mutant.name in next(one for one in PROMISES if one.name == mutant.named).mutants


def test_every_kind_of_fault_stands_in_the_table() -> None:
    assert {kind for fault in FAULTS for kind in fault.simulated} == set(KINDS)
    assert {kind for fault in FAULTS for kind in fault.real} == set(BLOWS) | {"dropped-commit", "dropped-claim"}
    assert [fault.name for fault in FAULTS] == [f"F{number}" for number in range(1, 22)]
    for fault in FAULTS:
        assert ("simulation" in fault.where) == bool(fault.simulated), fault.name
        assert ("chaos" in fault.where) == bool(fault.real), fault.name


def test_no_kept_run_has_broken_a_promise() -> None:
    """By what its own command calls broken."""
    for name, one in runs(results()):
        assert one["violations"] == 0, name
        assert not name.startswith("chaos-") or code_of_run(one) == 0, name


def test_every_kept_run_was_judged_by_all_checkers_and_says_how_often() -> None:
    for name, one in runs(results()):
        assert set(one["by_invariant"]) >= set(CHECKERS), name
        assert set(one["looked"]) >= set(LOOKS), name


def test_a_result_keeps_no_path_of_whoever_ran_it() -> None:
    shown = argparse.Namespace(seed=7, keep=Path("/somewhere/else"), json=None)
    assert complete({}, shown, {})["options"] == {"seed": 7}
    for name, one in results().items():
        options = one.get("options", {})
        assert not [value for value in options.values() if isinstance(value, str) and value.startswith("/")], name


def test_what_was_never_looked_at_is_not_called_unbroken() -> None:
    run = {
        "seed": 7, "accepts": 1, "faults": 1, "violations": 0, "by_invariant": dict.fromkeys(CHECKERS, 0), "seconds": 1.0, "commit": "c" * 40,
        "date": "2026-11-20T10:36:00", "redis": "Redis 7.0.15 (redis-server)", "versions": {"postgres": "15.18"}, "looked": {"I1": 3, "I5": 0},
    }  # fmt: skip
    lines = {cells[0].strip(" *"): cells for cells in rows(page({"chaos-a": run}))}
    assert [cell.strip() for cell in lines["I1"][-2:]] == ["3", "0"]
    assert [lines[name][-1].strip() for name in ("I5", "I9")] == ["-", "-"]
    run["by_invariant"] |= {"I9": 2}  # type: ignore[operator]
    lines = {cells[0].strip(" *"): cells for cells in rows(page({"chaos-a": run}))}
    assert lines["I9"][-1].strip() == "2", "found is found, whatever was counted"


def test_the_seeds_are_those_of_the_kept_runs() -> None:
    assert "- 0 seeds of the simulator are few" in page({})
    assert f"- {sum(one.get('seeds', 0) for _, one in runs(results())):,} seeds of" in page(results())


def test_a_run_of_either_kind_has_its_line(tmp_path: Path) -> None:
    """As the commands write them, and with what they ran on."""
    file = tmp_path / "simulation-a.json"
    assert main(["--seeds", "1", "--json", str(file)]) == 0
    simulated = json.loads(file.read_bytes())
    real = {
        "seed": 7, "accepts": 10, "faults": 2, "violations": 0, "by_invariant": {}, "seconds": 1.0, "commit": "c" * 40,
        "date": "2026-11-20T10:36:00", "redis": "Redis 7.0.15 (redis-server)", "versions": {"postgres": "15.18"},
    }  # fmt: skip
    text = page({"simulation-a": simulated, "chaos-b": real})
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "| models |" in lines["simulation-a"] and simulated["commit"][:9] in lines["simulation-a"]
    assert "PostgreSQL 15.18, Redis 7.0.15" in lines["chaos-b"]


def test_what_never_came_is_a_target_of_its_own() -> None:
    """A p99 of those who came back says nothing of those who did not."""
    found = {
        "chaos-a": {
            "accepts": 0,
            "faults": 0,
            "violations": 0,
            "never_resumed": 3,
            "never_served": 1,
            "unknown_commits_unsettled": 2,
        }
    }
    words = missed(found)
    assert len([one for one in words if "never" in one or "nobody won" in one]) == 3, words


def missed(found: dict[str, dict[str, Any]]) -> set[str]:
    return {one.words for one in TARGETS if (value := one.value(found)) is not None and not one.met(value)}


def test_a_chaos_run_that_its_command_calls_broken_misses_a_target() -> None:
    clean: dict[str, Any] = {
        name: [] if name in ("unexpected", "not_done") else 0 for name in (*BREAKING, "accepts", "faults")
    }
    whole = {"accepts": 10**6, "faults": 10**4}
    assert code_of_run(clean) == 0
    assert missed({"chaos-a": clean | whole}) == set()
    for name in BREAKING:
        broken = clean | whole | {name: ["a line"] if isinstance(clean[name], list) else 1}
        assert code_of_run(broken) == 1
        assert len(missed({"chaos-a": clean | whole, "chaos-b": broken})) == 1, name


STORMS: dict[str, dict[str, Any]] = {
    "returning": {
        "sockets": 5_000, "returned": 5_000, "resumed": 5_000, "return_s_max": 24.0, "loop_lag_ms_max": 300.0, "accepts": 300, "accept_ms_p99": 400.0,
    },
    "not_reading": {
        "not_reading": 2_500, "gone": 2_500, "gone_s_max": 9.0, "waiting_kib_max": 90.0, "accept_ms_before_p99": 100.0, "accept_ms_p99": 90.0,
    },
    "restarting": {
        "workers": 4, "replaced": 4, "accepts": 700, "failed": 0, "events_lost": 0, "events_out_of_order": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("storm", "spoiled", "words"),
    [
        ("returning", {"sockets": 200, "returned": 200, "resumed": 200}, "storm: sockets that return at once"),
        ("returning", {"loop_lag_ms_max": 900.0}, "storm: loop lag, max"),
        ("not_reading", {"not_reading": 20, "gone": 20}, "slow readers: a tenth of the sockets, in rounds"),
        ("not_reading", {"waiting_kib_max": 300.0}, "slow readers: waiting for each, max"),
        ("restarting", {"workers": 2, "replaced": 2}, "rolling restart: workers"),
        ("returning", {"returned": 4_100}, "storm: of these, not back within 2 min"),
        ("returning", {"resumed": 4_100}, "storm: of these, not resumed where they stood"),
        ("returning", {"return_s_max": None}, "storm: the last one back"),
        ("returning", {"accepts": 0}, "storm: accepts meanwhile"),
        ("returning", {"accept_ms_p99": None}, "storm: accepts meanwhile, p99"),
        ("not_reading", {"gone": 1}, "slow readers: not cut within 1 min"),
        ("not_reading", {"gone_s_max": None}, "slow readers: the last one gone"),
        ("not_reading", {"accept_ms_p99": None}, "slow readers: others' accepts, p99 to what it was before"),
        ("restarting", {"replaced": 1}, "rolling restart: workers not replaced"),
        ("restarting", {"accepts": 0}, "rolling restart: accepts meanwhile"),
        ("restarting", {"failed": 1}, "rolling restart: failed requests"),
        ("restarting", {"events_lost": 1}, "rolling restart: events lost"),
        ("restarting", {"events_out_of_order": 7}, "rolling restart: events out of order"),
    ],
)
def test_a_storm_that_failed_misses(storm: str, spoiled: dict[str, Any], words: str) -> None:
    found: dict[str, Any] = copy.deepcopy(STORMS) | {"failed": 0}
    assert missed({"storms": found}) == set()
    found[storm] |= spoiled
    assert missed({"storms": found}) == {words}
    line = next(cells for cells in rows(page({"storms": found})) if cells[0].strip() == words)
    assert "MISSED" in line[3] and ("never" in line[2]) == (None in spoiled.values())


def test_others_who_failed_beside_a_storm_are_a_target() -> None:
    assert missed({"storms": STORMS | {"failed": 2}}) == {"storm and slow readers: others' requests that failed"}  # type: ignore[dict-item]


HOSTILE: dict[str, Any] = {
    "frames_reached": 1_000_000, "unhandled": 0, "answers_not_of_the_contract": 0, "workers_alive": True, "never_welcomed": 0, "rss_drift": 0.02,
    "bystander": {"failed": 0, "rides": 3, "sockets_needed": 1},
}  # fmt: skip


def test_attackers_that_their_command_calls_too_much_miss_a_target() -> None:
    assert missed({"hostile": HOSTILE}) == set() and hostile_code(HOSTILE) == 0
    spoiled: list[dict[str, Any]] = [
        *({name: 3} for name in ("unhandled", "answers_not_of_the_contract", "never_welcomed", "rss_drift")),
        {"workers_alive": False},
        *({"bystander": HOSTILE["bystander"] | one} for one in ({"failed": 1}, {"rides": 0}, {"sockets_needed": 2})),
    ]
    for one in spoiled:
        assert hostile_code(HOSTILE | one) == 1
        assert len(missed({"hostile": HOSTILE | one})) == 1, one


def test_a_figure_without_an_aim_is_neither_met_nor_missed() -> None:
    line = next(cells for cells in rows(page(results())) if cells[0].strip() == "bystander: answers over HTTP, p99")
    assert line[1].strip() == "none" and line[2].strip().endswith("ms") and not line[3].strip()


def test_targets_without_a_run_are_open() -> None:
    assert all(target.value({}) is None for target in TARGETS)
