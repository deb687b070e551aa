"""docs/matching.md, out of the rows that are kept in bench/results/matching."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.matching.evidence import (
    FLEETS,
    POLICIES,
    TUNED_ON,
    WITHIN,
    market_with,
)
from bench.matching.evidence import Setting
from bench.matching.intervals import interval, paired, ranked, setting_of
from dispatch.matching import Batch


class PageError(Exception):
    pass


Rows = Sequence[dict[str, Any]]

_DENSITIES = ("one day", "dense")
_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("served", "served", lambda value: f"{100 * value:.1f} %"),
    ("wait_p50_s", "wait p50", lambda value: f"{value:.0f} s"),
    ("wait_p95_s", "wait p95", lambda value: f"{value:.0f} s"),
    ("pickup_m", "pickup", lambda value: f"{value:.0f} m"),
    ("offers_per_assignment", "offers / assignment", lambda value: f"{value:.2f}"),
    ("idle_m", "idle", lambda value: f"{value:.0f} m"),
    ("gini", "Gini", lambda value: f"{value:.3f}"),
    ("decisions_per_s", "decisions/s", lambda value: f"{value:,.0f}"),
    ("solve_p99_ms", "solve p99", lambda value: f"{value:.1f} ms" if value else "-"),
)
_LESS_IS_BETTER = {"wait_p50_s", "wait_p95_s", "pickup_m", "offers_per_assignment", "idle_m", "gini"}
_WORSE = 1.02
"""By more than so much `batch` may be worse than `nearest` in nothing that its target names."""

_HEAD = """# Matching: what the policies are worth

Made by `python -m bench simulate --page docs/matching.md` out of `bench/results/matching/`; not written by hand.
How a decision is made: `dispatch/matching/policies.py` and `dispatch/matching/batch.py`. How it is simulated: `bench/matching/`.

{summary}
## What was run

{stamps}

To make it again: `python -m bench simulate --sweep --data FOLDER`, then `--evidence --data FOLDER`, then `--page docs/matching.md`;
FOLDER holds recorded days with the columns of `bench/data/sf/README.md`. Without one the carried night can be driven:
`python -m bench simulate --policy batch --fleet scarce`.

