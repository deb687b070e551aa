"""`python -m bench positions`: what a position costs, from the socket until a search finds it.

All providers are connected and online and send their positions evenly spread, open loop. CPU is what the processes have
used between two marks, everything included: reading, decoding, judging, the tick, and all loops that run anyway. That a
position has arrived is not taken on trust: the server's count of fixes taken must equal what was sent, and in the
end each provider's place in the geo set, where searches look, must be the last that his phone sent. How long that takes is looked at
afterwards, under the same load but not while CPU is counted: from the moment that was a position's until a search would find it.
"""

import argparse
import asyncio
import gc
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import redis.asyncio as aioredis

from bench.demo.command import at_least_one
from bench.elsewhere import target
from bench.figures import (
    broken,
    complete,
    cores,
    curve,
    full,
    known,
    latencies,
    options,
    parsed,
    perform,
    point,
    seconds,
    show,
    spread,
    us,
    verdict,
    void,
)
from bench.fleet import METRES_PER_DEGREE, Phone, cloud, complaints, fleet, hang_up, lost, open_all
from bench.meter import Meter, rows_of
from bench.pace import Drive, at_moments
from bench.progress import bar, say, wait
from bench.server import GATHER_S, Target
from dispatch.markets import Markets
from protocol.codec import wire_time

MARKET, SERVICE = "bkk", "ride"
GEO_KEY = f"{{{MARKET}}}:geo:{SERVICE}"
"""Where searches look."""
TARGET_US, SOCKETS = 40.0, 2_000
"""The aim, for so many sockets and more."""
SEARCHABLE_WITHIN_S: Final = 5.0
PROBE_S: Final = 0.005
PROBES_PER_S: Final = 20.0
OFF_M_MAX = 1.0
"""A geo set keeps a place to 0.6 m."""


def rates(text: str) -> list[float]:
    """ "2000" or "400,2000,4000"."""
    return [seconds(part) for part in text.split(",")]


def parser() -> argparse.ArgumentParser:
    found = options("positions", "Server CPU per position, from the socket to Redis.", anywhere=True)
    found.add_argument("--sockets", type=at_least_one, default=2_000, help="providers online (default: 2000)")
    found.add_argument(
        "--rates",
        type=rates,
        default=None,
        metavar="R[,R…]",
        help="positions a second, of all sockets together (default: one per socket); the first is the headline",
    )
    found.add_argument("--for", dest="run_s", type=seconds, default=30.0, metavar="S", help="measured (default: 30)")
    found.add_argument("--warm-up", type=seconds, default=5.0, metavar="S", help="not measured (default: 5)")
    found.add_argument(
        "--probes", type=at_least_one, default=200, help="positions that are followed into Redis (default: 200)"
    )
    return found


SHORT: Final = {"sockets": 300, "run_s": 4.0, "warm_up": 1.0, "probes": 40}


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


async def searchable_ms(redis: "aioredis.Redis", phone: Phone) -> float:
    """Send this phone's next position, and wait until a search would find it there. Infinite when that takes over SEARCHABLE_WITHIN_S."""
    began_ns = time.monotonic_ns()
    phone.locate(wire_time(datetime.now(UTC)).encode())
    while (waited_s := (time.monotonic_ns() - began_ns) / 1e9) < SEARCHABLE_WITHIN_S:
        if misplaced([phone], await geo_places(redis, GEO_KEY, [phone])) == 0:
            return waited_s * 1000
        await asyncio.sleep(PROBE_S)
    return math.inf


async def probed(redis: "aioredis.Redis", phones: Sequence[Phone], count: int) -> list[float]:
    """`searchable_ms` of many phones, each beginning at its moment."""
    found: list[float] = []

    async def one(number: int, due_ns: int) -> None:
        late_ms = (time.monotonic_ns() - due_ns) / 1e6
        found.append(late_ms + await searchable_ms(redis, phones[number]))

    await at_moments([number / PROBES_PER_S for number in range(min(count, len(phones)))], one)
    return found


