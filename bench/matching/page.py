"""docs/matching.md, out of what is kept in bench/results/matching."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.matching import explaining
from bench.matching.evidence import ELSEWHERE, FIXED, FLEETS, POLICIES, SELDOM, STRETCHES, WITHIN, Setting, shipped
from bench.matching.intervals import (
    FEWEST,
    group_of,
    interval,
    paired,
    ranked,
    setting_of,
    value_of,
)
from bench.matching.wording import points, ratio, table, verdict, with_bounds
from dispatch.markets import Markets

Rows = Sequence[dict[str, Any]]


class PageError(Exception):
    """What is kept does not belong together, or not to what is shipped. The message says what to run."""


_DENSITIES = {"one day": "in one day's city", "dense": "in the dense one", ELSEWHERE: "in New York"}
_CALLED = {"scarce": "Where cabs are short", "balanced": "In balance", "plenty": "Where cabs are plenty"}
_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("served", "served", lambda value: f"{100 * value:.1f} %"),
    ("wait_p50_s", "wait p50", lambda value: f"{value:.0f} s"),
    ("wait_p95_s", "wait p95", lambda value: f"{value:.0f} s"),
    ("pickup_m", "pickup", lambda value: f"{value:.0f} m"),
    ("offers_per_assignment", "offers / assignment", lambda value: f"{value:.2f}"),
    ("idle_m", "idle", lambda value: f"{value:.0f} m"),
    ("gini", "Gini", lambda value: f"{value:.3f}"),
    ("decisions_per_s", "decisions/s", lambda value: f"{value:,.0f}"),
    ("solve_p99_ms", "solve p99", lambda value: f"{value:.1f} ms"),
    ("times_life", "times life", lambda value: f"{value:,.0f}"),
)
_OF_THE_SELDOM = ("served", "wait_p50_s", "wait_p95_s", "pickup_m", "offers_per_assignment")
_JUDGED = 7
"""So many of them, the first, are of the city; the others are of the simulator."""
_WHY_SOLVING = (
    "Most of it, about three quarters when profiled, is one call of scipy's solver on a dense matrix; its sparse one holds the interpreter's lock as"
    " long as it runs ([decision 14](decisions/0014-windows-are-moments-on-the-clock.md)). A live window decides some 200 jobs at a time."
)
_LESS_IS_BETTER = {"wait_p50_s", "wait_p95_s", "pickup_m", "offers_per_assignment", "idle_m", "gini"}
_WAITS = {"wait_p50_s": "median wait", "wait_p95_s": "p95 wait"}
_WORSE = 1.02
"""By more than so much `batch` may be worse than `nearest` nowhere."""
_LESS = 0.9
"""Where a window holds `_WINDOW` jobs, and cabs are not plenty, pickups are to be so much of what they are under `nearest`."""
_WINDOW = 5
_WORDS: Mapping[tuple[int, int], str] = {
    (-1, -1): "helps drivers and customers",
    (-1, 0): "helps drivers, and customers wait neither surely longer nor surely shorter",
    (-1, 1): "saves drivers way and costs customers time",
    (0, -1): "shortens waits, and pickups are neither surely longer nor surely shorter",
    (0, 0): "makes no sure difference",
    (0, 1): "costs customers time, and pickups are neither surely longer nor surely shorter",
    (1, -1): "sends drivers further and shortens waits",
    (1, 0): "sends drivers further, and waits are neither surely longer nor surely shorter",
    (1, 1): "is worse for drivers and for customers",
}
"""By which way pickups and median waits differ from those of `nearest`, beyond chance."""

_HEAD = """# Matching: what the policies are worth

Made by `python -m bench simulate --page docs/matching.md` out of `bench/results/matching/`; not written by hand.
How a decision is made: `dispatch/matching/policies.py` and `dispatch/matching/batch.py`. How it is simulated: `bench/matching/`.

{summary}
## What was run

{stamps}

