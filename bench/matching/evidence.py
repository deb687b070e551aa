"""Every policy over the same days, fleets and seeds, and what the difference between them is worth.

A cell is a density and a fleet; a pair is one day and seed of it. Policies are compared pair by pair: the same customers at the same
moments, the same cabs, the same answer to the same offer. Intervals are 95 % by bootstrap over the pairs of a cell.
"""

import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.demo.summary import commit, machine
from bench.matching.city import Days
from bench.matching.engine import World
from bench.matching.ground import Ground
from bench.matching.measures import measures, quantile
from dispatch.markets import Market, Markets
from dispatch.matching import Question, Search, Standing, decide, policy_named, terms_of
from dispatch.presence import Candidate

POLICIES = ("nearest", "waves", "broadcast", "batch")
FLEETS = {"scarce": 1.5, "balanced": 2.0, "plenty": 3.5}
"""Cabs out for each that the trips alone keep busy: the way to the pickup and waiting between jobs come on top."""
TRACES = "2008-05-23"
"""The one given day whose cabs are known around the clock."""
TUNED_ON = ("2008-05-17", "2008-05-19", "2008-05-21", "2008-05-27", "2008-06-02")
"""The defaults of `batch` were chosen on these days; the tables are of the others."""
SWEEP_S = (2.0, 4.0, 6.0, 10.0, 15.0, 20.0)
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


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated day."""

    density: str
    fleet: str
    dates: tuple[str, ...]
    seed: int
    policy: str
    window_s: float | None = None


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


def sweep(dates: Sequence[str], everything: Sequence[str]) -> list[Run]:
    """`batch` with other windows, and `nearest` to hold it against, on the days for tuning."""
    runs = []
    for density, days in [*(("one day", (date,)) for date in dates), ("dense", tuple(everything))]:
        for fleet in FLEETS:
            runs.append(Run(density, fleet, days, 1, "nearest"))
            runs += [Run(density, fleet, days, 1, "batch", window_s) for window_s in SWEEP_S]
    return runs


_INHERITED: tuple[Days, dict[str, Stretch]] | None = None


def _one(run: Run) -> dict[str, Any]:
    assert _INHERITED is not None
    days, stretches = _INHERITED
    market, stretch = market_with(run.policy, run.window_s), stretches[run.density]
    city = days.city(run.dates, FLEETS[run.fleet], first_h=stretch.from_h, hours=stretch.hours)
    return {**asdict(run), "cabs": max(city.out), **measures(World(city, market, seed=run.seed).run(), market)}


def carried_out(
    runs: Sequence[Run], days: Days, processes: int, stretches: dict[str, Stretch] = STRETCHES
) -> Iterator[dict[str, Any]]:
    """The row of each run, as they come in; the days are read once and inherited."""
    global _INHERITED
    _INHERITED = days, stretches
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
