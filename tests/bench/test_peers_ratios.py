"""Ratios are of the same run, count what never came as it is, and say no more than they are enough for."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from bench.peers.command import code_of, conditions_of, figures_of, rows_of
from bench.peers.ratios import DEMANDED, NEVER, TARGETS, Pairs, compare, fault, judged, ratio, spread_of, verdict
from bench.peers.works import SHORT, Sample


def test_a_ratio_pairs_figures_of_one_run_only() -> None:
    samples = [
        {"side": "ours", "run": 0, "v": 1.0},
        {"side": "them", "run": 0, "v": 2.0},
        {"side": "them", "run": 1, "v": 100.0},
        {"side": "ours", "run": 2, "v": 9.0},
        {"side": "them", "run": 2, "v": 3.0},
        {"side": "them", "run": 3, "v": None},
        {"side": "ours", "run": 3, "v": 5.0},
    ]
    # A figure that never came is infinite: theirs gives 0, ours is over everything.
    assert ratio(samples, "ours", "them", lambda one: one["v"]) == Pairs([0.5, 3.0, 0.0], dropped=1)
    assert ratio(samples, "them", "ours", lambda one: one["v"]) == Pairs([2.0, 1 / 3, math.inf], dropped=1)
    assert ratio(samples, "ours", "nobody", lambda one: one["v"]) == Pairs([])


def of_runs(ours: Sequence[float | None], theirs: Sequence[float | None], **more: object) -> dict[str, Any]:
    """The spread of offers' p99; `more` is true of our first run."""
    samples = [
        {"work": "offers", "run": run, "side": side, "v": value, **(more if (run, side) == (0, "ours") else {})}
        for side, values in (("ours", ours), ("theirs", theirs))
        for run, value in enumerate(values)
    ]
    return spread_of(ratio(samples, "ours", "theirs", lambda one: one["v"]))


def test_what_never_came_is_no_run_less() -> None:
    """Three runs of five are good, and those without our offers count as what they are."""
    name = "offer_p99_vs_postgres"
    never = of_runs([1.0, None, None, 1.0, None], [4.0] * 5)
    assert (never["median"], never["runs"], never["max"]) == (NEVER, 5, NEVER)
    assert verdict(name, never) == "≤ 0.5 (unsure, runs lie on both sides): MISSED"
    assert orjson.loads(orjson.dumps(never)) == never, "JSON has no infinity"
    twice = of_runs([1.0, None, None, 1.0, 1.0], [4.0] * 5, offers_never_seen=2)
    assert verdict(name, twice) == "≤ 0.5, not judged: 0 pairs dropped, 1 void"
    assert of_runs([1.0] * 5, [None] * 5)["median"] == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "more", "said"),
    [
        ([1.0] * 5, [4.0] * 5, {}, "≤ 0.5: met"),
        ([3.0] * 5, [4.0] * 5, {}, "≤ 0.5: MISSED"),
        ([1.0] * 4, [4.0] * 4, {}, "≤ 0.5, not judged: 4 of 5 pairs"),
        ([1.0, 1.0, 1.0, 1.0, 3.0], [4.0] * 5, {}, "≤ 0.5 (unsure, runs lie on both sides): met"),
        ([1.0, 3.0, 3.0, 3.0, 3.0], [4.0] * 5, {}, "≤ 0.5 (unsure, runs lie on both sides): MISSED"),
        # CPU that was taken for nothing, a stamp after its frame, a run that one side has not done: not compared, and said.
        ([1.0] * 5 + [0.0], [4.0] * 6, {}, "≤ 0.5, not judged: 1 pairs dropped, 0 void"),
        ([1.0] * 6, [4.0] * 5 + [-1.0], {}, "≤ 0.5, not judged: 1 pairs dropped, 0 void"),
        ([1.0] * 6, [4.0] * 5, {}, "≤ 0.5, not judged: 1 pairs dropped, 0 void"),
        ([1.0] * 5, [4.0] * 5, {"misplaced": 1}, "≤ 0.5, not judged: 0 pairs dropped, 1 void"),
        ([3.0] * 5, [4.0] * 5, {"misplaced": 1}, "≤ 0.5: MISSED"),
    ],
)
def test_what_a_spread_is_enough_to_say(
    ours: list[float | None], theirs: list[float | None], more: dict[str, object], said: str
) -> None:
    assert verdict("offer_p99_vs_postgres", of_runs(ours, theirs, **more)) == said
    assert verdict("offer_cpu_vs_postgres", of_runs(ours, theirs, **more)) == ""


