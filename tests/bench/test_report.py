"""A report is made of what scenarios leave, stands alone, and says what it could not use."""

import argparse
import json
import math
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import all as everything
from bench import figures, offers, speed
from bench.__main__ import SCENARIOS
from bench.figures import command, perform, show, void
from bench.report import Unreadable, main, plots, write
from bench.report.markdown import REASONS, aims, facts, markdown, sections, unreasoned
from bench.report.page import number, page
from bench.report.results import Result, read, scalings

ROOT = Path(__file__).parents[2]
FACTS: dict[str, Any] = {
    "machine": {"cpu": "<Z80>", "cores": 2, "system": "Linux", "python": "3.11"},
    "versions": {"postgres": "18"},
    "commit": "0" * 40,
    "date": "2026-11-21T00:00:00+00:00",
    "options": {"workers": 2},
}


def left(folder: Path, name: str, **figures: Any) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"scenario": name.partition("-")[0], **FACTS, **figures}))


def a_point(at: float, value: float | None, of: str = "server CPU per position") -> dict[str, Any]:
    return {"of": of, "unit": "µs", "by": "sockets", "at": at, "value": value}


PEERS: dict[str, Any] = {
    "ratio_spreads": {
        "position_cpu_vs_node_ws": {"median": 0.61, "min": 0.52, "max": 0.7, "runs": 5, "each": [0.61]},
        "offer_p99_vs_postgres": {"median": 0.4, "min": 0.3, "max": 0.5, "runs": 5, "each": [0.4]},
    },
    "peers": {"node_ws": {"lacks": ["what is sent & lost"], "skipped": None}},
    "samples": [{"work": "positions", "run": 0}],
    "noisy": True,
    "load_average_before": 3.5,
}


def a_folder(folder: Path) -> None:
    left(
        folder,
        "offers",
        latency={"commit to frame": [[0.5, 1.0], [0.99, 9.0], [1.0, None]]},
        offers=261,
        lost_ms=None,
        tables=[
            {
                "title": "50 a second",
                "rows": [["commit <p99>", "9 ms", "≤ 5 ms: MISSED"], ["x", "1", "≤ 9: met"], ["y", "1", ""]],
            }
        ],
    )
    left(folder, "positions-1k", scaling=[a_point(1_000, 60.0)])
    left(folder, "positions-4k", scaling=[a_point(4_000, 66.0), a_point(4_000, None, "unknown")])
    left(folder, "peers", **PEERS)


def test_one_page_that_stands_alone(tmp_path: Path) -> None:
    a_folder(tmp_path)
    where = write(tmp_path)
    html = where.read_text(encoding="utf-8")
    assert where == tmp_path / "report.html"
    # Whatever a page can fetch it names by one of these; all that it shows is inside.
    assert set(re.findall(r"""(?:src|href)=["']?([^:"' >]*):""", html)) == {"data"}
    assert "://" not in html and "@import" not in html and "url(" not in html and "<script" not in html
    assert html.count("data:image/png;base64,") == 2
    assert "&lt;Z80&gt;" in html and "<Z80>" not in html and "what is sent &amp; lost" in html
    table = html[html.index("<table id=peers>") :]
    assert ">0.61<" in table and ">0.52 to 0.7<" in table and "≤ 0.5: MISSED" in table and "≤ 0.5: met" in table
    assert "load average 3.5" in html
    shown = html[html.index("<h2 id='offers'>") : html.index("<h2 id='peers'>")]
    assert "<td>commit &lt;p99&gt;</td><td>9 ms</td><td class='missed'>≤ 5 ms: MISSED</td>" in shown
    assert "<td class='met'>≤ 9: met</td>" in shown and "<td class=''></td>" in shown
    for picture in ("latency-offers.png", "scaling-server-cpu-per-position-by-sockets.png"):
        data = (tmp_path / picture).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", data[16:24])
        assert width > 500 and height > 300
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "latency-offers.png", "scaling-server-cpu-per-position-by-sockets.png",
    }  # fmt: skip


