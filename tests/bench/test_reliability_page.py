"""The page of evidence says what the kept results say, and its tables leave nothing out."""

import json
from pathlib import Path

from bench.chaos.blows import BLOWS
from bench.faults.checkers import CHECKERS
from bench.faults.promises import FAULTS, MUTANTS, PROMISES
from bench.faults.targets import TARGETS
from bench.reliability import PAGE, page, results, runs
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


def test_every_mutant_is_named_by_the_promise_that_it_breaks() -> None:
    for mutant in MUTANTS:
        assert mutant.name in next(one for one in PROMISES if one.name == mutant.named).mutants


def test_every_kind_of_fault_stands_in_the_table() -> None:
    assert {kind for fault in FAULTS for kind in fault.simulated} == set(KINDS)
    assert {kind for fault in FAULTS for kind in fault.real} == set(BLOWS) | {"dropped-commit", "dropped-claim"}
    assert [fault.name for fault in FAULTS] == [f"F{number}" for number in range(1, 22)]


def test_no_kept_run_has_broken_a_promise() -> None:
    for name, one in runs(results()):
        assert one["violations"] == 0, name


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
    missed = [one.words for one in TARGETS if (value := one.value(found)) is not None and not one.met(value)]
    assert len([words for words in missed if "never" in words or "nobody won" in words]) == 3, missed


def test_targets_without_a_run_are_open() -> None:
    assert all(target.value({}) is None for target in TARGETS)
