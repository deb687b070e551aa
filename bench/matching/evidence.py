"""Every policy over the same days, fleets and seeds, and what the difference between them is worth.

A cell is a density and a fleet; a pair is one day and seed of it. Policies are compared pair by pair: the same customers at the same
moments, the same cabs, the same answer to the same offer. Intervals are 95 % by bootstrap over the pairs of a cell.
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.demo.summary import commit, machine
from bench.matching.city import City, Days
from bench.matching.engine import World
from bench.matching.ground import Ground
from bench.matching.measures import measures, quantile
from dispatch.markets import Market, Markets
from dispatch.matching import Batch, Question, Search, Standing, decide, policy_named, terms_of
from dispatch.presence import Candidate

POLICIES = ("nearest", "waves", "broadcast", "batch")
FLEETS = {"scarce": 0.92, "balanced": 0.725, "plenty": 0.43}
"""A fleet is so large that its cabs spend this share of their time on shift with a customer or on the way to one, under `nearest`.
Scarce is above nine tenths, balanced between 70 and 75 %, plenty below 45 %. Chosen before anything was run with it.
"""
WITHIN = 0.01
"""A fleet's share may miss its aim by so much."""
SIZING_SEED = 0
"""Of the runs that find a fleet's size; the tables are of other seeds."""
TRACES = "2008-05-23"
"""The one given day whose cabs are known around the clock."""
TUNED_ON = ("2008-05-17", "2008-05-19", "2008-05-21", "2008-05-27", "2008-06-02")
"""The defaults of `batch` were chosen on these days; the tables are of the others."""
SWEEP_S = (2.0, 4.0, 6.0, 10.0, 15.0, 20.0)
"""Windows that are swept, each with all of `PATIENCES_S`."""
PATIENCES_S = (180.0, 300.0, 600.0)
OTHERS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("patient_way_s", (100_000.0,)),  # no patience at all: as far as the market reaches, like `nearest`
    ("patient_share", (0.5, 1.0, 4.0)),
    ("wait_weight", (0.0, 0.1, 1.0)),
    ("idle_weight", (0.0, 0.005)),
    ("neighbours", (6, 24)),
)
"""Weights of `batch` that are swept one at a time, from `MIDDLE`."""
MIDDLE = (4.0, 300.0)
"""Window and patience in the middle of what is swept; what was shipped before the first sweep."""
SIZES = ((10, 10), (100, 100), (300, 300), (1_000, 300), (300, 1_000), (1_000, 1_000))
"""Windows whose decision is timed, jobs by cabs."""
_RESAMPLED = 2_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is driven of a day: from so many hours after its beginning, 05:00 local, for so long."""

    from_h: float
    hours: float


STRETCHES = {"one day": Stretch(0.0, 24.0), "dense": Stretch(12.0, 2.0)}
"""Of the days laid over each other only 17:00 to 19:00 local: some 30,000 trips."""
SWEPT = {"one day": Stretch(12.0, 6.0), "dense": Stretch(12.0, 1.0)}
"""What is driven of a day for each of some hundred settings."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated day."""

    density: str
    fleet: str
    dates: tuple[str, ...]
    seed: int
    policy: str
    window_s: float | None = None
    weights: tuple[tuple[str, float], ...] = ()
    """Of `batch`, where they are not the defaults."""


@cache
def market_with(policy: str, window_s: float | None = None) -> Market:
    """San Francisco as shipped, under another policy."""
    settings: dict[str, object] = {"policy": policy}
    if window_s is not None:
        settings["batch_window_s"] = window_s
    return Markets.load({"sf": settings})["sf"]


def grid(dates: Sequence[str], everything: Sequence[str], seeds: int, dense_seeds: int) -> list[Run]:
    """All runs: each of `dates` alone, and all of `everything` in one. Whoever stops early has whole pairs."""
    days = [("one day", (date,), seed) for seed in range(1, seeds + 1) for date in dates]
    dense = [("dense", tuple(everything), seed) for seed in range(1, dense_seeds + 1)]
    mixed = [one for pair in zip_longest(days, dense) for one in pair if one is not None]
    return [
        Run(density, fleet, days, seed, policy)
        for density, days, seed in mixed
        for fleet in FLEETS
        for policy in POLICIES
    ]