def test_work_that_was_not_done_is_said() -> None:
    done = {"work": "tracking", "positions": 1_200, "frames": 1_181, "pairs": 200, "lines_lost": 0, "errors": {}}
    assert fault(done) == "", "what the two clocks may differ by at both ends"
    assert fault(done | {"frames": 1_170}) == "30 frames missing"
    assert fault({"work": "positions", "misplaced": 3, "errors": {"RATE_LIMITED": 2}}) == "3 misplaced, 2 errors"
    assert fault({"work": "offers", "requests_failed": {"HTTP_500": 4}, "offers_never_seen": 1}) == (
        "1 offers never seen, 4 requests failed"
    )


def shown_of(*, short: bool, against: Sequence[str] = ("node_ws", "postgres")) -> argparse.Namespace:
    return argparse.Namespace(short=short, only=["positions", "offers"], against=list(against))


def five_runs(sides: Sequence[str], **more: object) -> list[Sample]:
    return [
        {"work": "positions", "run": run, "side": side, "rate": 2_000.0, "cpu_us": {"all": cost, "server": cost}, "others_cores": 0.02 * run,
         "misplaced": 0, **more}
        for run in range(5) for side, cost in zip(sides, (2.0, 10.0), strict=True)
    ]  # fmt: skip


def test_what_is_missing_is_in_the_figures_the_table_and_the_exit_code() -> None:
    samples = five_runs(["ours", "postgres_usual"])
    samples[0]["misplaced"] = 7
    failed = {"offers": "TimeoutError"}
    skipped = {"node_ws": "node is not\ninstalled"}
    found = figures_of(samples, shown_of(short=False), SHORT, 0.4, failed, skipped)
    assert found["ratios"]["position_cpu_vs_postgres"] == 0.2
    assert found["ratios"].keys() >= DEMANDED.keys() and found["ratios"]["offer_p99_vs_postgres"] is None
    assert found["unmeasured"] == ["position_cpu_vs_node_ws", "offer_p99_vs_postgres"], "what was asked for"
    assert (found["noisy"], found["others_cores"]["ours"]) == (False, {"median": 0.04, "max": 0.08})
    assert code_of(found) == 1 and code_of(found | {"failed": {}}) == 1
    assert code_of(found | {"failed": {}, "unmeasured": []}) == 0
    assert conditions_of(found) == [
        ("machine", "load average 0.4 before", "quiet"),
        ("others beside ours", "0.04 cores, at most 0.08", ""),
        ("others beside postgres usual", "0.04 cores, at most 0.08", ""),
        ("failed: offers", "TimeoutError", ""),
        ("skipped: Node ws", "node is not installed", ""),
        ("void: positions, run 1, ours", "7 misplaced", ""),
    ]
    assert rows_of(found)[-2:] == [
        ("position_cpu_vs_node_ws", "could not be measured", "≤ 0.5"),
        ("offer_p99_vs_postgres", "could not be measured", "≤ 0.5"),
    ]
    assert (
        "position_cpu_vs_postgres",
        "0.2 (0.2 to 0.2; 5; 1 void)",
        "≤ 0.3, not judged: 0 pairs dropped, 1 void",
    ) in (rows_of(found))