- **Customers**: {days} recorded days of San Francisco's cabs ({dates}), each by itself ("one day", {one_day}); and all {all_days} given days
  laid over each other ("dense", {dense}). Each request asks at its recorded second and place; seconds
  with more than 8 requests are left out (the recording fleet's restart). Whoever has no cab after 600 s is gone.
- **Cabs**: out in proportion to the trips of each half hour. A fleet is defined by how busy it is: so many cabs that under `nearest` they spend {fleets} of their
  time on shift with a customer or on the way to one, within {within:.0%}; its size is searched for each day, with another seed than those of the tables. They come on where the recorded
  cabs of that hour are, stand 5 minutes without work, then cruise to another such place. Straight lines x detour factor, at the market's speed.
- **Drivers answer by a model, not by measurement** (`bench/matching/behaviour.py`): 10 % of offers stay unanswered, of the rest 90 % x one half
  per 6 km of way are taken, +-15 % by driver, after 2 s and an exponential of 3 s. All draws are hashes of seed, driver and job: policies differ
  by their decisions alone.
- **Tuned on** {tuned}; the tables are of the other days. The dense city of the tables holds all days, and so those too.
- **Not done**: New York's pickups (`nyc/`) were not driven. They have no drop-offs, so nobody knows how long a cab is busy and where it comes free; made-up ends of
  trips would decide the outcome.
- A decision is logged and hashed: the same inputs give the same log, and a log replays to the same decisions, a live server's too.

Waits are from asking to the cab at the kerb, of those served. Pickup metres are straight, idle metres are driven looking for work, per
assignment. Gini is of earnings per hour on shift. Times of deciding are processor time: the machine did other things besides. Intervals are 95 %, by paired bootstrap over days and seeds.
"""


def text(folder: Path) -> str:
    """The page. Raises FileNotFoundError where nothing has been measured."""
    kept = orjson.loads((folder / "policies.json").read_bytes())
    rows = whole(kept["rows"])
    dates = sorted({row["dates"][0] for row in rows if row["density"] == "one day"})
    sweep_file = folder / "sweep.json"
    sweep = orjson.loads(sweep_file.read_bytes()) if sweep_file.exists() else None
    parts = [
        _HEAD.format(
            summary=_summary(rows, whole(sweep["rows"]) if sweep else []),
            stamps="\n".join(_stamp(one) for one in (kept, sweep) if one),
            days=len(dates),
            dates=", ".join(dates),
            all_days=max(len(row["dates"]) for row in rows),
            one_day=_stretch(kept["stretches"]["one day"]),
            dense=_stretch(kept["stretches"]["dense"]),
            fleets=", ".join(f"{100 * busy:g} % ({name})" for name, busy in FLEETS.items()),
            within=WITHIN,
            tuned=", ".join(TUNED_ON),
        ),
        _target(rows, kept["solving"]),
        *(_cell(rows, density, fleet) for density in _DENSITIES for fleet in FLEETS if _driven(rows, density, fleet)),
        _worse(rows),
    ]
    parts.insert(2, _fleets(rows))
    if sweep:
        parts.append(_tuning(whole(sweep["rows"])))
    if explaining := [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("explaining_*.json"))]:
        parts.append(_explaining(explaining))
    parts.append(_solving(kept["solving"]))
    return "\n".join(parts)


def _summary(rows: Rows, swept: Rows) -> str:
    """What it comes to, in three sentences; their numbers are those of the tables."""

    def of(name: str, fleet: str, policy: str = "batch") -> str:
        """Of each density, how much more than `nearest`."""
        found = [
            100 * (interval(paired(rows, density, fleet, policy, name), ratio=True)[0] - 1)
            for density in _DENSITIES
            if policy in _driven(rows, density, fleet)
        ]
        return " and ".join(f"{value:+.0f} %" for value in found)

    def served(policy: str) -> str:
        return " and ".join(
            f"{100 * _mean(rows, density, 'scarce', policy, 'served'):.0f} %"
            for density in _DENSITIES
            if policy in _driven(rows, density, "scarce")
        )

    market, best = market_with("batch"), ranked(swept)[:1]
    alone = [row for row in swept if row["policy"] != "batch" or dict(row["weights"]) == {"patient_way_s": 100_000.0}]
    if any(row["policy"] == "batch" for row in alone):
        ways = {
            fleet: " and ".join(
                f"{100 * (interval(paired(alone, density, fleet, 'batch', 'pickup_m'), ratio=True)[0] - 1):+.0f} %"
                for density in _DENSITIES
            )
            for fleet in ("scarce", "balanced")
        }
        patience = (
            f"Not all of it is the assignment: `batch` also sends nobody on a long way at first. Without that bound, on the days for tuning, pickups are {ways['scarce']} (scarce) and\n"
            f"{ways['balanced']} (balanced). "
        )
    else:
        patience = ""
    follows = f" by the rule of the sweep below (its best: {_named(best[0][2])})" if best else ""
    return (
        f"Beside `nearest`, in one day's city and in the dense one: **where cabs are short `batch` helps much** (pickups {of('pickup_m', 'scarce')}, median wait {of('wait_p50_s', 'scarce')};\n"
        f"it serves {served('batch')} of the customers, `nearest` {served('nearest')}), **and in balance too** (pickups {of('pickup_m', 'balanced')}, median wait {of('wait_p50_s', 'balanced')}).\n"
        f"{patience}**Where cabs are plenty it brings drivers less and costs customers time** (pickups {of('pickup_m', 'plenty')}, median wait {of('wait_p50_s', 'plenty')}): somebody near is free anyway, and\n"
        f"every request waits for the end of its window. **Defaults**: a window of {market.batch_window_s:g} s, and at first nobody is sent further than {Batch().patient_way_s:g} s of way,{follows}; shipped markets stay\n"
        f"with `waves` until their drivers' answers have been measured, for here they are a model that says yes four times of five, and a wave is for drivers who say yes once in five.\n"
    )


def whole(rows: Rows) -> Rows:
    """Without the rows of a pair that some policy has not driven: a run that was stopped has such."""
    had: dict[Any, int] = {}
    for row in rows:
        pair = (row["density"], row["fleet"], *row["dates"], row["seed"])
        had[pair] = had.get(pair, 0) + 1
    most = {density: max(count for pair, count in had.items() if pair[0] == density) for density, *_ in had}
    return [
        row for row in rows if had[row["density"], row["fleet"], *row["dates"], row["seed"]] == most[row["density"]]
    ]


def _driven(rows: Rows, density: str, fleet: str) -> list[str]:
    """The policies that have rows in a cell."""
    there = {row["policy"] for row in rows if (row["density"], row["fleet"]) == (density, fleet)}
    return [policy for policy in POLICIES if policy in there]


def _stamp(kept: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    return f"- `{kept['made_by']}`: {len(kept['rows'])} runs, {kept['date']}, commit {kept['commit'][:9]}, {_said(kept['machine'])}, {versions}"


def _stretch(stretch: dict[str, float]) -> str:
    begin = (5 + stretch["from_h"]) % 24
    return f"{stretch['hours']:g} hours from {int(begin)}:{round(begin % 1 * 60):02} local"


def _said(machine: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items()) if isinstance(machine, dict) else str(machine)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join(" --- " for _ in head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, *lines)).replace("\n", f"\n|{rule}|\n", 1) + "\n"


def _mean(rows: Rows, density: str, fleet: str, policy: str, name: str) -> float:
    values = [r[name] for r in rows if (r["density"], r["fleet"], r["policy"]) == (density, fleet, policy)]
    return float(sum(values) / len(values))


def _pm(found: tuple[float, float, float], shown: Callable[[float], str]) -> str:
    return f"{shown(found[0])} [{shown(found[1])}, {shown(found[2])}]"


def _ratio(value: float) -> str:
    return f"{100 * (value - 1):+.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _target(rows: Rows, solves: Rows) -> str:
    lines = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            if "batch" not in _driven(rows, density, fleet):
                continue
            window = _mean(rows, density, fleet, "batch", "window_jobs")
            pickup = interval(paired(rows, density, fleet, "batch", "pickup_m"), ratio=True)
            served = interval(paired(rows, density, fleet, "batch", "served"), ratio=False)
            wait = interval(paired(rows, density, fleet, "batch", "wait_p50_s"), ratio=True)
            asked = window >= 5 and fleet in ("scarce", "balanced")
            met = pickup[0] <= (0.9 if asked else _WORSE)
            wanted = "at least 10 % less" if asked else "at most 2 % more"
            lines.append(
                (
                    f"{density}, {fleet}",
                    f"{window:.1f}",
                    _pm(pickup, _ratio),
                    f"{wanted}: {'met' if met else '**missed**'}",
                    _pm(served, _points),
                    _pm(wait, _ratio),
                )
            )
    head = ("city", "jobs in a window", "pickup metres", "target", "share served, points", "wait p50")
    large = next(row for row in solves if (row["jobs"], row["cabs"]) == (1_000, 1_000))
    solved = "met" if large["p99_ms"] <= 100 else "**missed**"
    return (
        "## `batch` beside `nearest`\n\nJobs in a window are those that came in it and those that still wait.\n\n"
        + _table(head, lines)
        + "\nNot every cell has been driven under every policy: the run was stopped before.\n"
        * any("broadcast" not in _driven(rows, density, fleet) for density in _DENSITIES for fleet in FLEETS)
        + f"\nA decision about 1,000 jobs and 1,000 cabs takes {large['p99_ms']:.0f} ms of processor time at p99; target 100 ms: {solved}.\n"
    )


def _cell(rows: Rows, density: str, fleet: str) -> str:
    some = [row for row in rows if (row["density"], row["fleet"]) == (density, fleet)]
    base = [row for row in some if row["policy"] == "nearest"]
    jobs, cabs = sum(row["jobs"] for row in base) / len(base), sum(row["cabs"] for row in base) / len(base)
    lines = []
    for policy in _driven(rows, density, fleet):
        cells = [policy]
        cells += [shown(_mean(rows, density, fleet, policy, name)) for name, _, shown in _SHOWN]
        pickup = interval(paired(rows, density, fleet, policy, "pickup_m"), ratio=True)
        cells.append("-" if policy == "nearest" else _pm(pickup, _ratio))
        lines.append(cells)
    return (
        f"## {density.capitalize()}, {fleet}\n\n{len(base)} pairs, {jobs:,.0f} requests and up to {cabs:,.0f} cabs in each.\n\n"
        + _table(("policy", *(title for _, title, _ in _SHOWN), "pickup to nearest"), lines)
    )


def _worse(rows: Rows) -> str:
    """Every measure of every cell in which `batch` is worse than another policy, beyond chance."""
    lines = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            for other in _driven(rows, density, fleet)[:-1]:
                for name, title, shown in _SHOWN[:7]:
                    found = interval(paired(rows, density, fleet, "batch", name, other), ratio=True)
                    worse = found[1] > 1.0 if name in _LESS_IS_BETTER else found[2] < 1.0
                    if worse and not math.isnan(found[0]):
                        mine, theirs = (_mean(rows, density, fleet, one, name) for one in ("batch", other))
                        lines.append(
                            (f"{density}, {fleet}", title, other, shown(mine), shown(theirs), _pm(found, _ratio))
                        )
    head = ("city", "measure", "better", "batch", "the other", "difference")
    return "## Where `batch` does not help\n\nBeyond chance (the 95 % interval leaves out zero):\n\n" + (
        _table(head, lines) if lines else "nowhere.\n"
    )


def _fleets(rows: Rows) -> str:
    """How large the fleets are that the definition asks for, and how busy each policy keeps them."""
    lines = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            if policies := _driven(rows, density, fleet):
                per_busy, cabs = (_mean(rows, density, fleet, "nearest", name) for name in ("per_busy", "cabs"))
                busy = ", ".join(
                    f"{policy} {100 * _mean(rows, density, fleet, policy, 'busy'):.0f} %" for policy in policies
                )
                lines.append((f"{density}, {fleet}", f"{per_busy:.2f}", f"{cabs:,.0f}", busy))
    head = ("city", "cabs for each that trips alone keep busy", "at most out", "share of time busy")
    return "## Fleets\n\nWhat the definition comes to, means over the days.\n\n" + _table(head, lines)


def _tuning(rows: Rows) -> str:
    """What the sweep found."""
    best = ranked(rows)
    lines = []
    for score, fits, setting in best:
        some = [row for row in rows if row["policy"] != "batch" or setting_of(row) == setting]
        cells = []
        for density in _DENSITIES:
            for fleet in FLEETS:
                pickup, wait = (
                    interval(paired(some, density, fleet, "batch", name), ratio=True)[0]
                    for name in ("pickup_m", "wait_p50_s")
                )
                cells.append(f"{100 * (pickup - 1):+.0f} / {100 * (wait - 1):+.0f}")
        lines.append((_named(setting), f"{score:.3f}", "" if fits else "no", *cells))
    head = ("setting", "score", "may be", *(f"{density}, {fleet}" for density in _DENSITIES for fleet in FLEETS))
    return (
        "## Windows and weights\n\n`batch` to `nearest` on the days for tuning, each alone and those laid over each other: pickup metres / median wait, in percent more.\n"
        "The rule, written down before the sweep was run: the score is the mean of all these ratios, and a default may make pickups in no city more than 2 % longer\n"
        "and serve in none half a point less (`may be`). Windows were swept together with `patient_way_s`, the seconds of way beyond which nobody is sent at first;\n"
        "the other weights one at a time. With `patient_way_s 100000` there is no such bound: what is left is worth the assignment alone.\n\n"
        + _table(head, lines)
    )


def _named(setting: Setting) -> str:
    window_s, weights = setting
    return ", ".join([f"{window_s:g} s", *(f"{name} {value:g}" for name, value in weights)])


def _explaining(kept: Rows) -> str:
    lines = [
        (
            one["policy"],
            str(len(one["pairs"])),
            f"{100 * one['overhead_p50']:+.1f} % [{100 * one['overhead_min']:+.1f}, {100 * one['overhead_max']:+.1f}]",
            f"at most 5 %: {'met' if one['overhead_p50'] <= 0.05 else '**missed**'}",
            f"{one['rounds_written']:,}",
            f"{one['date'][:10]}, {one['commit'][:9]}",
        )
        for one in kept
    ]
    head = ("policy", "pairs", "CPU per job offered: median [least, most]", "target", "rounds written", "run")
    return (
        "## What explanations cost\n\n`python -m bench simulate --overhead PAIRS --policy POLICY`: two real servers that differ by EXPLAIN, the same jobs in turns, processor time of server and Postgres\n"
        "together for each job offered. Jobs are created over HTTP, offered and cancelled; accepts, trips and most positions are not in it, so the share is larger here than in life.\n"
        "The machine did other things besides: pairs differ by more than the figure, and it is the median that counts.\n\n"
        + _table(head, lines)
    )


def _solving(rows: Rows) -> str:
    lines = [
        (
            f"{row['jobs']:,} x {row['cabs']:,}",
            f"{row['p50_ms']:.1f} ms",
            f"{row['p99_ms']:.1f} ms",
            f"{row['max_ms']:.1f} ms",
        )
        for row in rows
    ]
    return (
        "## What a decision of `batch` costs\n\nThe whole of it, from the question to the offers, "
        f"{rows[0]['times']} problems of each size: places even in a square of 10 km, one thread.\n\n"
        + _table(("jobs x cabs", "p50", "p99", "max"), lines)
    )
