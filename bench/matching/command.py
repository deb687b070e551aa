"""`python -m bench simulate`: the server's matching policies over recorded trips, on a virtual clock.

Without options: the San Francisco night that the project carries, under `nearest`. `--log` writes down every decision, `--replay` asks
today's brain the same again. `--evidence` runs all policies over all days of `--data` and keeps the rows; `--page` prints them.
A folder of New York's pickups is driven too; where its trips end is a model (bench/matching/pickups.py).
"""

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from bench.demo.command import at_least_one
from bench.demo.recording import RecordingError
from bench.figures import perform
from bench.matching import evidence, explaining, page
from bench.matching.city import City, Days, Recorded, made_up
from bench.matching.engine import World
from bench.matching.evidence import FLEETS, POLICIES, TRACES, market_with
from bench.matching.measures import measures
from bench.matching.pickups import DATES, Pickups, here
from dispatch.matching import Recorder, replay

_CARRIED = Path(__file__).parents[1] / "data" / "sf"
_RESULTS = Path(__file__).parents[1] / "results" / "matching"


def main(arguments: list[str]) -> int:
    """0; 1 when a replay differs; 2 for what cannot be done."""
    try:
        return _carry_out(_parser().parse_args(arguments))
    except RecordingError as refused:
        print(refused, file=sys.stderr)
        return 2


def _carry_out(args: argparse.Namespace) -> int:
    """Raises RecordingError."""
    if args.replay is not None:
        return _replay(args.replay)
    if args.overhead is not None:
        return _overhead(args)
    if args.evidence and here(args.data) and not args.reluctant:
        return _elsewhere(args)
    if args.evidence or args.sweep:
        return _evidence(args)
    if args.solving is not None:
        return _solving(args.solving)
    if args.page is not None:
        try:
            args.page.write_text(page.text(_RESULTS), encoding="utf-8")
        except page.PageError as refused:
            print(refused, file=sys.stderr)
            return 2
        return 0
    market = market_with(args.policy, args.window_s)

    def city_of(per_busy: float) -> City:
        if days is None:
            return made_up(args.made_up, market, trips=args.trips, hours=2, per_busy=per_busy)
        return days.city(dates, per_busy)

    dates = args.date or [DATES[0] if here(args.data) else TRACES]
    days: Recorded | None = None
    if args.made_up is None:
        days = Pickups(args.data, market, dates) if here(args.data) else Days(args.data, market, dates, traces=TRACES)
    city = city_of(evidence.sized(city_of, args.fleet)[0])
    if args.log is None:
        outcome = World(city, market, seed=args.seed).run()
    else:
        with Recorder(args.log) as recorder:
            outcome = World(city, market, seed=args.seed, listener=recorder).run()
        print(f"log                      {recorder.kept} decisions in {args.log}, {recorder.left_out} left out")
    for name, value in measures(outcome, market).items():
        print(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=_CARRIED, help="folder of recorded days (default: what is carried)"
    )
    parser.add_argument("--date", action="append", help="day to drive; several are laid over each other")
    parser.add_argument("--made-up", type=int, metavar="SEED", help="a city out of nothing instead")
    parser.add_argument("--trips", type=int, default=400, help="trips of a made-up city (default: 400)")
    parser.add_argument("--policy", choices=POLICIES, default="nearest")
    parser.add_argument("--window-s", type=float, help="window of batch (default: the market's)")
    parser.add_argument("--fleet", choices=FLEETS, default="balanced")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="write every decision here, packed JSON lines")
    parser.add_argument("--replay", type=Path, metavar="LOG", help="ask the brain the questions of a log again")
    parser.add_argument("--evidence", action="store_true", help="all policies, days, fleets and densities")
    parser.add_argument(
        "--reluctant",
        action="store_true",
        help="of --evidence: the days alone, with drivers of whom one in five says yes",
    )
    parser.add_argument(
        "--sweep",
        choices=("first", "around", "edge"),
        help="windows and weights of batch, on the days for tuning: far apart, around the best, or beyond its edge",
    )
    parser.add_argument("--solving", type=at_least_one, metavar="TIMES", help="what a decision of batch costs, by size")
    parser.add_argument("--seeds", type=at_least_one, default=2, help="seeds of each day (default: 2)")
    parser.add_argument(
        "--dense-seeds", type=at_least_one, default=1, help="seeds of each stretch of the dense city (default: 1)"
    )
    for density in ("day", "dense"):
        parser.add_argument(
            f"--{density}-hours",
            type=float,
            nargs=2,
            action="append",
            metavar=("FROM", "HOURS"),
            help="drive this stretch, from so many hours after 05:00 local; may be given again (default: see the module evidence)",
        )
    parser.add_argument(
        "--overhead", type=at_least_one, metavar="PAIRS", help="what explanations cost: two real servers, in turns"
    )
    parser.add_argument("--rate", type=float, default=30.0, help="of --overhead: jobs a second (default: 30)")
    parser.add_argument("--run-s", type=float, default=12.0, help="of --overhead: of a stretch (default: 12)")
    parser.add_argument("--providers", type=at_least_one, default=400, help="of --overhead (default: 400)")
    parser.add_argument("--json", type=Path, help="of --overhead: figures go there (default: among the results)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", type=Path, help="write the page of the kept rows here")
    return parser