def test_a_ratio_without_any_pair_is_told() -> None:
    samples = five_runs(["ours", "postgres_usual"])
    for one in samples:
        one["cpu_us"] = {"all": 0.0, "server": 1.0}
    found = figures_of(samples, shown_of(short=False, against=["postgres"]), SHORT, 0.4, {}, {})
    assert ("position_cpu_vs_postgres", "no pair; 5 dropped", "≤ 0.3") in rows_of(found)
    assert [row[0] for row in rows_of(found)].count("position_cpu_vs_postgres") == 1
    assert code_of(found) == 1


def test_the_short_form_judges_nothing() -> None:
    samples = five_runs(["ours", "postgres_usual"])
    full, short = (
        figures_of(samples, shown_of(short=one, against=["postgres"]), SHORT, 0.4, {}, {}) for one in (False, True)
    )
    assert ": met" in "".join(row[2] for row in rows_of(full))
    assert [row[2] for row in rows_of(short) if row[2]] == [] and short["unmeasured"] == []
    assert code_of(short) == 0


def test_a_machine_that_others_work_on_is_not_quiet() -> None:
    samples = five_runs(["ours", "postgres_usual"])
    for one in samples[1::2]:
        one["others_cores"] = 0.3
    for load, some in ((0.4, samples), (1.5, five_runs(["ours", "postgres_usual"]))):
        found = figures_of(some, shown_of(short=False), SHORT, load, {}, {})
        assert found["noisy"] and conditions_of(found)[0][2] == "not quiet"


def test_the_ratios_that_others_read_have_their_names() -> None:
    sides = ["ours", "node_ws_usual", "socketio_usual", "postgres_usual", "node_ws_best"]
    samples = [
        {"work": "positions", "run": 0, "side": side, "rate": 2_000.0, "cpu_us": {"all": 10.0 * (number + 1), "server": 5.0}}
        for number, side in enumerate(sides)
    ]  # fmt: skip
    samples += [
        {
            "work": "offers",
            "run": 0,
            "side": side,
            "cpu_us": {"all": 1.0},
            "commit_to_frame_ms_p99": 4.0,
            "request_to_first_frame_ms_p99": 8.0,
        }
        for side in sides
    ]
    samples += [
        {"work": "accepts", "kind": "function", "run": 0, "side": side, "accepts_per_s": rate, "postgres_cpu_us": 1.0}
        for side, rate in (("ours", 600.0), ("bare_update", 1_000.0), ("postgres_design", 500.0))
    ]
    found = {name: spread["median"] for name, spread in compare(samples).items()}
    assert found["position_cpu_vs_node_ws"] == 0.5
    assert found["position_cpu_vs_socketio"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["position_cpu_vs_postgres"] == 0.25
    assert found["position_cpu_vs_node_ws_best"] == 0.2
    assert found["offer_p99_vs_postgres"] == 1.0
    assert found["accepts_per_s_vs_bare_update"] == 0.6
    assert judged("position_cpu_vs_postgres", 0.25) == "≤ 0.3: met"
    assert judged("accepts_per_s_vs_bare_update", 0.4) == "≥ 0.5: MISSED"
    assert judged("offer_cpu_vs_postgres", 9.0) == ""
    assert "accept_path_per_s_vs_bare_update" not in found
    crowd_samples = [
        {"work": "accepts", "kind": "crowd", "run": 0, "side": side, "cpu_us": {"all": 1.0}, "accept_ms_p99": None, "accepts_per_s": rate}
        for side, rate in (("ours", 150.0), ("postgres_usual", 100.0))
    ]  # fmt: skip
    found = {name: spread["median"] for name, spread in compare([*samples, *crowd_samples]).items()}
    assert found["accept_path_per_s_vs_bare_update"] == 0.15
    assert found["accepts_per_s_vs_bare_update"] == 0.6 and found["accepts_per_s_vs_postgres_function"] == 1.2
    assert found["accept_p99_vs_postgres"] == NEVER
    assert {"accept_path_per_s_vs_bare_update", "accepts_per_s_vs_postgres_function"} <= TARGETS.keys()
