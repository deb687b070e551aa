"""Every policy over the same days, fleets and seeds, and what the difference between them is worth.

A cell is a density and a fleet; a pair is one stretch and seed of it. Policies are compared pair by pair: the same customers at the same
moments, the same cabs, the same answer to the same offer. What is made of the pairs: `bench.matching.intervals`.
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.demo.summary import commit, machine
from bench.matching.behaviour import READY, RELUCTANT, Behaviour
from bench.matching.city import City, Recorded
from bench.matching.engine import World
from bench.matching.ground import Ground
from bench.matching.measures import measures, quantile
from dispatch.markets import Market, Markets
from dispatch.matching import Batch, Question, Search, Standing, decide, policy_named, terms_of
from dispatch.presence import Candidate

Weights = tuple[tuple[str, float], ...]
"""All weights of `batch`, by name in order."""
Setting = tuple[float, Weights]
"""A window of `batch`, and its weights."""
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
FIXED = {
    "neighbours": 12,
    "wait_weight": 0.3,
    "idle_weight": 0.001,
    "patient_way_s": MIDDLE[1],
    "patient_share": 2.0,
}
"""Weights of a sweep's setting that does not name them, whatever is shipped by then."""
AROUND: tuple[tuple[float, tuple[tuple[str, float], ...]], ...] = (
    *(
        (2.0, (("patient_way_s", patience_s), ("wait_weight", weight)))
        for patience_s in (90.0, 120.0, 150.0, 180.0, 240.0)
        for weight in (0.0, 0.1, 0.3)
        if (patience_s, weight) != (180.0, 0.3)
    ),
    *(
        (4.0, (("patient_way_s", patience_s), ("wait_weight", weight)))
        for patience_s in (120.0, 180.0)
        for weight in (0.0, 0.1)
    ),
    *((2.0, (("patient_way_s", 180.0), ("patient_share", share))) for share in (1.5, 3.0)),
)
"""The second sweep. The first had found its best, 2 s with 180 s, at the edge of what it saw, and a smaller `wait_weight` better at `MIDDLE`."""
EDGE: tuple[tuple[float, tuple[tuple[str, float], ...]], ...] = (
    *((2.0, (("patient_way_s", patience_s), ("wait_weight", 0.0))) for patience_s in (45.0, 60.0)),
    *(
        (2.0, (("patient_way_s", patience_s), ("patient_share", share)))
        for patience_s in (180.0, 240.0)
        for share in (1.0, 1.25)
    ),
    *(
        (2.0, (("patient_way_s", patience_s), ("patient_share", 1.5), ("wait_weight", weight)))
        for patience_s in (150.0, 180.0, 240.0)
        for weight in (0.0, 0.1, 0.3)
        if (patience_s, weight) != (180.0, 0.3)
    ),
)
"""The third. By score alone the second had its best at its edge again, 90 s and no `wait_weight`; among those whose long waits are no longer
than those of `nearest` it had it at 180 s with a `patient_share` of 1.5, and had seen no smaller one there.
"""
SIZES = ((10, 10), (100, 100), (300, 300), (1_000, 300), (300, 1_000), (1_000, 1_000))
"""Windows whose decision is timed, jobs by cabs."""


class SplitError(Exception):
    """The days given cannot be parted into those for tuning and those for the tables."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is driven of a day: from so many hours after its beginning, 05:00 local, for so long."""

    from_h: float
    hours: float


