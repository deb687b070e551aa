"""Evidence: pairs are pairs, intervals hold what they should, and the page says what the rows say."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from bench.matching import evidence, page
from bench.matching.city import City, Days, made_up

DATES = ("2001-01-01", "2001-01-02", "2001-01-03")


class SmallDays:
    """Days of some trips each, out of nothing."""

    def city(self, dates: Sequence[str], per_busy: float, **given: Any) -> City:
        market = evidence.market_with("nearest")
        return made_up(len(dates) * 100 + int(dates[0][-2:]), market, trips=60, hours=1, per_busy=per_busy)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    days = cast("Days", SmallDays())
    return list(evidence.carried_out(evidence.grid(DATES, DATES, 1, 2), days, 1))


def test_every_policy_meets_the_same_customers_and_cabs(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 3 * 4 * (3 + 2)
    pairs: dict[Any, set[Any]] = {}
    for row in rows:
        pairs.setdefault((row["density"], row["fleet"], row["dates"], row["seed"]), set()).add(
            (row["jobs"], row["cabs"])
        )
    assert all(len(same) == 1 for same in pairs.values())


def test_a_fleet_is_so_large_that_its_cabs_are_busy_for_its_share(rows: list[dict[str, Any]]) -> None:
    """A little city may miss it by more than a large one: its fleets come in whole cabs."""
    market = evidence.market_with("nearest")
    sizes = {}
    for fleet, aim in evidence.FLEETS.items():
        sizes[fleet], busy = evidence.sized(
            lambda per_busy: made_up(5, market, trips=2_000, hours=3, per_busy=per_busy), fleet
        )
        assert busy == pytest.approx(aim, abs=evidence.WITHIN)
    assert sizes["scarce"] < sizes["balanced"] < sizes["plenty"]
    assert all(0 < row["busy"] <= 1 for row in rows)
    assert len({row["per_busy"] for row in rows if row["density"] == "dense" and row["fleet"] == "plenty"}) == 1


def _row(policy: str, density: str, fleet: str, window_s: float | None, **changed: float) -> dict[str, Any]:
    fixed = {"pickup_m": 100.0, "wait_p50_s": 50.0, "served": 0.9} | changed
    where = {"density": density, "fleet": fleet, "dates": ("a",), "seed": 1}
    return {"policy": policy, "window_s": window_s, "weights": {}, **where, **fixed}


@pytest.fixture
def swept() -> list[dict[str, Any]]:
    """Longer windows are better in all cities but the last."""
    made = []
    for density in evidence.STRETCHES:
        for fleet in evidence.FLEETS:
            last = (density, fleet) == ("dense", "plenty")
            made += [
                _row("nearest", density, fleet, None),
                _row("batch", density, fleet, 2.0, pickup_m=90.0),
                _row("batch", density, fleet, 4.0, pickup_m=80.0, wait_p50_s=52.0),
                _row("batch", density, fleet, 6.0, pickup_m=103.0 if last else 50.0),
                _row("batch", density, fleet, 10.0, pickup_m=50.0, served=0.89 if last else 0.9),
            ]
    return made


def test_the_default_is_chosen_by_the_rule(swept: list[dict[str, Any]]) -> None:
    """Nearer in sum wins, unless it drives further somewhere or leaves people standing."""
    best = evidence.ranked(swept)
    assert [(setting[0], fits) for _, fits, setting in best] == [(4.0, True), (2.0, True), (10.0, False), (6.0, False)]
    assert best[0][0] == pytest.approx((0.8 + 1.04) / 2)


def test_the_page_ranks_what_was_swept(swept: list[dict[str, Any]]) -> None:
    table = page._tuning(swept).splitlines()
    first, last = table[-5 + 1], table[-1]
    assert first.startswith("| 4 s | 0.920 |  | -20 / +4 |")
    assert last.startswith("| 6 s | ") and last.endswith(
        "| no | -50 / +0 | -50 / +0 | -50 / +0 | -50 / +0 | -50 / +0 | +3 / +0 |"
    )


def test_the_page_says_what_explanations_cost() -> None:
    kept = {"policy": "waves", "pairs": [{}] * 6, "overhead_p50": 0.02, "overhead_min": -0.01, "overhead_max": 0.04}
    kept |= {"rounds_written": 1_234, "date": "2001-01-01T00:00:00Z", "commit": "0123456789"}
    text = page._explaining([kept, kept | {"overhead_p50": 0.06}])
    assert "| waves | 6 | +2.0 % [-1.0, +4.0] | at most 5 %: met | 1,234 | 2001-01-01, 012345678 |" in text
    assert text.count("**missed**") == 1


def test_a_sweep_sees_the_days_for_tuning_alone() -> None:
    runs = evidence.sweep(evidence.TUNED_ON)
    assert {date for run in runs for date in run.dates} == set(evidence.TUNED_ON)
    assert {run.window_s for run in runs if run.policy == "batch"} == set(evidence.SWEEP_S)


def test_a_policy_beside_itself_is_no_better(rows: list[dict[str, Any]]) -> None:
    pairs = evidence.paired(rows, "one day", "scarce", "nearest", "pickup_m")
    assert len(pairs) == len(DATES)
    assert evidence.interval(pairs, ratio=True) == (1.0, 1.0, 1.0)
    assert evidence.interval(pairs, ratio=False) == (0.0, 0.0, 0.0)


def test_an_interval_holds_the_value_and_widens_with_the_spread() -> None:
    steady = evidence.interval([(9.0, 10.0), (18.0, 20.0), (27.0, 30.0)], ratio=True)
    assert steady == pytest.approx((0.9, 0.9, 0.9))
    value, low, high = evidence.interval([(5.0, 10.0), (20.0, 20.0), (30.0, 30.0), (12.0, 10.0)], ratio=True)
    assert low < value < high
    assert value == pytest.approx(67 / 70)


def test_the_page_says_what_was_missed_and_where_it_does_not_help(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    solves = [{"jobs": 1_000, "cabs": 1_000, "times": 1, "p50_ms": 50.0, "p99_ms": 170.0, "max_ms": 170.0}]
    for row in rows:
        # A world in which batch drives a tenth further everywhere, and nothing else differs.
        if row["policy"] == "batch":
            (other,) = (
                one
                for one in rows
                if one["policy"] == "nearest"
                and all(one[key] == row[key] for key in ("density", "fleet", "dates", "seed"))
            )
            row |= {name: other[name] for name in other if name not in ("policy", "window_jobs")}
            row["pickup_m"] = 1.1 * other["pickup_m"]
    kept = {"made_by": "x", **evidence.stamp(), "fleets": evidence.FLEETS, "rows": rows, "solving": solves}
    kept["stretches"] = {density: asdict(stretch) for density, stretch in evidence.STRETCHES.items()}
    (tmp_path / "policies.json").write_bytes(orjson.dumps(kept))
    text = page.text(tmp_path)
    assert text.count("**missed**") == 6 + 1
    assert "+10.0 % [+10.0 %, +10.0 %]" in text
    top = text.split("## What was run")[0]
    assert top.count("pickups +10 % and +10 %, median wait +0 % and +0 %") == 3 and "a window of 2 s" in top
    helps_not = text.split("## Where `batch` does not help")[1].split("\n## ")[0]
    assert helps_not.count("| pickup | nearest |") == 6
    for density in ("One day", "Dense"):
        for fleet in evidence.FLEETS:
            assert f"## {density}, {fleet}" in text


def test_pairs_that_a_stopped_run_left_half_done_are_left_out(rows: list[dict[str, Any]]) -> None:
    last = [row for row in rows if not (row["seed"] == 1 and row["policy"] == "batch" and row["dates"] == (DATES[0],))]
    assert len(page.whole(last)) == len(rows) - 3 * 4
    assert page.whole(rows) == rows


def test_days_for_tuning_are_not_in_the_tables() -> None:
    runs = evidence.grid([date for date in DATES if date not in evidence.TUNED_ON], DATES, 1, 1)
    assert not {date for run in runs if run.density == "one day" for date in run.dates} & set(evidence.TUNED_ON)


def test_a_problem_to_time_has_its_size() -> None:
    question = evidence.problem(20, 30, 1)
    assert len(question.searches) == len(question.found) == 20
    assert evidence.solving([(20, 30)], 3)[0]["times"] == 3
