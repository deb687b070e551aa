"""docs/performance.md says what the kept results say: full runs of every scenario, of a commit as it is, and a reason beside whatever missed."""

from pathlib import Path

import pytest

from bench.all import FULL
from bench.all import ORDER as LOADS
from bench.report.markdown import ORDER, REASONS, markdown, unreasoned
from bench.report.results import Result, read

ROOT = Path(__file__).parents[2]
FOLDER = Path("bench/results/performance")
PAGE = Path("docs/performance.md")


@pytest.fixture(scope="module")
def results() -> list[Result]:
    found, left_out = read(ROOT / FOLDER)
    assert not left_out
    return found


def test_the_page_is_what_the_results_say(results: list[Result]) -> None:
    text = markdown(results, FOLDER.as_posix(), PAGE.as_posix(), REASONS.read_text(encoding="utf-8"))
    assert (ROOT / PAGE).read_text(encoding="utf-8") == text, f"python -m bench report {FOLDER} --page {PAGE}"


def test_every_run_is_there_in_full(results: list[Result]) -> None:
    loads = {name for scenario in LOADS for name in FULL.get(scenario, {scenario: ()})}
    # The offers of peers twice: in an hour in which others took the machine's cores, and in a quiet one.
    assert {one.name for one in results} == loads | {"office", "scaling", "tables", "peers-offers"}
    assert {one.scenario for one in results} == set(ORDER)
    for one in results:
        assert not one.figures["options"].get("short"), one.name
        assert one.tables(), one.name


def test_what_is_kept_is_what_was_measured(results: list[Result]) -> None:
    """Of a commit as it is, without changes of somebody's own; against stores and a server of its own; all on one machine."""
    for one in results:
        assert set(one.figures["commit"]) <= set("0123456789abcdef"), one.name
        assert not one.figures["elsewhere"], one.name
    machines = {(one.figures["machine"]["cpu"], one.figures["machine"]["cores"]) for one in results}
    assert len(machines) == 1, machines


def test_whatever_missed_its_aim_says_why(results: list[Result]) -> None:
    assert unreasoned(results, REASONS.read_text(encoding="utf-8")) == []
