"""Curves are runs of scenarios at several sizes; more markets are more city folders, on a cluster."""

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

from bench.figures import parsed, point
from bench.markets import CODES, busiest, more_cities, spread_over
from bench.report.results import read, scalings
from bench.scaling import PARTS, SHORT, SPARE_FILES, by_part, parser, rows, same_rate, summed, wanted
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
    assert rows(runs) == [("cpu, µs", "10: 20.0, 90: 30.0 sockets", "× 1.5, ≤ 1.3: MISSED")]


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
    assert {
        "search, the 3 nearest, even, by providers",
        "search, the 10 nearest, held, with a hold, by providers",
    } <= found["growth"].keys()
    assert {line.by for line in scalings(read(tmp_path)[0])} == {"providers"}
