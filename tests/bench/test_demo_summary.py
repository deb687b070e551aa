"""The summary of a run, its exit code, and the options that lead to it."""

import argparse
import io
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from bench.demo import summary
from bench.demo.books import Books
from bench.demo.command import duration_s, main, market_of, overrides, parser
from bench.demo.hiring import Hired
from bench.demo.recording import Recording, Request, read
from bench.demo.replay import Result
from bench.demo.stamps import Stamps
from bench.demo.tally import Applied, Tally, lost_events
from dispatch.markets import Markets

EXTRACT = Path("bench/data/sf")
HIRED = Hired(drivers=(), registered=40, approved=39, seconds=2.5)


def result(**changed: Any) -> Result:
    tally = Tally(jobs={"a": "completed", "b": "completed", "c": "cancelled", "d": "offered", "e": "in_progress"})
    tally.accept_ms = [10.0, 20.0]
    tally.answers = {"ok": 2, "accepted": 1}
    tally.assignments.told_yes("a", 1, "p")
    plain: dict[str, Any] = {
        "tally": tally,
        "offer_ms": [1.0, 2.0, 3.0],
        "lost_events": 0,
        "seconds": 60.0,
        "server_cpu_s": 12.5,
        "warm_trips": 1,
        "interrupted": False,
        "books": Books(0, 40, 0, {"USD": {"net": 8000, "fees": 2000, "jobs": 2, "drivers": 1, "best": 8000}}),
    }
    return Result(**(plain | changed))


@pytest.mark.parametrize(
    ("books", "code"),
    [(Books(0, 4, 0, {}), 0), (Books(1, 4, 0, {}), 1), (Books(0, 4, 1, {}), 1), (Books(None), 1)],
    ids=["clean", "a difference", "a wallet told wrong", "not run"],
)
def test_books_that_do_not_add_up_fail_the_run(books: Books, code: int) -> None:
    assert summary.exit_code(told(books=books)) == code


def told(**changed: Any) -> dict[str, Any]:
    return summary.report(result(**changed), HIRED, {"speed": 20}, {"postgres": "18"})


def test_the_summary_has_every_key_that_scripts_rely_on() -> None:
    figures = orjson.loads(orjson.dumps(told()))
    assert figures["drivers"] == {"registered": 40, "approved": 39, "seconds": 2.5}
    assert figures["jobs"]["completed"] == 2
    assert figures["jobs"]["cancelled"] == 1
    assert figures["double_assignments"] == 0
    assert figures["lost_events"] == 0
    assert figures["offers"] == 3
    assert figures["offer_latency_ms"]["p50"] == 2.0
    assert figures["offer_latency_ms"]["p99"] == 3.0
    assert figures["accept_latency_ms"]["p50"] == 10.0
    assert figures["accept_latency_ms"]["p99"] == 20.0
    assert figures["positions"] == 0
    assert figures["server_cpu_s"] == 12.5
    assert figures["seconds"] == 60.0
    assert figures["commit"]
    assert summary.exit_code(figures) == 0


def test_an_offer_that_never_came_is_null_and_counted() -> None:
    figures = told(offer_ms=[1.0, math.inf])
    assert figures["offer_latency_ms"]["p50"] == 1.0
    assert figures["offer_latency_ms"]["p99"] is None
    assert figures["offers_never_seen"] == 1
    assert figures["offers"] == 2


def test_a_dropped_event_fails_the_run() -> None:
    client = Applied()
    client.event(1)
    client.event(3)
    figures = told(lost_events=lost_events({"u": [1, 2, 3]}, {"u": client}))
    assert figures["lost_events"] == 1
    assert summary.exit_code(figures) == 1


def test_a_double_assignment_fails_the_run_also_when_it_was_stopped_by_hand() -> None:
    broken = result(interrupted=True)
    broken.tally.assignments.told_yes("a", 1, "another")
    figures = summary.report(broken, HIRED, {}, {})
    assert figures["double_assignments"] == 1
    assert summary.exit_code(figures) == 1


def test_a_run_stopped_by_hand_says_so() -> None:
    assert summary.exit_code(told(interrupted=True)) == 130


@pytest.mark.parametrize(
    ("offer_ms", "words"), [([1.0, 2.0], "1.0 ms, 2.0 ms"), ([1.0, math.inf], "1.0 ms, never"), ([], "-, -")]
)
def test_the_table_says_what_was_measured(offer_ms: list[float], words: str) -> None:
    shown = io.StringIO()
    summary.print_table(told(offer_ms=offer_ms, server_cpu_s=None), Console(file=shown, width=80))
    text = shown.getvalue()
    assert words in text
    assert "2 of 5" in text
    assert "40, 39 in 2.5 s" in text
    assert "unknown here" in text


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("5m", 300), ("1h", 3600), ("1.5m", 90)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-5s", "5 days", "s", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no duration"):
        duration_s(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--speed", "0"],
        ["--speed", "101"],
        ["--demand", "0"],
        ["--demand", "2"],
        ["--cabs", "0"],
        ["--for", "x"],
        ["--xyz"],
    ],
)
def test_impossible_options_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        parser().parse_args(arguments)
    assert refusal.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_folder_without_a_recording_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    assert "no requests_2008-05-23*.csv.gz" in capsys.readouterr().err


def test_more_cabs_than_the_recording_has_are_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cabs", "9999"]) == 2
    assert "9999 are wanted" in capsys.readouterr().err


def test_the_recording_decides_the_market_and_the_time_lapse_its_speeds() -> None:
    markets = Markets.load()
    market = market_of(read(EXTRACT, "2008-05-23", 60), markets)
    assert market.code == "sf"
    changed = overrides(market, markets.default, 20)
    assert changed == {
        "sf": {"speed_mps": 150.0, "speed_max_mps": 1100.0, "open_board": False},
        "bkk": {"speed_max_mps": 1100.0},
    }
    assert Markets.load(changed)["sf"].speed_mps == 150
    assert overrides(market, market, 20) == {"sf": changed["sf"]}


def test_a_recording_from_nowhere_has_no_market() -> None:
    lost = Recording(0, 60, (Request(0, (0.0, 0.0), None),), {}, (), 0)
    with pytest.raises(ValueError, match="no request lies in one of the markets: bkk, sf"):
        market_of(lost, Markets.load())


def test_stamps_are_read_on_from_where_they_ended_and_from_every_worker(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    assert stamps.read_on() == {}
    (tmp_path / "stamps.0").write_text("a\t1\nb\t2\nc\t", encoding="utf-8")
    (tmp_path / "stamps.1").write_text("d\t4\n", encoding="utf-8")
    assert stamps.read_on() == {"a": 1, "b": 2, "d": 4}
    assert stamps.read_on() == {}
    with (tmp_path / "stamps.0").open("a", encoding="utf-8") as file:
        file.write("3\n")
    assert stamps.read_on() == {"c": 3}
    assert stamps.by_offer == {"a": 1, "b": 2, "c": 3, "d": 4}