def sweep(dates: Sequence[str]) -> list[Run]:
    """`batch` with other windows and weights, and `nearest` to hold it against, on the days for tuning alone: the dense city is made of them
    too.
    """
    settings: list[tuple[float, tuple[tuple[str, float], ...]]] = [
        (window_s, (("patient_way_s", patience_s),)) for window_s in SWEEP_S for patience_s in PATIENCES_S
    ]
    middle_s, patience_s = MIDDLE
    settings += [
        (middle_s, tuple({"patient_way_s": patience_s, name: value}.items()))
        for name, values in OTHERS
        for value in values
    ]
    runs = []
    for density, days in [*(("one day", (date,)) for date in dates), ("dense", tuple(dates))]:
        for fleet in FLEETS:
            runs.append(Run(density, fleet, days, 1, "nearest"))
            runs += [Run(density, fleet, days, 1, "batch", window_s, weights) for window_s, weights in settings]
    return runs


def sized(city_of: Callable[[float], City], fleet: str) -> tuple[float, float]:
    """(cabs out for each that the trips alone keep busy, the share of their time that these are busy under `nearest`) for a fleet of that
    name: by halves, until the share is within `WITHIN` of its aim, or as near as twelve runs come.
    """
    market, aim = market_with("nearest"), FLEETS[fleet]
    low, high = 0.8, 12.0
    best: tuple[float, float] | None = None
    for _ in range(12):
        per_busy = (low * high) ** 0.5
        busy = measures(World(city_of(per_busy), market, seed=SIZING_SEED).run(), market)["busy"]
        if best is None or abs(busy - aim) < abs(best[1] - aim):
            best = per_busy, busy
        if abs(busy - aim) <= WITHIN:
            break
        low, high = (per_busy, high) if busy > aim else (low, per_busy)
    assert best is not None
    return best


_INHERITED: tuple[Days, dict[str, Stretch]] | None = None
_SIZES: dict[tuple[tuple[str, ...], Stretch, str], tuple[float, float]] = {}


def _one(run: Run) -> dict[str, Any]:
    assert _INHERITED is not None
    days, stretches = _INHERITED
    market, stretch = market_with(run.policy, run.window_s), stretches[run.density]

    def city_of(per_busy: float) -> City:
        return days.city(run.dates, per_busy, first_h=stretch.from_h, hours=stretch.hours)

    key = run.dates, stretch, run.fleet
    if key not in _SIZES:
        _SIZES[key] = sized(city_of, run.fleet)
    per_busy, aimed = _SIZES[key]
    city = city_of(per_busy)
    brain = Batch(**dict(run.weights)) if run.weights else None  # type: ignore[arg-type]
    outcome = World(city, market, seed=run.seed, brain=brain).run()
    sizes = {"cabs": max(city.out), "per_busy": round(per_busy, 4), "busy_when_sized": round(aimed, 4)}
    return {**asdict(run), "weights": dict(run.weights), **sizes, **measures(outcome, market)}


def carried_out(
    runs: Sequence[Run], days: Days, processes: int, stretches: dict[str, Stretch] = STRETCHES
) -> Iterator[dict[str, Any]]:
    """The row of each run, as they come in; the days are read once and inherited."""
    global _INHERITED
    _INHERITED = days, stretches
    _SIZES.clear()
    if processes == 1:
        yield from map(_one, runs)
        return
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=8) as pool:
        yield from pool.imap_unordered(_one, runs)


def stamp() -> dict[str, Any]:
    """Where, when and from what it was measured."""
    versions = {name: metadata.version(name) for name in ("numpy", "scipy")}
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"date": date, "commit": commit(), "machine": machine(), "versions": versions}


def dates_in(folder: Path) -> list[str]:
    """The days that a folder has requests of."""
    return sorted(path.name.split("_")[1][:10] for path in folder.glob("requests_*.csv.gz"))


def interval(pairs: Sequence[tuple[float, float]], *, ratio: bool) -> tuple[float, float, float]:
    """(value, low, high) of what the first of each pair is to the second: mean over mean, or the mean difference."""
    chance = random.Random(1)

    def value(some: Sequence[tuple[float, float]]) -> float:
        first, second = sum(one for one, _ in some), sum(two for _, two in some)
        if ratio:
            return first / second if second else float("nan")
        return (first - second) / len(some)

    again = sorted(value(chance.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLED))
    return value(pairs), again[round(0.025 * _RESAMPLED)], again[round(0.975 * _RESAMPLED) - 1]