def test_a_scaling_curve_needs_two_sizes_and_takes_them_from_all_files(tmp_path: Path) -> None:
    a_folder(tmp_path)
    (line,) = scalings(read(tmp_path)[0])
    assert dict(line.points) == {1_000.0: [60.0], 4_000.0: [66.0]}
    (tmp_path / "positions-4k.json").unlink()
    assert scalings(read(tmp_path)[0]) == []


def test_what_is_none_of_ours_is_said_and_left_out(tmp_path: Path) -> None:
    a_folder(tmp_path)
    (tmp_path / "torn.json").write_text('{"machine":')
    (tmp_path / "other.json").write_text("[1, 2]")
    results, left_out = read(tmp_path)
    assert [one.name for one in results] == ["offers", "peers", "positions-1k", "positions-4k"]
    assert [one.partition(":")[0] for one in left_out] == ["other.json", "torn.json"]
    assert "torn.json" in page(results, {}, left_out)


def test_nothing_to_report_of_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unreadable, match="no results in"):
        write(tmp_path)
    assert main([str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert "There is no report: there is no folder" in said and "python -m bench all" in said


def test_without_matplotlib_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Unreadable, match="matplotlib is missing"):
        write(tmp_path)


def test_shares_have_a_step_for_each_nine_and_the_maximum_its_place() -> None:
    steps = [math.log10(plots.nines(share)) for share in (0.0, 0.9, 0.99, 0.999)]
    assert steps == pytest.approx([0, 1, 2, 3])
    assert plots.nines(1.0) == pytest.approx(1e5) and plots.nines(0.9999) < plots.nines(1.0)


def test_unknown_is_told_and_not_nothing() -> None:
    assert number(None) == number(math.nan) == "unknown or never"
    assert (number(0), number(0.0), number(12_345), number(True)) == ("0", "0", "12,345", "True")
    assert Result("x", "x", FACTS).curves() == {}


def test_everything_goes_on_after_a_failure_and_tells(tmp_path: Path) -> None:
    good = everything.run("good", [sys.executable, "-c", ""], 30.0)
    bad = everything.run("bad", [sys.executable, "-c", "raise SystemExit(3)"], 30.0)
    slow = everything.run("slow", [sys.executable, "-c", "import signal; signal.pause()"], 0.5)
    assert [one.code for one in (good, bad, slow)] == [0, 3, None]
    assert [one.good for one in (good, bad, slow)] == [True, False, False]
    assert everything.row(bad)[2] == "exit code 3: MISSED" and "too long" in everything.row(slow)[2]
    assert everything.row(good)[2] == "ran", "that it ran says nothing of its aims"
    assert everything.row(good, "2 met, 1 MISSED")[2] == "ran (2 met, 1 MISSED)"


def test_what_a_run_missed_is_counted_from_what_it_left(tmp_path: Path) -> None:
    rows = [["a", "1", "≤ 2: met"], ["b", "3", "≤ 2: MISSED"], ["c", "4", "≤ 2: void: 3 lines lost"], ["d", "5", ""]]
    left(tmp_path, "positions", tables=[{"title": "x", "rows": rows}, {"title": "y", "rows": rows[1:2]}])
    assert everything.verdicts(tmp_path / "positions.json") == "1 met, 2 MISSED, 1 void"
    left(tmp_path, "older")
    assert everything.verdicts(tmp_path / "older.json") == everything.verdicts(tmp_path / "none.json") == ""


def test_the_full_form_runs_each_load_that_has_an_aim_and_keeps_it_under_its_own_name(tmp_path: Path) -> None:
    def told(name: str, short: bool) -> dict[str, str]:
        found = everything.commands([name], tmp_path, short=short)
        assert all(words[-1] == str(tmp_path / f"{kept}.json") for kept, words in found.items())
        return {kept: " ".join(words[3:-2]) for kept, words in found.items()}

    assert told("offers", False) == {
        "offers": "offers",
        "offers-full": "offers --rate 100 --providers 5000",
        "offers-at-once": "offers --rate 100 --providers 5000 --at-once 100",
        "offers-full-every-4s": "offers --rate 100 --providers 5000 --fixes 0.25",
        "offers-at-once-every-4s": "offers --rate 100 --providers 5000 --at-once 100 --fixes 0.25",
    }
    assert told("positions", False) == {
        "positions": "positions --rates 2000,400,4000",
        "positions-one-worker": "positions --workers 1",
    }
    assert told("offers", True) == {"offers": "offers --short"}
    assert told("peers", True) == {"peers": "peers --short --runs 1 --only positions"}
    assert told("api", False) == {"api": "api"}
    limits = []
    for words in everything.FULL["offers"].values():
        shown = offers.parser().parse_args(words)
        limits.append(offers.aim_ms(shown.rate, shown.providers, shown.at_once))
    assert limits == [15, 10, 25, 10, 25], "each of the aims is looked at"


def test_all_runs_what_it_is_told_and_writes_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "found"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "all", "--short", "--only", "candidates", "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    assert json.loads((folder / "candidates.json").read_bytes())["scenario"] == "candidates"
    assert "search" in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "scaling-search-by-providers.png").exists()
    assert "1 runs" in done.stdout and str(folder / "report.html") in done.stdout