Stretches = Mapping[str, Sequence[Stretch]]
"""What is driven of each density."""
STRETCHES: Stretches = {
    "one day": (Stretch(0.0, 24.0),),
    "dense": tuple(Stretch(from_h, 2.0) for from_h in range(2, 18, 2)),
}
"""Of the days laid over each other eight stretches of two hours, from 07:00 to 23:00 local: they share no trip."""
ELSEWHERE = "New York"
"""The density of rows that are of days of another city, whose trips have ends by a model."""
SELDOM = "one yes in five"
"""The density of rows whose drivers are `RELUCTANT`: the same days and fleets as "one day"."""
SWEPT: Stretches = {"one day": (Stretch(12.0, 6.0),), "dense": (Stretch(12.0, 1.0),)}
"""What is driven of a day for each of some fifty settings."""


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated stretch of a day."""

    density: str
    fleet: str
    dates: tuple[str, ...]
    stretch: Stretch
    seed: int
    policy: str
    setting: Setting | None = None
    """Of `batch`; None: what is shipped."""
    drivers: Behaviour = READY


def shipped() -> Setting:
    """What `batch` does in a market that says nothing of it."""
    return market_with("batch").batch_window_s, weights_of(policy_named("batch"))


def weights_of(brain: object) -> Weights:
    """All weights of a `Batch`, by name."""
    assert isinstance(brain, Batch)
    return tuple(sorted(asdict(brain).items()))


@cache
def market_with(policy: str, window_s: float | None = None) -> Market:
    """San Francisco as shipped, under another policy."""
    settings: dict[str, object] = {"policy": policy}
    if window_s is not None:
        settings["batch_window_s"] = window_s
    return Markets.load({"sf": settings})["sf"]


def split(everything: Sequence[str]) -> tuple[list[str], list[str]]:
    """(days for tuning, days for the tables) of those given. Raises SplitError where one of them would be none: then nothing is left to
    judge the defaults by that they were not chosen on.
    """
    tuning = [date for date in everything if date in TUNED_ON]
    testing = [date for date in everything if date not in TUNED_ON]
    if not tuning or not testing:
        raise SplitError(
            f"of {len(everything)} days given {len(tuning)} are for tuning ({', '.join(TUNED_ON)}): both those and others are needed"
        )
    return tuning, testing


def elsewhere(dates: Sequence[str], seeds: int, stretches: Sequence[Stretch]) -> list[Run]:
    """All runs over days of another city, each alone."""
    return [
        Run(ELSEWHERE, fleet, (date,), at, seed, policy)
        for seed in _to(seeds)
        for at in stretches
        for date in dates
        for fleet in FLEETS
        for policy in POLICIES
    ]


def seldom(dates: Sequence[str], seeds: int, stretches: Sequence[Stretch]) -> list[Run]:
    """Each of `dates` alone, with drivers who seldom say yes. A broadcast, which asks everybody anyway, is left out."""
    return [
        Run(SELDOM, fleet, (date,), at, seed, policy, drivers=RELUCTANT)
        for seed in _to(seeds)
        for at in stretches
        for date in dates
        for fleet in FLEETS
        for policy in POLICIES
        if policy != "broadcast"
    ]


def grid(
    dates: Sequence[str], everything: Sequence[str], seeds: int, dense_seeds: int, stretches: Stretches = STRETCHES
) -> list[Run]:
    """All runs: each of `dates` alone, and all of `everything` in one. Whoever stops early has whole pairs."""
    days = [("one day", (date,), at, seed) for seed in _to(seeds) for at in stretches["one day"] for date in dates]
    dense = [("dense", tuple(everything), at, seed) for seed in _to(dense_seeds) for at in stretches["dense"]]
    mixed = [one for pair in zip_longest(days, dense) for one in pair if one is not None]
    return [
        Run(density, fleet, days, at, seed, policy)
        for density, days, at, seed in mixed
        for fleet in FLEETS
        for policy in POLICIES
    ]


def _to(seeds: int) -> range:
    return range(1, seeds + 1)


def first_settings() -> list[Setting]:
    """Of the first sweep: windows with patiences, then the other weights one at a time."""
    middle_s, patience_s = MIDDLE
    some = [(window_s, {"patient_way_s": patience}) for window_s in SWEEP_S for patience in PATIENCES_S]
    some += [(middle_s, {"patient_way_s": patience_s, name: value}) for name, values in OTHERS for value in values]
    return [_setting(window_s, weights) for window_s, weights in some]


def settings_of(sweep_name: str) -> list[Setting]:
    """Of the sweep with that name. Raises KeyError."""
    some = {"around": AROUND, "edge": EDGE}
    if sweep_name == "first":
        return first_settings()
    return [_setting(window_s, dict(weights)) for window_s, weights in some[sweep_name]]


def _setting(window_s: float, weights: Mapping[str, float]) -> Setting:
    return window_s, tuple(sorted({**FIXED, **weights}.items()))


def sweep(dates: Sequence[str], settings: Sequence[Setting], stretches: Stretches = SWEPT) -> list[Run]:
    """`batch` with these windows and weights, and `nearest` to hold it against, on the days for tuning alone: the dense city is made of them
    too.
    """
    runs = []
    for density, days in [*(("one day", (date,)) for date in dates), ("dense", tuple(dates))]:
        for at in stretches[density]:
            for fleet in FLEETS:
                runs.append(Run(density, fleet, days, at, 1, "nearest"))
                runs += [Run(density, fleet, days, at, 1, "batch", setting) for setting in settings]
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


_INHERITED: Recorded | None = None
_SIZES: dict[tuple[tuple[str, ...], Stretch, str], tuple[float, float]] = {}


def _one(run: Run) -> dict[str, Any]:
    assert _INHERITED is not None
    days, at = _INHERITED, run.stretch
    window_s, weights = (shipped() if run.policy == "batch" else (None, ())) if run.setting is None else run.setting
    market = market_with(run.policy, window_s)

    def city_of(per_busy: float) -> City:
        return days.city(run.dates, per_busy, first_h=at.from_h, hours=at.hours)

    key = run.dates, at, run.fleet
    if key not in _SIZES:
        _SIZES[key] = sized(city_of, run.fleet)
    per_busy, aimed = _SIZES[key]
    city = city_of(per_busy)
    brain = Batch(**dict(weights)) if weights else None  # type: ignore[arg-type]
    outcome = World(city, market, seed=run.seed, brain=brain, behaviour=run.drivers).run()
    what = {name: getattr(run, name) for name in ("density", "fleet", "dates", "seed", "policy")}
    what |= {"window_s": window_s, "weights": dict(weights), **asdict(at)}
    sizes = {"cabs": max(city.out), "per_busy": round(per_busy, 4), "busy_when_sized": round(aimed, 4)}
    return {**what, **sizes, **measures(outcome, market)}


def carried_out(runs: Sequence[Run], days: Recorded, processes: int) -> Iterator[dict[str, Any]]:
    """The row of each run, as they come in; the days are read once and inherited."""
    global _INHERITED
    _INHERITED = days
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
                "p50_ms": round(quantile(took, 0.5) or 0, 2),
                "p99_ms": round(quantile(took, 0.99) or 0, 2),
                "max_ms": round(max(took), 2),
            }
        )
    return rows
