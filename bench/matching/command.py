"""`python -m bench simulate`."""

import argparse
from pathlib import Path

from bench.matching.city import Days
from bench.matching.engine import World
from bench.matching.measures import measures
from dispatch.markets import Market, Markets

_CARRIED = Path(__file__).parents[1] / "data" / "sf"


def market_with(policy: str, window_s: float | None = None) -> Market:
    """San Francisco as shipped, under another policy."""
    settings: dict[str, object] = {"policy": policy}
    if window_s is not None:
        settings["batch_window_s"] = window_s
    return Markets.load({"sf": settings})["sf"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench simulate", description=__doc__)
    parser.add_argument("--data", type=Path, default=_CARRIED)
    parser.add_argument("--date", action="append")
    parser.add_argument("--policy", default="nearest")
    parser.add_argument("--cabs-per-busy", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    market = market_with(args.policy)
    dates = args.date or ["2008-05-23"]
    city = Days(args.data, market, dates, traces="2008-05-23").city(dates, args.cabs_per_busy)
    outcome = World(city, market, seed=args.seed).run()
    for name, value in measures(outcome, market).items():
        print(f"{name:24} {value}")
    return 0
