"""`python -m bench storms`: 5,000 phones return at once (F14), a tenth of them stops reading (F13), four workers are replaced (F15).

Beside each storm pairs of customers and drivers ride without end: what they notice is the measure. Phones, riders and
server share the machine, so the figures are an upper bound of what the server alone would need.
"""

import argparse
import sys
from typing import Any, Final

from bench.accepts import circle
from bench.demo.command import at_least_one
from bench.elsewhere import target
from bench.figures import Row, complete, full, ms, none, options, parsed, perform, seconds, show, verdict
from bench.fleet import cloud, fleet
from bench.meter import Meter, rows_of
from bench.progress import say, wait
from bench.server import Target, server
from bench.storms.trade import Pair, Trade
from bench.storms.weather import CALM_S, not_reading, restarting, returning
from dispatch.markets import Markets

MARKET: Final = "bkk"
STORMS: Final = ("returning", "not_reading", "restarting")
RETURNED_WITHIN_S, LAG_MS, ACCEPT_MS = 30.0, 500.0, 1_000.0
WAITING_KIB, GONE_WITHIN_S, SLOWER = 256.0, 10.0, 1.2
SOCKETS: Final = 5_000
"""For which these are aims."""
CIRCLE_M: Final = 9_000.0
WARM_S: Final = 5.0


SHORT: Final = {"sockets": 400, "pairs": 15, "calm": 3.0, "rounds": 1, "workers": 2}


def parser(name: str = "storms") -> argparse.ArgumentParser:
    # Phones can return to anybody's server; that others' readers are cut and workers replaced is for one of our own.
    found = options(
        name, "Returning phones, phones that do not read, workers replaced under load.", anywhere=name == "storm"
    )
    found.add_argument("--sockets", type=at_least_one, default=SOCKETS, help="of phones (default: 5000)")
    found.add_argument("--pairs", type=at_least_one, default=30, help="who ride meanwhile (default: 30)")
    found.add_argument("--only", choices=STORMS, action="append", default=None, help="one storm; again for another")
    found.add_argument("--calm", type=seconds, default=CALM_S, metavar="S", help="before each storm (default: 12)")
    found.add_argument("--rounds", type=at_least_one, default=5, help="of phones that stop reading (default: 5)")
    found.set_defaults(workers=4)
    return found