def test_a_scenario_that_is_none_is_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        everything.main(["--only", "sokets"])
    assert refused.value.code == 2


def test_tables_are_kept_as_they_were_shown_and_told_on_one_page(tmp_path: Path) -> None:
    left(
        tmp_path,
        "positions",
        command="python -m bench positions --workers 1",
        tables=[
            {"title": "2,000/s", "rows": [["server", "27.9 µs", "≤ 40 µs: met"], ["a|b", "154 µs", "≤ 40 µs: MISSED"]]}
        ],
    )
    left(
        tmp_path,
        "api",
        tables=[{"title": "medians", "rows": [["", "ours"], ["reads", "1"]]}, {"title": "none", "rows": []}],
    )
    page = tmp_path / "performance.md"
    assert main([str(tmp_path), "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.index("## positions") < text.index("## api") < text.index("## Why the missed ones are missed")
    assert (
        "`python -m bench positions --workers 1` · 2026-11-21T00:00:00+00:00 · commit 000000000000 · <Z80>, 2 cores"
        in text
    )
    assert "| server | 27.9 µs | ≤ 40 µs: met |" in text and "| a\\|b | 154 µs | **≤ 40 µs: MISSED** |" in text
    assert "|  | ours |\n|---|---|\n| reads | 1 |" in text and "**none**" not in text


def test_a_command_is_kept_without_what_is_somebodys() -> None:
    typed = [
        "positions",
        "--rates",
        "2000,400",
        "--json",
        "/home/me/x.json",
        "--url=http://secret",
        "--workers",
        "1",
        "--data",
        "days",
        "--short",
    ]
    assert command(typed) == "python -m bench positions --rates 2000,400 --url URL --workers 1 --short"
    assert command(["api", "--url", "http://secret", "--rate", "9"]) == "python -m bench api --url URL --rate 9"


def test_what_a_run_has_shown_is_in_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "x", "--json", "y"])

    async def scenario(_: Any) -> tuple[dict[str, Any], int]:
        show("what", [("cost", "1 µs", "")])
        return {"cost": 1}, 0

    for _ in range(2):
        assert perform(scenario, argparse.Namespace(json=tmp_path / "y.json")) == 0
    kept = json.loads((tmp_path / "y.json").read_bytes())
    timed = kept.pop("machine")["speed"]
    assert timed["before_ms"] > 0 < timed["after_ms"]
    took = f"{timed['before_ms']:.1f}, {timed['after_ms']:.1f} ms"
    assert kept == {
        "cost": 1,
        "command": "python -m bench x",
        "tables": [
            {"title": "what", "rows": [["cost", "1 µs", ""]]},
            {"title": "the machine", "rows": [["a fixed piece of work took, before and after", took, ""]]},
        ],
    }


def test_how_fast_the_machine_was_stands_beside_the_figures() -> None:
    timed = {"speed": {"before_ms": 51.25, "after_ms": 93.0}}
    result = Result("x", "x", FACTS | {"machine": FACTS["machine"] | timed})
    for told in (facts(result), result.facts):
        assert "Python 3.11, a fixed piece of work took 51.25 ms before and 93 ms after" in told
    assert "fixed piece" not in facts(Result("x", "x", FACTS)) + Result("x", "x", FACTS).facts, (
        "kept before it was timed"
    )