def _replay(log: Path) -> int:
    try:
        count, others = replay(log)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{log} is no log of decisions that can be read: {error}", file=sys.stderr)
        return 2
    print(f"{count} decisions, {len(others)} otherwise")
    for line in others[:3]:
        print(f"  at {line['at_ms']}: was {line['offers']} {line['reasons']}, is {line['now']}", file=sys.stderr)
    return 1 if others else 0


def _overhead(args: argparse.Namespace) -> int:
    shown = argparse.Namespace(
        policy=args.policy,
        pairs=args.overhead,
        providers=args.providers,
        customers=200,
        rate=args.rate,
        run_s=args.run_s,
        json=_RESULTS / f"explaining_{args.policy}.json" if args.json is None else args.json,
    )
    return perform(explaining.scenario, shown)


def _elsewhere(args: argparse.Namespace) -> int:
    """The tables over New York's pickups, whole days unless told."""
    given = [evidence.Stretch(*one) for one in args.day_hours or ((0.0, 24.0),)]
    runs = evidence.elsewhere(DATES, args.seeds, given)
    words = [f"--day-hours {one.from_h:g} {one.hours:g}" for one in given if args.day_hours]
    kept: dict[str, Any] = {
        "made_by": " ".join(["python -m bench simulate --evidence --data …/nyc", *words, f"--seeds {args.seeds}"]),
        **evidence.stamp(),
        "dates": DATES,
        "stretches": [asdict(one) for one in given],
        "rows": [],
    }
    rows = evidence.carried_out(runs, Pickups(args.data, market_with("nearest")), args.processes)
    keep(_RESULTS / "elsewhere.json", kept, len(runs), rows)
    return 0


def _evidence(args: argparse.Namespace) -> int:
    everything = evidence.dates_in(args.data)
    if TRACES not in everything:
        print(f"no traces of {TRACES} in {args.data}", file=sys.stderr)
        return 2
    try:
        tuning, testing = evidence.split(everything)
    except evidence.SplitError as refused:
        print(refused, file=sys.stderr)
        return 2
    days = Days(args.data, market_with("nearest"), everything, traces=TRACES)
    stretches = dict(evidence.SWEPT if args.sweep else evidence.STRETCHES)
    words = []
    for density, name, given in (("one day", "day", args.day_hours), ("dense", "dense", args.dense_hours)):
        if given:
            stretches[density] = tuple(evidence.Stretch(*one) for one in given)
            words += [f"--{name}-hours {from_h:g} {hours:g}" for from_h, hours in given]
    if args.reluctant:
        name, runs = "reluctant", evidence.seldom(testing, args.seeds, stretches["one day"])
        words = ["--evidence --reluctant", *words, f"--seeds {args.seeds}"]
        dates = {evidence.SELDOM: testing}
        stretches = {evidence.SELDOM: stretches["one day"]}
    elif args.sweep:
        name, runs = f"sweep_{args.sweep}", evidence.sweep(tuning, evidence.settings_of(args.sweep), stretches)
        words.insert(0, f"--sweep {args.sweep}")
        dates = {"one day": tuning, "dense": tuning}
    else:
        name, runs = "policies", evidence.grid(testing, everything, args.seeds, args.dense_seeds, stretches)
        words = ["--evidence", *words, f"--seeds {args.seeds} --dense-seeds {args.dense_seeds}"]
        dates = {"one day": testing, "dense": everything}
    kept: dict[str, Any] = {
        "made_by": " ".join(["python -m bench simulate", *words]),
        **evidence.stamp(),
        "fleets": FLEETS,
        "dates": dates,
        "stretches": {density: [asdict(one) for one in some] for density, some in stretches.items()},
        "rows": [],
    }
    rows = evidence.carried_out(runs, days, args.processes)
    keep(_RESULTS / f"{name}.json", kept, len(runs), rows)
    return 0


def keep(path: Path, kept: dict[str, Any], count: int, rows: Iterable[dict[str, Any]]) -> None:
    """Write `kept` with its rows to `path`, when there are all `count` of them. Until then they grow in a file beside it: who stops a run
    loses no earlier one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_suffix(".part")
    for row in rows:
        kept["rows"].append(row)
        print(
            f"{len(kept['rows']):4}/{count} {row['density']:8} {row['fleet']:9} {row['policy']:10} {row['dates'][0]} {row['from_h']:g} {row['seed']}"
            f" {row['window_s'] or ''} {row['weights'] or ''} busy {row['busy']:.3f} served {row['served']:.3f} pickup {row['pickup_m'] or 0:.0f} m, {row['times_life']:.0f} times life",
            flush=True,
        )
        kept["rows"].sort(key=_place)
        growing.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    if len(kept["rows"]) == count:
        growing.replace(path)


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    setting = row["window_s"] or 0, sorted(row["weights"].items())
    return (
        row["density"],
        row["fleet"],
        row["policy"],
        *setting,
        list(row["dates"]),
        row["from_h"],
        row["hours"],
        row["seed"],
    )


def _solving(times: int) -> int:
    kept = {
        "made_by": f"python -m bench simulate --solving {times}",
        **evidence.stamp(),
        "weights": dict(evidence.shipped()[1]),
        "sizes": evidence.solving(evidence.SIZES, times),
    }
    (_RESULTS / "solving.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    return 0
