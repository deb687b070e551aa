"""`python -m bench positions`: what a position costs, from the socket until a search finds it.

All providers are connected and online and send their positions evenly spread, open loop. CPU is what the processes have
used between two marks, everything included: reading, decoding, judging, the tick, and all loops that run anyway. That a
position has arrived is not taken on trust: the server's count of fixes taken must equal what was sent, and in the
end each provider's place in the geo set, where searches look, must be the last that his phone sent.
"""

import argparse
import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import redis.asyncio as aioredis

from bench.fleet import METRES_PER_DEGREE, Drive, Phone, cloud, complaints, fleet, lost, open_all
from bench.report import complete, options, perform, seconds, show, verdict
from bench.server import GATHER_S, Running, server
from dispatch.markets import Markets

MARKET, SERVICE = "bkk", "ride"
GEO_KEY = f"{{{MARKET}}}:geo:{SERVICE}"
"""Where searches look."""
TARGET_US = 60.0
OFF_M_MAX = 1.0
"""A geo set keeps a place to 0.6 m."""


def rates(text: str) -> list[float]:
    """ "2000" or "400,2000,4000"."""
    return [seconds(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    found = options("positions", "Server CPU per position, from the socket to Redis.")
    found.add_argument("--sockets", type=int, default=2_000, help="providers online (default: 2000)")
    found.add_argument(
        "--rates",
        type=rates,
        default=None,
        metavar="R[,R…]",
        help="positions a second, of all sockets together (default: one per socket); the first is the headline",
    )
    found.add_argument("--for", dest="run_s", type=seconds, default=30.0, metavar="S", help="measured (default: 30)")
    found.add_argument("--warm-up", type=seconds, default=5.0, metavar="S", help="not measured (default: 5)")
    return found


async def geo_places(redis: "aioredis.Redis", key: str, phones: Sequence[Phone]) -> list[tuple[float, float] | None]:
    """(lat, lng) of each provider as a search in this geo set would find him."""
    places: list[tuple[float, float] | None] = []
    for start in range(0, len(phones), 500):
        found = await redis.geopos(key, *(str(phone.provider_id) for phone in phones[start : start + 500]))
        places += [None if place is None else (place[1], place[0]) for place in found]
    return places


def misplaced(phones: Sequence[Phone], places: Sequence[tuple[float, float] | None]) -> int:
    """How many providers a search would not find where their phones last said they are. Pure."""
    wrong = 0
    for phone, place in zip(phones, places, strict=True):
        off = 1.0 if place is None else max(abs(place[0] - phone.sent[0]), abs(place[1] - phone.sent[1]))
        wrong += off * METRES_PER_DEGREE > OFF_M_MAX
    return wrong


async def at_rate(running: Running, phones: Sequence[Phone], rate: float, shown: argparse.Namespace) -> dict[str, Any]:
    """One rate: warm up, measure, settle, check."""
    taken_before = await running.metric("dispatch_positions_total")
    async with Drive(phones, rate) as drive:
        await asyncio.sleep(shown.warm_up)
        before, sent_before = running.usage(), drive.sent
        await asyncio.sleep(shown.run_s)
        used, sent = running.usage().since(before), drive.sent - sent_before
    await asyncio.sleep(GATHER_S)
    taken = await running.metric("dispatch_positions_total") - taken_before
    cost = used.per(sent)
    return {
        "rate": rate,
        "positions": sent,
        "server_cpu_us_per_position": cost["server"],
        "redis_cpu_us_per_position": cost["redis"],
        "postgres_cpu_us_per_position": cost["postgres"],
        "load_generator_cpu_us_per_position": cost["load_generator"],
        "sent_with_warm_up": drive.sent,
        "taken_by_server": int(taken),
        "misplaced_in_redis": misplaced(phones, await geo_places(running.redis, GEO_KEY, phones)),
        "others_cores": used.others_share(),
        "sent_late_ms_max": round(drive.pace.late_s_max * 1000, 1),
    }


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    wanted: list[float] = shown.rates or [float(shown.sockets)]
    shown.rates = wanted
    places = cloud(Markets.load()[MARKET], shown.sockets, seed=1)
    async with server(
        market=MARKET, providers=shown.sockets, customers=0, workers=shown.workers, market_overrides={}, say=print
    ) as running:
        phones = fleet(running.stage.url, running.stage.providers, places)
        await open_all(phones)
        gc.collect()
        gc.freeze()
        print(f"{len(phones)} providers online")
        await asyncio.sleep(GATHER_S)
        before = running.usage()
        await asyncio.sleep(shown.warm_up)
        idle = running.usage().since(before)
        measured = [await at_rate(running, phones, rate, shown) for rate in wanted]
        headline = {name: value for name, value in measured[0].items() if name != "rate"}
        figures = {
            "sockets": len(phones),
            **headline,
            "rates": measured,
            "idle_server_cpu_share": round(idle.server / shown.warm_up, 4),
            "lines_lost": lost(phones),
            "errors": complaints(phones),
        }
        for phone in phones:
            phone.close()
        for one in measured:
            _show(one, len(phones), figures)
        return complete(figures, shown, running.stage.versions), 0


def _show(one: dict[str, Any], sockets: int, figures: dict[str, Any]) -> None:
    cost = one["server_cpu_us_per_position"]
    taken = "" if one["taken_by_server"] == one["sent_with_warm_up"] else "MISSED: all that was sent"
    show(
        f"{sockets:,} sockets, {one['rate']:,.0f} positions a second",
        [
            ("server CPU per position", f"{cost:.1f} µs", verdict(cost, TARGET_US, "µs")),
            ("Valkey CPU per position", f"{one['redis_cpu_us_per_position']:.1f} µs", ""),
            ("Postgres CPU per position", f"{one['postgres_cpu_us_per_position']:.1f} µs", ""),
            ("load generator CPU per position", f"{one['load_generator_cpu_us_per_position']:.1f} µs", ""),
            ("positions measured", f"{one['positions']:,}", ""),
            ("sent, taken by the server", f"{one['sent_with_warm_up']:,}, {one['taken_by_server']:,}", taken),
            ("not where Redis has them", f"{one['misplaced_in_redis']:,}", ""),
            ("sent late at most", f"{one['sent_late_ms_max']:.1f} ms", ""),
            ("server CPU when nobody sends", f"{figures['idle_server_cpu_share'] * 100:.1f} % of a core", ""),
            ("kept busy by others", f"{one['others_cores']:.2f} cores", ""),
            ("lines lost", f"{figures['lines_lost']}", ""),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parser().parse_args(args))