def test_the_same_work_is_timed_whenever_it_is_asked_for() -> None:
    assert speed.work() == speed.work()


async def a_void_run(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Its first table is shown before it turns out to be void."""
    show("before", [("cost", "1 µs", "≤ 2 µs: met"), ("others", "3", "")])
    void("3 lines lost")
    void("3 lines lost")
    show("after", [("cost", "3 µs", "≤ 2 µs: MISSED"), ("rest", "unknown", "≤ 2: unknown"), ("share", "1", "≤ 2: met")])
    return {}, 0


def test_a_run_that_is_void_meets_nothing_and_what_it_missed_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert perform(a_void_run, argparse.Namespace(json=tmp_path / "y.json")) == 1
    said = capsys.readouterr()
    assert "void: 3 lines lost" in said.err and "≤ 2: void: 3 lines lost" in said.out
    kept = json.loads((tmp_path / "y.json").read_bytes())
    assert kept["void"] == ["3 lines lost"]
    assert [row[2] for one in kept["tables"] for row in one["rows"]] == [
        "≤ 2 µs: void: 3 lines lost", "", "≤ 2 µs: MISSED", "≤ 2: unknown", "≤ 2: void: 3 lines lost", "",
    ]  # fmt: skip

    async def sound(_: argparse.Namespace) -> tuple[dict[str, Any], int]:
        show("what", [("cost", "1 µs", "≤ 2 µs: met")])
        return {}, 0

    assert perform(sound, argparse.Namespace(json=tmp_path / "y.json")) == 0, "the next run is another one"
    assert "void" not in json.loads((tmp_path / "y.json").read_bytes())


def test_every_aim_is_told_whatever_came_of_it_and_those_missed_without_a_reason_are_listed() -> None:
    rows = [
        ["server", "27.9 µs", "≤ 40 µs: met"],
        ["memory", "unknown", "≤ 20 KiB: unknown"],
        ["lag", "9 ms", "≤ 5 ms: void: 3 lines lost"],
        ["late", "9 ms", "≤ 5 ms: MISSED"],
        ["others", "1", ""],
    ]
    results = [Result(name, name, FACTS | {"tables": [{"title": "t", "rows": rows}]}) for name in ("api", "storm")]
    assert [line.split(" | ")[2] for line in aims(results)[2:]] == ["server", "memory", "lag", "late"] * 2
    assert [(one.scenario, one.row[0]) for one in unreasoned(results, "## Why\n\n### storm\n\nIt is.\n")] == [
        ("api", "lag"),
        ("api", "late"),
    ]
    assert unreasoned(results, "### api\n### storm\n") == []


def test_lines_that_a_run_kept_stand_on_both_pages() -> None:
    kept = {"title": "the <plans>", "rows": [], "text": ["accept", "  Index Scan jobs_pkey < 1"]}
    result = Result("tables", "tables", FACTS | {"tables": [kept]})
    assert "**the <plans>**\n\n```\naccept\n  Index Scan jobs_pkey < 1\n```\n" in markdown([result], "f", "p", "")
    html = page([result], {}, [])
    assert (
        "<details><summary>the &lt;plans&gt;</summary><pre>accept\n  Index Scan jobs_pkey &lt; 1</pre></details>"
        in html
    )


def test_kept_lines_are_kept_of_a_void_run_too(tmp_path: Path) -> None:
    async def scenario(_: Any) -> tuple[dict[str, Any], int]:
        figures.keep_text("plans", ["a", "b"])
        void("3 lines lost")
        return {}, 0

    assert perform(scenario, argparse.Namespace(json=tmp_path / "y.json")) == 1
    kept = json.loads((tmp_path / "y.json").read_bytes())["tables"][0]
    assert kept == {"title": "plans", "rows": [], "text": ["a", "b"]}


def test_a_void_run_is_called_so_beside_its_facts() -> None:
    assert facts(Result("x", "x", FACTS | {"void": ["3 lines lost", "nothing was offered"]})).endswith(
        " · **void: 3 lines lost; nothing was offered**"
    )
    # Of peers it says which ratios lost which runs, and is empty of a good one.
    assert "void" not in facts(Result("x", "x", FACTS)) + facts(Result("x", "x", FACTS | {"void": {}}))


WORDED = """## Why the missed ones are missed

### candidates

Both are known.

- **held**: passed over,
  one by one.

- **city**: too large.

### api

Slow.

### storm

Late.
"""


def searched(what: str, row: str, verdict: str) -> dict[str, Any]:
    return {"title": f"100 providers, the 3 nearest, {what}", "rows": [[row, "500 µs", f"≤ 400 µs: {verdict}"]]}


def test_a_reason_is_about_the_rows_that_it_names() -> None:
    def of(*tables: dict[str, Any]) -> tuple[list[str], str]:
        results = [Result("candidates-2", "candidates", FACTS | {"tables": list(tables)}), Result("api", "api", FACTS)]
        told = markdown(results, "f", "p", WORDED).partition("## Why the missed ones are missed")[2]
        return [one.title for one in unreasoned(results, WORDED)], told

    held, even = searched("held", "p99", "MISSED"), searched("even", "p99", "MISSED")
    assert of(held, even)[0] == [even["title"]], "what is said of the held is said of nobody else"
    assert of(searched("even", "largest to smallest city", "MISSED"))[0] == []
    assert of(searched("even", "p99", "void: 3 lines lost"))[0] == [even["title"]]
    # Nothing stands on the page beside what was met.
    assert of(searched("held", "p99", "met")) == ([], "")
    told = of(held)[1]
    assert "### candidates\n\nBoth are known.\n\n- **held**: passed over,\n  one by one.\n" in told
    assert "too large" not in told and "### api" not in told and "### storm" not in told
    assert of(even)[1] == "", "no reason that is not its own"


def test_a_miss_without_a_reason_ends_with_1_and_the_page_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left(tmp_path, "nobody", tables=[{"title": "t", "rows": [["late", "9 ms", "≤ 5 ms: MISSED"]]}])
    page = tmp_path / "performance.md"
    assert main([str(tmp_path), "--page", str(page)]) == 1
    assert capsys.readouterr().err == "no reason in reasons.md: nobody, t, late: ≤ 5 ms: MISSED\n"
    assert "**≤ 5 ms: MISSED**" in page.read_text(encoding="utf-8")
    assert main([str(tmp_path)]) == 0, "the other page gives no reasons"


def test_the_reasons_that_are_kept_can_be_read() -> None:
    head, found = sections(REASONS.read_text(encoding="utf-8"))
    assert head.startswith("## Why the missed ones are missed\n")
    assert {one.scenario for one in found} <= set(SCENARIOS)
    assert all(one.intro or one.points for one in found)


def test_the_commit_of_a_run_is_that_of_its_begin_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "a" * 40, "b" * 40
    assert (
        figures.spanned(first, first) == first and figures.spanned(first, f"{first}-dirty") == f"{first}..{first}-dirty"
    )
    assert figures.spanned(f"{first}..{second}", second) == f"{first}..{second}"
    at = iter([first, second, first, first])
    monkeypatch.setattr(figures, "commit", lambda: next(at))

    async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
        return figures.complete({}, shown, {}), 0

    for expected in (f"{first}..{second}", first):
        assert perform(scenario, argparse.Namespace(json=tmp_path / "y.json")) == 0
        assert json.loads((tmp_path / "y.json").read_bytes())["commit"] == expected


def test_what_is_shortened_of_a_commit_is_its_hex() -> None:
    def of(**found: Any) -> list[str]:
        result = Result("x", "x", FACTS | found)
        return [one for told in (facts(result), result.facts) for one in told.split(" · ") if "commit" in one]

    commit = f"{'a' * 40}..{'b' * 40}-dirty"
    assert of(commit=commit) == [f"commit {'a' * 12}..{'b' * 12}-dirty"] * 2
    (told, again) = of(commit="unknown", elsewhere=True)
    assert told == again and told.startswith("a server elsewhere") and "load generator" in told