def _pairs(running: Target, count: int) -> list[Pair]:
    centre = Markets.load()[MARKET].centre()
    # Far enough from each other that nobody's job finds another driver first.
    places = circle(count, CIRCLE_M, centre)
    drivers, riders = running.providers[:count], running.customers[:count]
    return [Pair(running, *three) for three in zip(drivers, riders, places, strict=True)]


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    wanted = shown.only or STORMS
    figures: dict[str, Any] = {}
    versions: dict[str, str] = {}
    overrides = {"wave_size": 1, "open_board": False, "offer_ttl_s": 60, "research_s": 0.5}
    if "returning" in wanted or "not_reading" in wanted:
        async with target(
            shown, providers=shown.pairs + shown.sockets, customers=shown.pairs, market_overrides=overrides
        ) as running:
            versions = running.versions
            people = running.providers[shown.pairs :]
            phones = fleet(running.url, people, cloud(Markets.load()[MARKET], len(people), seed=1))
            async with Trade(_pairs(running, shown.pairs)) as trade:
                await wait("warming up", WARM_S)
                if "returning" in wanted:
                    async with Meter(running) as meter:
                        figures["returning"] = await returning(running, phones, trade, shown.calm)
                    figures["processes"] = meter.figures
                    figures["latency"] = figures["returning"].pop("curves")
                if "not_reading" in wanted:
                    figures["not_reading"] = await not_reading(
                        running, phones[: max(1, len(phones) // 10)], trade, shown.calm, shown.rounds
                    )
                await trade.finish()
                figures["failed"], figures["failures"] = len(trade.failed()), trade.failed()[:5]
            for phone in phones:
                phone.close()
    if "restarting" in wanted:
        async with server(
            market=MARKET, providers=shown.pairs, customers=shown.pairs, workers=shown.workers, market_overrides=overrides, say=say,
            settings={"DISPATCH_DRAIN_S": "5"},
        ) as running:  # fmt: skip
            versions = running.versions
            async with Trade(_pairs(running, shown.pairs)) as trade:
                await wait("warming up", WARM_S)
                figures["restarting"] = await restarting(running, trade)
    good = _show(figures, shown)
    return complete(figures | {"lines_lost": 0}, shown, versions), 0 if good else 1


def _s(value: float | None) -> str:
    return "never" if value is None else f"{value} s"


def _show(figures: dict[str, Any], shown: argparse.Namespace) -> bool:
    """The tables; whether what must hold at any speed holds: everybody back, resumed, dropped, nothing failed, nothing lost."""
    good = not figures.get("failed")
    # How many return at once decides how long it takes; what a line may hold is the same for few.
    within_s, lag_ms, accept_ms, gone_s = (
        (RETURNED_WITHIN_S, LAG_MS, ACCEPT_MS, GONE_WITHIN_S) if full(shown, (shown.sockets, SOCKETS)) else (None,) * 4
    )
    for line in figures.get("failures", ()):
        print(f"beside the storms: {line}")
    if (one := figures.get("returning")) is not None:
        good &= one["returned"] == one["resumed"] == one["sockets"] and one["accepts"] > 0
        show(
            f"{one['sockets']:,} sockets return at once",
            [
                ("returned and resumed", f"{one['returned']:,} and {one['resumed']:,}", ""),
                *((f"back after {share}", _s(one[f"return_s_{share}"]), "") for share in ("p50", "p95", "p99")),
                ("the last one after", _s(one["return_s_max"]), verdict(one["return_s_max"], within_s, "s")),
                ("loop lag max", ms(one["loop_lag_ms_max"]), verdict(one["loop_lag_ms_max"], lag_ms, "ms")),
                ("others' accepts p99", ms(one["accept_ms_p99"]), verdict(one["accept_ms_p99"], accept_ms, "ms")),
                ("before the storm", ms(one["accept_ms_before_p99"]), ""),
                *_rides(one),
                ("before the storm, due to yes", ms(one["ride_ms_before_p99"]), ""),
                *rows_of(figures["processes"]),
            ],
        )  # fmt: skip
    if (one := figures.get("not_reading")) is not None:
        good &= one["gone"] == one["not_reading"] and one["waiting_kib_max"] <= WAITING_KIB
        before, during = one["accept_ms_before_p99"], one["accept_ms_p99"]
        show(
            f"{one['not_reading']:,} stop reading, in {one['rounds']} rounds",
            [
                ("dropped", f"{one['gone']:,}", ""),
                ("the last one after", _s(one["gone_s_max"]), verdict(one["gone_s_max"], gone_s, "s")),
                ("most that waited for one", f"{one['waiting_kib_max']} KiB", verdict(one["waiting_kib_max"], WAITING_KIB, "KiB")),
                ("others' accepts p99", ms(during), "" if before is None or gone_s is None else verdict(during, round(before * SLOWER, 1), "ms")),
                ("before", ms(before), ""),
                ("accepts before, during", f"{one['accepts_before']:,}, {one['accepts']:,}", ""),
                *_rides(one),
                ("before, due to yes", ms(one["ride_ms_before_p99"]), ""),
                ("loop lag max", ms(one["loop_lag_ms_max"]), ""),
            ],
        )  # fmt: skip
    if (one := figures.get("restarting")) is not None:
        good &= not one["failed"] and not one["events_lost"] and not one["events_out_of_order"] and one["accepts"] > 0
        good &= one["replaced"] == one["workers"]
        show(
            f"{one['workers']} workers replaced under load",
            [
                ("accepts, failed", f"{one['accepts']:,}, {one['failed']}", f"0: {'met' if not one['failed'] else 'MISSED'}"),
                ("events, lost", f"{one['events']:,}, {one['events_lost']}", f"0: {'met' if not one['events_lost'] else 'MISSED'}"),
                ("the slowest worker ended after", f"{one['worker_end_s_max']} s", verdict(one["worker_end_s_max"], 20.0, "s")),
                ("accepts p99", ms(one["accept_ms_p99"]), ""),
                *_rides(one),
            ],
        )  # fmt: skip
    return bool(good)


def _rides(one: dict[str, Any]) -> list[Row]:
    """Of the pairs: a ride counts from when it was due, so that one that could not even be asked for is seen."""
    without = one["rides_without_yes"]
    return [
        ("others' rides, due to yes, p99", ms(one["ride_ms_p99"]), ""),
        ("rides due, without a yes", f"{one['rides_due']:,}, {without:,}", none(without)),
    ]


def main(args: list[str]) -> int:
    """Run it; 1 when somebody did not come back, or something was lost."""
    return perform(scenario, parsed(parser(), args, SHORT))


def storm(args: list[str]) -> int:
    """The returning phones alone, unless others are named."""
    shown = parsed(parser("storm"), args, SHORT)
    shown.only = shown.only or ["returning"]
    if shown.url is not None and shown.only != ["returning"]:
        print("--url: only phones that return can be sent to a server of somebody else", file=sys.stderr)
        return 2
    return perform(scenario, shown)