To make it again: the commands above with `--data FOLDER`, then `python -m bench simulate --page docs/matching.md`;
FOLDER holds recorded days with the columns of `bench/data/sf/README.md`. What was driven are stretches of half an hour to four hours. `python -m bench simulate --evidence --data FOLDER`, with no
stretches named, drives whole days with two seeds each and eight dense stretches of two hours, long enough for Gini: some two hours of one core. Without a folder the
carried night can be driven: `python -m bench simulate --policy batch --fleet scarce`.

- **Customers**: {days} recorded days of San Francisco's cabs ({dates}), each by itself ("one day", {one_day}); and all {all_days} given days
  laid over each other ("dense", {dense}). Each request asks at its recorded second and place; seconds
  with more than 8 requests are left out (the recording fleet's restart). Whoever has no cab after 600 s is gone.
- **Cabs**: out in proportion to the trips of each half hour. A fleet is defined by how busy it is: so many cabs that under `nearest` they spend {fleets} of their
  time on shift with a customer or on the way to one, within {within:.0%}; its size is searched for each day and stretch, with another seed than those of the tables. They come on where the recorded
  cabs of that hour are, stand 5 minutes without work, then cruise to another such place. Straight lines x detour factor, at the market's speed.
- **Drivers answer by a model, not by measurement** (`bench/matching/behaviour.py`): 10 % of offers stay unanswered, of the rest 90 % x one half
  per 6 km of way are taken, +-15 % by driver, after 2 s and an exponential of 3 s. All draws are hashes of seed, driver and job: policies differ
  by their decisions alone.
- **Tuned on** {tuned}; the one-day tables are of the other days. The dense city of the tables holds all days given, and so those too.
{elsewhere}- A decision is logged and hashed: the same inputs give the same log, and a log replays to the same decisions, a live server's too.

Waits are from asking to the cab at the kerb, of those served: a policy that serves more has those in it whom the other let go. Pickup metres are straight, idle metres are driven looking for work, per
assignment. Gini is of earnings per hour on shift, of cabs that were out for an hour at least. "-": nothing was there to measure by.
Times of deciding, and how many times faster than life a run was, are processor time of one core; the machine did other work besides.

**Intervals** are 95 %, by Student's t and the jackknife over what was driven, whole days or stretches with all their seeds: {groups}. The stretches of the dense city
are hours of the same {all_days} days: their intervals tell how hours differ, not how other days would. Where there are fewer than {fewest} days or stretches no
interval is printed, and nothing is judged.
"""


def text(folder: Path) -> str:
    """The page. Raises FileNotFoundError where nothing has been measured, PageError where what has been is not of what is shipped."""
    kept = orjson.loads((folder / "policies.json").read_bytes())
    others = [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("elsewhere.json"))]
    reluctant = [orjson.loads(file.read_bytes()) for file in folder.glob("reluctant.json")]
    rows = [row for one in (kept, *others) for row in one["rows"]]
    sweeps = [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("sweep_*.json"), reverse=True)]
    sweeps.sort(key=lambda one: one["date"])
    swept = together(sweeps)
    if swept:
        check([*rows, *(row for one in reluctant for row in one["rows"])], kept["dates"]["one day"], swept, sweeps)
    solving = orjson.loads((folder / "solving.json").read_bytes())
    if solving.get("weights") != dict(shipped()[1]):
        raise PageError("the times of solving are of other weights than those that are shipped: run --solving again")
    parts = [
        _HEAD.format(
            summary=_summary(rows, swept),
            stamps="\n".join(_stamp(one) for one in (kept, *others, *reluctant, *sweeps)),
            elsewhere="".join(map(_elsewhere, others)),
            days=len(kept["dates"]["one day"]),
            dates=", ".join(kept["dates"]["one day"]),
            all_days=len(kept["dates"]["dense"]),
            one_day=_stretches(kept["stretches"]["one day"]),
            dense=_stretches(kept["stretches"]["dense"]),
            fleets=", ".join(f"{100 * busy:g} % ({name})" for name, busy in FLEETS.items()),
            within=WITHIN,
            tuned=", ".join(sorted({date for one in sweeps for date in one["dates"]["one day"]})) or "no days",
            groups="; ".join(f'"{density}" {_driven_of(rows, density)}' for density in _there(rows)),
            fewest=FEWEST,
        ),
        _target(rows, solving["sizes"]),
        _fleets(rows),
        _speed(rows),
        *(_cell(rows, density, fleet) for density in _DENSITIES for fleet in FLEETS if _driven(rows, density, fleet)),
        _worse(rows),
        *(_seldom(one["rows"]) for one in reluctant),
    ]
    if swept:
        parts.append(_tuning(swept))
    if costs := [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("explaining_*.json"))]:
        parts.append(_explaining(costs))
    parts.append(_solving(solving))
    return "\n".join(parts)


def together(sweeps: Sequence[dict[str, Any]]) -> Rows:
    """The rows of all sweeps. Raises PageError where their worlds differ: the same day under `nearest` must be the same log."""
    rows: list[dict[str, Any]] = []
    seen: dict[Any, str] = {}
    for one in sweeps:
        for row in one["rows"]:
            key = (row["density"], row["fleet"], group_of(row), row["seed"], row["policy"], setting_of(row))
            if key not in seen:
                seen[key] = row["log_hash"]
                rows.append(row)
            elif seen[key] != row["log_hash"]:
                raise PageError(f"{one['made_by']}: {key} is another log than in the sweep before: run both again")
    return rows


def check(rows: Rows, dates: Sequence[str], swept: Rows, sweeps: Sequence[dict[str, Any]]) -> None:
    """Raises PageError unless what is shipped is what the rule picks, the tables are of it, and of days that it was not chosen on."""
    _, fits, best = ranked(swept)[0]
    if not fits or best != shipped():
        raise PageError(
            f"shipped is {_named(shipped())}; the rule of the sweep picks {_named(best) if fits else 'none'}"
        )
    if others := {setting_of(row) for row in rows if row["policy"] == "batch"} - {best}:
        raise PageError(f"the tables are of {_named(others.pop())}, shipped is {_named(best)}: run --evidence again")
    if both := {date for one in sweeps for date in one["dates"]["one day"]} & set(dates):
        raise PageError(f"{', '.join(sorted(both))}: both tuned on and in the tables")


def _summary(rows: Rows, swept: Rows) -> str:
    """What it comes to; words and numbers are those of the tables."""
    lines = ["Beside `nearest`, on the days and hours below, by drivers that are a model:\n"]
    for fleet, called in _CALLED.items():
        said = [_said_of(rows, density, fleet) for density in _DENSITIES if "batch" in _driven(rows, density, fleet)]
        if said:
            lines.append(f"- {called}: {'; '.join(said)}.")
    if alone := [row for row in swept if dict(row["weights"]).get("patient_way_s", 100_000.0) == 100_000.0]:
        ways = [
            f"{fleet} "
            + " and ".join(
                ratio(value_of(paired(alone, density, fleet, "batch", "pickup_m"), ratio=True)) for density in STRETCHES
            )
            for fleet in ("scarce", "balanced")
        ]
        lines.append(
            "- How much of it is the assignment: `batch` also sends nobody on a long way at first. Without that bound, with a window of 4 s and on the days for tuning, "
            f"pickups are in the one city and the other {', '.join(ways)}."
        )
    lines.append(f"- **Defaults**: {_named(shipped())}{', as the rule of the sweep below picks' if swept else ''}.")
    policies = sorted({market.policy for market in Markets.load()})
    lines.append(
        f"  Shipped markets have {' and '.join(f'`{one}`' for one in policies)}: an offer leaves at once and several may answer it, which a market wants until it knows how its drivers answer"
        " ([decision 20](decisions/0020-waves-until-a-market-knows-its-drivers.md))."
    )
    return "\n".join(lines) + "\n"


def _said_of(rows: Rows, density: str, fleet: str) -> str:
    """What `batch` is worth in a cell: words by which way the intervals point, and whether its target is met."""
    pickup, wait = (
        interval(paired(rows, density, fleet, "batch", name), ratio=True) for name in ("pickup_m", "wait_p50_s")
    )
    ways = pickup.beside(1.0), wait.beside(1.0)
    if ways[0] is None or ways[1] is None:
        words = "cannot be judged, it is too few"
    else:
        words = _WORDS[ways[0], ways[1]]
        fewer = interval(paired(rows, density, fleet, "batch", "served"), ratio=False).beside(0.0) == -1
        words += ", and serves fewer" if fewer else ""
    bound, wanted = _aim(rows, density, fleet)
    served = " against ".join(_shown(rows, density, fleet, one, "served") for one in ("batch", "nearest"))
    return (
        f"{_DENSITIES[density]} it **{words}** (pickups {with_bounds(pickup, ratio)}, median wait {with_bounds(wait, ratio)}, served {served};"
        f" pickups {wanted}: {verdict(pickup, bound)})"
    )


def _aim(rows: Rows, density: str, fleet: str) -> tuple[float, str]:
    """What pickups of a cell may be beside those of `nearest`, and that in words."""
    window = _mean(rows, density, fleet, "batch", "window_jobs") or 0.0
    if window >= _WINDOW and fleet != "plenty":
        return _LESS, "at least 10 % less"
    return _WORSE, "at most 2 % more"


def _there(rows: Rows) -> list[str]:
    """The densities that have rows."""
    return [density for density in _DENSITIES if any(row["density"] == density for row in rows)]


def _elsewhere(kept: dict[str, Any]) -> str:
    """What is to be known of the rows of another city."""
    return (
        f"- **New York** is {len(kept['dates'])} days of recorded pickups ({', '.join(kept['dates'])}; {_stretches(kept['stretches'])}), with San Francisco's market settings. Where a trip ends nobody recorded: it is as long as a\n"
        "  recorded taxi trip of that city, drawn at random, and ends where somebody else was picked up within the hour. Times are spread within their recorded minute; cabs are where people are picked up. So lengths and places are real and their\n"
        "  pairing is not; nothing was tuned on it (`bench/matching/pickups.py`).\n"
    )


def _driven(rows: Rows, density: str, fleet: str) -> list[str]:
    """The policies that have rows in a cell."""
    there = {row["policy"] for row in rows if (row["density"], row["fleet"]) == (density, fleet)}
    return [policy for policy in POLICIES if policy in there]


def _driven_of(rows: Rows, density: str) -> str:
    """How many days or stretches, and seeds of each, a density has rows of."""
    some = [row for row in rows if row["density"] == density]
    groups, seeds = {group_of(row) for row in some}, {row["seed"] for row in some}
    dates = {tuple(row["dates"]) for row in some}
    what = f"{len(groups)} days" if len(dates) == len(groups) else f"{len(groups)} stretches"
    return f"{what} x {len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"


def _stamp(kept: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    notes = "".join(f"\n  {note}" for note in kept.get("notes", ()))
    return f"- `{kept['made_by']}`: {len(kept['rows'])} runs, {kept['date']}, commit {kept['commit'][:9]}, {_said(kept['machine'])}, {versions}{notes}"


def _stretches(stretches: Sequence[dict[str, float]]) -> str:
    def clock(hour: float) -> str:
        return f"{int((5 + hour) % 24)}:{round((5 + hour) % 1 * 60):02}"

    said = [f"{clock(one['from_h'])}-{clock(one['from_h'] + one['hours'])}" for one in stretches]
    return f"{', '.join(said)} local{'' if len(said) == 1 else ', each by itself'}"


def _said(machine: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items()) if isinstance(machine, dict) else str(machine)


def _mean(rows: Rows, density: str, fleet: str, policy: str, name: str) -> float | None:
    """Over the rows that have such a measure; None where none has."""
    some = [r[name] for r in rows if (r["density"], r["fleet"], r["policy"]) == (density, fleet, policy)]
    values = [value for value in some if value is not None]
    return float(sum(values) / len(values)) if values else None


def _shown(rows: Rows, density: str, fleet: str, policy: str, name: str) -> str:
    value = _mean(rows, density, fleet, policy, name)
    return "-" if value is None else next(shown for one, _, shown in _SHOWN if one == name)(value)


def _seldom(rows: Rows) -> str:
    """The policies among drivers who seldom say yes, each beside `nearest`."""
    lines = []
    for fleet in FLEETS:
        for policy in _driven(rows, SELDOM, fleet):
            means = [_shown(rows, SELDOM, fleet, policy, name) for name in _OF_THE_SELDOM]
            found = [
                interval(paired(rows, SELDOM, fleet, policy, name), ratio=name != "served") for name in _OF_THE_SELDOM
            ]
            words = (points if name == "served" else ratio for name in _OF_THE_SELDOM)
            beside = [
                "" if policy == "nearest" else f": {with_bounds(one, say)}"
                for one, say in zip(found, words, strict=True)
            ]
            lines.append((f"{fleet}, `{policy}`", *(f"{mean}{more}" for mean, more in zip(means, beside, strict=True))))
    head = ("fleet, policy", *(called for name, called, _ in _SHOWN if name in _OF_THE_SELDOM))
    return (
        '## Where one driver in five says yes\n\nThe same days and fleets as "one day", and of offers that are answered one fifth x one half per 6 km of way is taken. It is what a wave of five rests on, and an estimate\n'
        "like the other. Means, and beside `nearest`: share served in points.\n\n" + table(head, lines)
    )


def _target(rows: Rows, solves: Rows) -> str:
    lines = []
    longer: list[str] = []
    perhaps: list[str] = []
    fewer: list[str] = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            if "batch" not in _driven(rows, density, fleet):
                continue
            pickup = interval(paired(rows, density, fleet, "batch", "pickup_m"), ratio=True)
            served = interval(paired(rows, density, fleet, "batch", "served"), ratio=False)
            waits = {name: interval(paired(rows, density, fleet, "batch", name), ratio=True) for name in _WAITS}
            if served.beside(0.0) == -1:
                fewer.append(f"{density}, {fleet}: {with_bounds(served, points)} points")
            bound, wanted = _aim(rows, density, fleet)
            for name, found in waits.items():
                below = found.below(_WORSE)
                if below is not True:
                    said = f"{density}, {fleet}: {_WAITS[name]} {with_bounds(found, ratio)}"
                    (perhaps if below is None else longer).append(said)
            lines.append(
                (
                    f"{density}, {fleet}",
                    f"{_mean(rows, density, fleet, 'batch', 'window_jobs') or 0:.1f}",
                    with_bounds(pickup, ratio),
                    f"{wanted}: {verdict(pickup, bound)}",
                    with_bounds(served, points),
                    *(with_bounds(found, ratio) for found in waits.values()),
                )
            )
    head = ("city", "jobs in a window", "pickup metres", "target", "share served, points", "wait p50", "wait p95")
    large = next(row for row in solves if (row["jobs"], row["cabs"]) == (1_000, 1_000))
    solved = "met." if large["p99_ms"] <= 100 else f"**missed**. {_WHY_SOLVING}"
    return (
        "## `batch` beside `nearest`\n\nJobs in a window are those that came in it and those that still wait. The target is of pickup metres, and the verdict of nothing else:\n"
        "met or missed where the whole interval is, else unsure.\n\n"
        + table(head, lines)
        + "\nWaits and the share served are outside of that target. Held to the same 2 %, waits are\n\n"
        + f"- longer by more, beyond chance: {'; '.join(longer) or 'none'}.\n"
        + f"- unsure: {'; '.join(perhaps) or 'none'}.\n"
        + f"\nFewer are served, beyond chance: {'; '.join(fewer) or 'nowhere'}.\n"
        + f"\nA decision about 1,000 jobs and 1,000 cabs takes {large['p99_ms']:.0f} ms of processor time at p99; target 100 ms: {solved}\n"
    )


def _speed(rows: Rows) -> str:
    """How fast the slowest run of each policy was, and where its time goes."""
    lines = []
    for policy in POLICIES:
        some = [row for row in rows if row["policy"] == policy]
        if not some:
            continue
        slowest = min(some, key=lambda row: float(row["times_life"]))
        timed = [row for row in some if row["took_s"] is not None]
        offers, took_s = sum(row["offers"] for row in timed), sum(row["took_s"] for row in timed)
        lines.append(
            (
                policy,
                f"{slowest['times_life']:,.0f} ({slowest['density']}, {slowest['fleet']})",
                f"{sum(row['times_life'] >= 1_000 for row in some)} of {len(some)}",
                f"{offers / sum(row['jobs'] for row in some):,.1f}",
                f"{1e6 * took_s / max(1, offers):,.1f} us",
            )
        )
    head = ("policy", "slowest run, times life", "runs over 1,000 times", "offers a job", "processor time per offer")
    return (
        "## How much faster than life\n\nThousands of times were asked for. Every offer is a candidate, a draw of an answer and an end of its own, as in life; where a run is slower than a\n"
        "thousand times it is for the number of its offers.\n\n" + table(head, lines)
    )


def _cell(rows: Rows, density: str, fleet: str) -> str:
    some = [row for row in rows if (row["density"], row["fleet"]) == (density, fleet)]
    base = [row for row in some if row["policy"] == "nearest"]
    jobs, cabs = sum(row["jobs"] for row in base) / len(base), sum(row["cabs"] for row in base) / len(base)
    lines = []
    for policy in _driven(rows, density, fleet):
        pickup = interval(paired(rows, density, fleet, policy, "pickup_m"), ratio=True)
        cells = [_shown(rows, density, fleet, policy, name) for name, _, _ in _SHOWN]
        pairs = sum(row["policy"] == policy for row in some)
        lines.append((policy, str(pairs), *cells, "-" if policy == "nearest" else with_bounds(pickup, ratio)))
    return (
        f"## {density[0].upper()}{density[1:]}, {fleet}\n\n{_driven_of(some, density)}, {jobs:,.0f} requests and up to {cabs:,.0f} cabs in each; means over the runs of each policy.\n\n"
        + table(("policy", "runs", *(title for _, title, _ in _SHOWN), "pickup to nearest"), lines)
    )


def _worse(rows: Rows) -> str:
    """Every measure of every cell in which `batch` is worse than another policy, beyond chance."""
    lines = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            for other in _driven(rows, density, fleet)[:-1]:
                for name, title, _ in _SHOWN[:_JUDGED]:
                    found = interval(paired(rows, density, fleet, "batch", name, other), ratio=True)
                    if found.beside(1.0) == (1 if name in _LESS_IS_BETTER else -1):
                        both = (_shown(rows, density, fleet, one, name) for one in ("batch", other))
                        lines.append((f"{density}, {fleet}", title, other, *both, with_bounds(found, ratio)))
    head = ("city", "measure", "better", "batch", "the other", "difference")
    return "## Where `batch` does not help\n\nBeyond chance (the 95 % interval leaves out zero):\n\n" + (
        table(head, lines) if lines else "nowhere.\n"
    )


def _fleets(rows: Rows) -> str:
    """How large the fleets are that the definition asks for, and how busy each policy keeps them."""
    lines = []
    for density in _DENSITIES:
        for fleet in FLEETS:
            if policies := _driven(rows, density, fleet):
                per_busy, cabs = (_mean(rows, density, fleet, "nearest", name) or 0 for name in ("per_busy", "cabs"))
                busy = ", ".join(
                    f"{policy} {100 * (_mean(rows, density, fleet, policy, 'busy') or 0):.0f} %" for policy in policies
                )
                lines.append((f"{density}, {fleet}", f"{per_busy:.2f}", f"{cabs:,.0f}", busy))
    head = ("city", "cabs for each that trips alone keep busy", "at most out", "share of time busy")
    return "## Fleets\n\nWhat the definition comes to, means over the days.\n\n" + table(head, lines)


def _tuning(rows: Rows) -> str:
    """What the sweeps found."""

    def beside(setting: Setting, name: str) -> list[float]:
        some = [row for row in rows if row["policy"] != "batch" or setting_of(row) == setting]
        return [
            value_of(paired(some, density, fleet, "batch", name), ratio=True)
            for density in STRETCHES
            for fleet in FLEETS
        ]

    lines = []
    for score, fits, setting in ranked(rows):
        both = zip(beside(setting, "pickup_m"), beside(setting, "wait_p50_s"), strict=True)
        cells = [f"{100 * (pickup - 1):+.0f} / {100 * (wait - 1):+.0f}" for pickup, wait in both]
        worst = f"{100 * (max(beside(setting, 'wait_p95_s')) - 1):+.1f}"
        lines.append((_named(setting), f"{score:.4f}", "" if fits else "no", *cells, worst))
    head = (
        "setting",
        "score",
        "may be",
        *(f"{density}, {fleet}" for density in STRETCHES for fleet in FLEETS),
        "p95 wait, worst",
    )
    fixed = ", ".join(f"{name} {value:g}" for name, value in FIXED.items() if name != "patient_way_s")
    score, _, first = ranked(rows, bound_waits=False)[0]
    return (
        "## Windows and weights\n\n`batch` to `nearest` on the days for tuning, each alone and those laid over each other: pickup metres / median wait, in percent more.\n"
        "The rule: the score is the mean of all these ratios; a default (`may be`) may make in no city pickups more than 2 % longer, serve in none half a point less, make in none\n"
        "the p95 wait more than 2 % longer, and the wait already spent has to count in it (`wait_weight` above 0). The first two bounds were written down before the first sweep;\n"
        f"the other two came after the second, and they decide: without them the pick is {_named(first)} (score {score:.4f}),\n"
        f"with a p95 wait of {ratio(max(beside(first, 'wait_p95_s')))} in the city where it is worst.\n"
        "Windows were swept together with `patient_way_s`, the seconds of way beyond which nobody is sent at first;\n"
        f"the other weights one at a time, then again around the best. What a line does not name is {fixed}. With `patient_way_s 100000` there is no such bound: what is left is worth the\n"
        "assignment alone. One seed each: scores that differ by less than a hundredth may change places with another.\n\n"
        + table(head, lines)
    )


def _named(setting: Setting) -> str:
    window_s, weights = setting
    named = {name: value for name, value in weights if name == "patient_way_s" or value != FIXED.get(name)}
    return ", ".join([f"{window_s:g} s", *(f"{name} {value:g}" for name, value in named.items())])


def _explaining(kept: Rows) -> str:
    lines = []
    for one in kept:
        found, others = explaining.overhead(one["pairs"]), explaining.others_of(one["pairs"])
        lines.append(
            (
                one["policy"],
                str(len(one["pairs"])),
                with_bounds(found, ratio),
                f"at most 5 %: {verdict(found, 1 + explaining.TARGET)}",
                f"{others[0]:.2f}-{others[1]:.2f}",
                f"{one['rounds_written']:,}",
                f"{one['date'][:10]}, {one['commit'][:9]}",
            )
        )
    head = (
        "policy",
        "pairs",
        "CPU per job offered: median, 95 %",
        "target",
        "cores busy with others",
        "rounds written",
        "run",
    )
    return (
        "## What explanations cost\n\n`python -m bench simulate --overhead PAIRS --policy POLICY`: two real servers that differ by EXPLAIN, the same jobs in turns, processor time of server, Redis and Postgres\n"
        "together for each job offered. Jobs are created over HTTP, offered and cancelled; accepts, trips and most positions are not in it, so the share is larger here than in life.\n"
        "The interval is of the median of the pairs, by their ranks. Where others kept a core busy meanwhile the pairs differ by more than what is looked for, and nothing is sure.\n"
        "On a quiet machine: `python -m bench simulate --overhead 12 --run-s 30 --policy waves`, and the same with `--policy batch --providers 800`; about 15 minutes each.\n\n"
        + table(head, lines)
    )


def _solving(kept: dict[str, Any]) -> str:
    rows = kept["sizes"]
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
        f"{rows[0]['times']} problems of each size: places even in a square of 10 km, one thread. `{kept['made_by']}`, {kept['date'][:10]}, commit {kept['commit'][:9]}. {' '.join(kept.get('notes', ()))}\n\n"
        + table(("jobs x cabs", "p50", "p99", "max"), lines)
    )
