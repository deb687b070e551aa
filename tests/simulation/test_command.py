"""`python -m bench simulate-faults`: its figures, its exit codes, and what it says of a failing seed."""

import json
from pathlib import Path

import pytest

from bench.simulate_faults import main
from bench.simulation.judge import accept

KEYS = ["seeds", "first", "accepts", "faults", "violations", "by_invariant", "seconds", "trace_hash", "faults_by_kind"]


def test_clean_seeds_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    assert main(["--seeds", "4", "--first", "7", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    assert set(KEYS) <= set(figures)
    assert (figures["seeds"], figures["first"], figures["violations"]) == (4, 7, 0)
    assert figures["accepts"] > 50 and figures["faults"] == sum(figures["faults_by_kind"].values()) > 0
    assert {"I1", "I3", "I6", "linearizable"} <= set(figures["by_invariant"]), "the checkers that looked say 0"
    assert figures["looked"]["I6"] > 0 and "I7 told" in figures["looked"], "and how often each had something to judge"
    assert "4 seeds from 7" in capsys.readouterr().out


def test_processes_change_nothing_but_the_time(tmp_path: Path) -> None:
    hashes = []
    for processes in ("1", "2"):
        path = tmp_path / processes
        assert main(["--seeds", "9", "--processes", processes, "--json", str(path)]) == 0
        hashes.append(json.loads(path.read_text())["trace_hash"])
    assert hashes[0] == hashes[1]


def test_a_failing_seed_is_named_told_and_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accept, "standing", lambda db, job, offer, named: offer is not None)
    assert main(["--seeds", "30"]) == 1
    out = capsys.readouterr().out
    told = next(line for line in out.splitlines() if line.startswith("seed ") and " breaks " in line)
    seed = told.split()[1]
    assert f"again: python -m bench simulate-faults --seed {seed}" in out
    assert "Postgres:" in out and "is told accept" in out
    assert main(["--seed", seed]) == 1
    again = capsys.readouterr().out
    assert told in again, "replayed, it breaks the same promise"
    assert "nemesis" in again and "accept_job" in again, "with its whole story"


def test_figures_that_could_not_be_written_are_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said before the seeds, not after hours of them."""
    assert main(["--seeds", "2", "--json", str(tmp_path / "nowhere" / "figures.json")]) == 2
    said = capsys.readouterr()
    assert "nowhere" in said.err and "accepts" not in said.out


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.simulate_faults.summary_of", interrupted)
    assert main(["--seeds", "2"]) == 130


def test_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