async def at_rate(running: Target, phones: Sequence[Phone], rate: float, shown: argparse.Namespace) -> dict[str, Any]:
    """One rate: warm up, measure, settle, check."""
    taken_before = await running.metric("dispatch_positions_total")
    # Those who are followed send nothing else: whoever looks for a place must know which it is.
    followed = phones[: min(shown.probes, len(phones) // 4)] if running.redis is not None else []
    async with Drive(phones, rate) as drive:
        await wait("warming up", shown.warm_up)
        sent_before = drive.sent
        async with Meter(running) as meter:
            await wait(f"{rate:g} positions a second", shown.run_s)
            sent = drive.sent - sent_before
    sent_all, late_s = drive.sent, drive.pace.late_s_max
    assert meter.used is not None
    await asyncio.sleep(GATHER_S)
    taken = await running.metric("dispatch_positions_total") - taken_before
    wrong = None
    waited_ms: list[float] = []
    if running.redis is not None:
        wrong = misplaced(phones, await geo_places(running.redis, GEO_KEY, phones))
        if followed:
            async with Drive(phones[len(followed) :], rate):
                waited_ms = await probed(running.redis, followed, len(followed))
            # Workers count together now and then: what these sent must not count for the next rate.
            await asyncio.sleep(GATHER_S)
    cost = meter.used.per(sent)
    return {
        "rate": rate,
        "positions": sent,
        "server_cpu_us_per_position": cost["server"],
        "redis_cpu_us_per_position": cost["redis"],
        "postgres_cpu_us_per_position": cost["postgres"],
        "load_generator_cpu_us_per_position": cost["load_generator"],
        "sent_with_warm_up": sent_all,
        "taken_by_server": None if math.isnan(taken) else int(taken),
        "misplaced_in_redis": wrong,
        **spread(waited_ms, "searchable_ms"),
        "searchable_ms_curve": curve(waited_ms),
        "others_cores": meter.figures["others_cores"],
        "sent_late_ms_max": round(late_s * 1000, 1),
        "processes": meter.figures,
    }


def scaling(measured: Sequence[dict[str, Any]], sockets: int, workers: int) -> list[dict[str, Any]]:
    """CPU per position by rate, by workers (0: unknown) and, where each socket sends one a second, by sockets. Pure."""
    found = []
    of = "server CPU per position"
    for one in measured:
        cost, rate = one["server_cpu_us_per_position"], one["rate"]
        found.append(point(f"{of}, {sockets:,} sockets, {workers} workers", "µs", "positions a second", rate, cost))
        if rate == sockets:
            found.append(point(f"{of}, one a second each, {workers} workers", "µs", "sockets", sockets, cost))
        if workers:
            found.append(point(f"{of}, {sockets:,} sockets, {rate:g}/s", "µs", "workers", workers, cost))
    return found


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    wanted: list[float] = shown.rates or [float(shown.sockets)]
    shown.rates = wanted
    places = cloud(Markets.load()[MARKET], shown.sockets, seed=1)
    async with target(shown, providers=shown.sockets, customers=0, market_overrides={}) as running:
        phones = fleet(running.url, running.providers, places)
        with bar("providers connecting", len(phones)) as advance:
            await open_all(phones, advance=advance)
        gc.collect()
        gc.freeze()
        say(f"{len(phones)} providers online")
        await asyncio.sleep(GATHER_S)
        before = running.usage()
        await wait("nobody sends", shown.warm_up)
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
            "latency": {f"position to searchable, {one['rate']:g}/s": one["searchable_ms_curve"] for one in measured},
            "scaling": scaling(measured, len(phones), len(running.worker_pids())),
        }
        await hang_up(phones, offline=shown.url is not None)
        for reason in [*(why for one in measured for why in wrong(one)), *broken(figures)]:
            void(reason)
        for one in measured:
            _show(one, figures, TARGET_US if full(shown, (len(phones), SOCKETS)) else None)
        return complete(figures, shown, running.versions), 0


def wrong(one: Mapping[str, Any]) -> list[str]:
    """Why a rate's cost is not that of its positions. Pure."""
    found = []
    taken, sent, rate = one["taken_by_server"], one["sent_with_warm_up"], f"{one['rate']:,.0f} a second"
    if taken not in (None, sent):
        found.append(f"{taken:,} of {sent:,} positions were taken at {rate}")
    if one["misplaced_in_redis"]:
        found.append(f"{one['misplaced_in_redis']:,} are not where Redis has them at {rate}")
    return found


def _show(one: dict[str, Any], figures: dict[str, Any], limit_us: float | None) -> None:
    cost = one["server_cpu_us_per_position"]
    taken = one["taken_by_server"]
    meter_rows = rows_of(one["processes"])
    show(
        f"{figures['sockets']:,} sockets, {one['rate']:,.0f} positions a second",
        [
            ("server CPU per position", us(cost), verdict(cost, limit_us, "µs")),
            ("Redis CPU per position", us(one["redis_cpu_us_per_position"]), ""),
            ("Postgres CPU per position", us(one["postgres_cpu_us_per_position"]), ""),
            ("load generator CPU per position", us(one["load_generator_cpu_us_per_position"]), ""),
            *(latencies(one, "searchable_ms", "position to searchable") if one["searchable_ms_curve"] else ()),
            ("positions measured", f"{one['positions']:,}", ""),
            ("sent, taken by the server", f"{one['sent_with_warm_up']:,}, {known(taken, ',')}", ""),
            ("not where Redis has them", known(one["misplaced_in_redis"], ","), ""),
            ("sent late at most", f"{one['sent_late_ms_max']:.1f} ms", ""),
            ("server CPU when nobody sends", cores(figures["idle_server_cpu_share"]), ""),
            *meter_rows,
            ("lines lost", f"{figures['lines_lost']}", ""),
        ],
    )


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
