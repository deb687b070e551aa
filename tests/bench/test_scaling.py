"""Curves are runs of scenarios at several sizes; more markets are more city folders, on a cluster."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

from bench.all import Done
from bench.figures import parsed, point, said
from bench.markets import CODES, busiest, more_cities, spread_over, wrong
from bench.report.results import read, scalings
from bench.scaling import PARTS, SHORT, SPARE_FILES, by_part, parser, rows, same_rate, summed, wanted, went
from dispatch.markets import Markets
from tests.support.scenario import run


@pytest.mark.parametrize("short", [True, False])
def test_each_run_is_one_that_its_scenario_takes(short: bool) -> None:
    todo, left_out = wanted(
        parsed(parser(), ["--only", ",".join(PARTS), *(["--short"] if short else [])], SHORT), 20_000
    )
    assert left_out == [] and [part for part in PARTS if any(one.part == part for one in todo)] == list(PARTS)
    for one in todo:
        importlib.import_module(f"bench.{one.scenario}").parser().parse_args(one.options)
    assert sum(one.scenario == "positions" and one.part == "sockets" for one in todo) == (2 if short else 4)


def test_a_size_that_does_not_fit_is_told() -> None:
    shown = parser().parse_args(["--only", "sockets", "--sockets", "1000,5000"])
    todo, left_out = wanted(shown, 5_000 + SPARE_FILES - 1)
    assert {one.options[one.options.index("--sockets") + 1] for one in todo} == {"900", "1000"}
    assert len(left_out) == 1 and left_out[0].startswith("5,000 sockets: a process may open 5,299 files")
    assert wanted(shown, 5_000 + SPARE_FILES)[1] == []


def left(part: str, scenario: str, *points: dict[str, Any]) -> dict[str, Any]:
    return {"part": part, "scenario": scenario, "options": [], "figures": {"scaling": list(points)}}


def test_curves_of_a_part_go_by_its_own_size() -> None:
    runs = [
        left(
            "sockets",
            "positions",
            point("cpu", "µs", "sockets", 10, 20.0),
            point("cpu", "µs", "positions a second", 10, 1.0),
        ),
        left(
            "sockets",
            "positions",
            point("cpu", "µs", "sockets", 90, 30.0),
            point("cpu", "µs", "positions a second", 90, 2.0),
        ),
        left("workers", "positions", point("cpu", "µs", "workers", 1, 30.0), point("cpu", "µs", "sockets", 50, 99.0)),
    ]
    assert [(part, line.of, sorted(line.points)) for part, line in by_part(runs)] == [("sockets", "cpu", [10, 90])]
    found = summed(runs, ["too large"])
    assert found["growth"] == {"cpu, by sockets": 1.5}
    assert len(found["scaling"]) == 6 and found["left_out"] == ["too large"]
    assert rows(runs, parser().parse_args([])) == [("cpu, µs", "10: 20.0, 90: 30.0 sockets", "× 1.5")]


COST, FULL_SIZES = "server CPU per position, one a second each, 1 workers", (1_000, 19_500)


@pytest.mark.parametrize(
    ("of", "measured", "options", "told"),
    [
        (COST, FULL_SIZES, (), "× 1.5, ≤ 1.3: MISSED"),
        (COST, FULL_SIZES, ("--short", "--sockets", "1000,19500"), "× 1.5"),
        (COST, (1_000, 10_000), (), "× 1.5"),
        (COST, (5_000, 19_500), (), "× 1.5"),
        (COST, FULL_SIZES, ("--sockets", "1000,19500,30000"), "× 1.5"),
        ("idle server CPU", FULL_SIZES, (), "× 1.5"),
    ],
)
def test_growth_is_judged_where_the_sizes_are_those_of_the_aim(
    of: str, measured: tuple[int, int], options: tuple[str, ...], told: str
) -> None:
    small, large = (point(of, "µs", "sockets", size, cost) for size, cost in zip(measured, (20.0, 30.0), strict=True))
    shown = parsed(parser(), list(options), SHORT)
    ((_, _, found),) = rows([left("sockets", "positions", small, large)], shown)
    assert found == told


def test_a_size_that_is_not_there_is_one_that_was_missed() -> None:
    found = went([Done("sockets: positions --sockets 19500", 1, 3.0), Done("a", 0, 1.0)], ["30,000 sockets: ulimit -n"])
    assert [(said(one), one[1]) for one in found] == [
        ("MISSED", "3 s"), ("", "1 s"), ("MISSED", "30,000 sockets: ulimit -n"),
    ]  # fmt: skip


def test_all_sizes_are_compared_at_one_rate() -> None:
    rates = [{"rate": 5_000, "server_cpu_us_per_position": 9.0}, {"rate": 1_000, "server_cpu_us_per_position": 21.0}]
    (one,) = same_rate({"sockets": 5_000, "rates": rates})
    assert (one["by"], one["at"], one["value"]) == ("sockets", 5_000, 21.0)


def test_more_cities_are_markets_of_their_own(tmp_path: Path) -> None:
    markets = Markets.load(folder=more_cities(tmp_path, CODES))
    every = [markets[code] for code in CODES]
    places = spread_over(every, 24, seed=1)
    assert [found and found.code for found in markets.at_many(places)] == list(CODES) * 3
    assert not any(market.open_board for market in every)
    assert markets.default.code == CODES[0]
    assert not list(tmp_path.rglob("__pycache__"))


def test_how_even_nodes_are() -> None:
    assert busiest([10, 10, 10]) == 1
    assert busiest([30, 0, 0]) == 3
    assert math.isnan(busiest([0, 0]))


def test_markets_that_did_not_take_all_are_told() -> None:
    one = {
        "markets": 4,
        "taken_by_server": 90,
        "positions": 90,
        "lines_lost": 0,
        "errors": {},
        "with_jobs": {"requests_failed": {}},
    }
    assert wrong(one) == []
    assert wrong(one | {"taken_by_server": 89}) == ["89 of 90 positions were taken in 4 markets"]
    assert len(wrong(one | {"lines_lost": 1})) == len(wrong(one | {"with_jobs": {"requests_failed": {"X": 1}}})) == 1


def test_markets_share_a_cluster(tmp_path: Path) -> None:
    load = ("--providers", "60", "--customers", "10", "--rate", "6", "--for", "1.5", "--warm-up", "0.5")
    found = run(tmp_path, "markets", "--markets", "1,4", *load)
    assert [one["markets"] for one in found["measured"]] == [1, 4]
    for one in found["measured"]:
        assert one["taken_by_server"] == one["positions"] > 0
        assert one["server_cpu_us_per_position"] > 0 and one["errors"] == {} and one["lines_lost"] == 0
        assert len(one["nodes_commands"]) == 3 and sum(one["nodes_commands"]) > 0
        assert one["with_jobs"]["jobs_offered"] > 0 and one["with_jobs"]["requests_failed"] == {}
    lines = {line.of: line for line in scalings(read(tmp_path)[0])}
    assert sorted(lines["server CPU per position"].points) == [1, 4]


def test_a_curve_of_runs(tmp_path: Path) -> None:
    options = (
        "--only",
        "providers,workers",
        "--providers",
        "300,900",
        "--searches",
        "20",
        "--spread",
        "1",
        "--busy",
        "40",
    )
    found = run(tmp_path, "scaling", *options, "--for", "0.5")
    assert [(one["part"], one["scenario"]) for one in found["runs"]] == [
        ("providers", "candidates"),
        ("workers", "positions"),
    ]
    assert all(one["figures"]["machine"] for one in found["runs"]), "each run is kept whole"
    runs, curves, _ = found["tables"]
    assert [row[2] for row in runs["rows"]] == ["ran", "ran"] and curves["title"] == "cost by size"
    assert any(row[0].startswith("search, the 3 nearest, even") and row[2].startswith("× ") for row in curves["rows"])
    assert found["command"].startswith("python -m bench ")
    assert {
        "search, the 3 nearest, even, by providers",
        "search, the 10 nearest, held, with a hold, by providers",
    } <= found["growth"].keys()
    assert {line.by for line in scalings(read(tmp_path)[0])} == {"providers"}