def paired(
    rows: Sequence[dict[str, Any]], density: str, fleet: str, policy: str, name: str, against: str = "nearest"
) -> list[tuple[float, float]]:
    """Of one cell, the measure of `policy` beside that of `against`, pair by pair."""
    cell = [row for row in rows if row["density"] == density and row["fleet"] == fleet]
    base = {(*row["dates"], row["seed"]): row[name] for row in cell if row["policy"] == against}
    return [(row[name], base[(*row["dates"], row["seed"])]) for row in cell if row["policy"] == policy]


Setting = tuple[float, tuple[tuple[str, float], ...]]
"""A window and those weights that were set."""


def setting_of(row: dict[str, Any]) -> Setting:
    return row["window_s"], tuple(sorted(row["weights"].items()))


def ranked(rows: Sequence[dict[str, Any]]) -> list[tuple[float, bool, Setting]]:
    """The settings of a sweep, the best first: (score, whether it may be the default, setting).

    The rule, written before the sweep was run: the score is the mean over all cells of pickup metres and median wait, each as a
    ratio to `nearest`, in equal parts: the one is the drivers' cost, the other the customers'. A default may make pickups in no cell more
    than 2 % longer and serve in none half a point less.
    """
    found = []
    for setting in sorted({setting_of(row) for row in rows if row["policy"] == "batch"}, key=str):
        some = [row for row in rows if row["policy"] != "batch" or setting_of(row) == setting]
        cells = [(density, fleet) for density in STRETCHES for fleet in FLEETS]
        pickups = [interval(paired(some, *cell, "batch", "pickup_m"), ratio=True)[0] for cell in cells]
        waits = [interval(paired(some, *cell, "batch", "wait_p50_s"), ratio=True)[0] for cell in cells]
        served = [interval(paired(some, *cell, "batch", "served"), ratio=False)[0] for cell in cells]
        fits = max(pickups) <= 1.02 and min(served) >= -0.005
        found.append((sum(pickups + waits) / (2 * len(cells)), fits, setting))
    return sorted(found, key=lambda one: (not one[1], one[0], str(one[2])))


def problem(jobs: int, cabs: int, seed: int, side_m: float = 10_000) -> Question:
    """A window of that size out of nothing: places even in a square, waits up to 20 s, candidates as far as `batch` looks."""
    chance = random.Random(seed)
    market = market_with("batch")
    ground = Ground(cabs, 1.0)
    who = [UUID(int=(2 << 96) + number) for number in range(cabs)]
    for cab in range(cabs):
        ground.put(cab, chance.random() * side_m, chance.random() * side_m, 0)
    reach = policy_named("batch").reach(market, 0)
    searches, found = [], {}
    for number in range(jobs):
        job = UUID(int=(1 << 96) + number)
        searches.append(Search(job, "sf", "ride", 0, 0.0, 0.0, False, False, False, (), chance.random() * 20))
        near = ground.near(chance.random() * side_m, chance.random() * side_m, reach.wanted, reach.radius_m)
        found[job] = [Candidate(who[cab], metres) for cab, metres in near]
    standings = {one: Standing(chance.random() * 1_000, 0.5 + chance.random() / 2) for one in who}
    return Question(0, terms_of(market), searches, found, standings)


def solving(sizes: Sequence[tuple[int, int]], times: int) -> list[dict[str, Any]]:
    """What a whole decision of `batch` costs in processor time, by size; each time another problem."""
    decide(problem(50, 50, 0))  # the solver is loaded once, at start
    rows = []
    for jobs, cabs in sizes:
        took = []
        for seed in range(times):
            question = problem(jobs, cabs, seed)
            began = time.thread_time()
            decide(question)
            took.append(1000 * (time.thread_time() - began))
        rows.append(
            {
                "jobs": jobs,
                "cabs": cabs,
                "times": times,
                "p50_ms": round(quantile(took, 0.5), 2),
                "p99_ms": round(quantile(took, 0.99), 2),
                "max_ms": round(max(took), 2),
            }
        )
    return rows
