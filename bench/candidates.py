"""`python -m bench candidates`: what a search for the nearest providers costs, with few and with many of them in one city.

Only Redis is asked, by the presence of one worker as the server asks it. Its own clock is read (`INFO latencystats` and
`commandstats`: time inside the function, in µs), and beside it what the asker waited. A search with a hold is undone before the next
one, or the city would run out of free providers; the undoing is a command of its own, and not counted. There is no server, and so no
loop of one whose lag could be told; and no `--url`, as the map of a running one would have to be wiped for each city.

**Even**: pickups where providers are, wherever that is. **Hot**: all pickups within 200 m of a place where a tenth of all providers stand
within a kilometre, as at an airport. **Held**: the same, and those who stand nearest to that place are held by others for the whole time.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from bench.demo.command import at_least_one
from bench.figures import complete, curve, full, options, parsed, perform, point, show, spread, verdict, void
from bench.fleet import METRES_PER_DEGREE, cloud
from bench.progress import bar, say
from bench.server import redis_pid, rss_of, usage_of
from dispatch.kit.clock import SystemClock
from dispatch.kit.embedded import stores
from dispatch.kit.embedded.binaries import Kind
from dispatch.kit.geo import distance_m
from dispatch.kit.redis import Redis
from dispatch.markets import Market, Markets
from dispatch.matching import BEHIND
from dispatch.presence import Presence
from dispatch.providers import ProviderState
from protocol.lifecycle import ProviderStatus

MARKET: Final = "bkk"
KIND: Final = "ride"
FRESH_S: Final = 3_600.0
"""Nobody moves here, and nobody is to grow too old for a search meanwhile."""
HOLD_S: Final = 15.0
TICK_OF: Final = 2_000
"""Who come within one tick of their worker."""
STORES: Final[tuple[Kind, ...]] = ("valkey",)
HOT_SHARE, HOT_M, HOT_PICKUP_M = 0.1, 1_000.0, 200.0
HELD: Final = 200
"""As many as 13 offers a second at one place hold, each for 15 s."""
HELD_S: Final = 50.0
"""A hold of more than a minute counts as one by a clock that runs ahead."""
RENEWED: Final = 500
"""After so many searches they are held anew: a function call too, of less than a µs for each search between two of them."""
WARM_UP: Final = 300
"""Searches before those that count."""
TARGETS_US: Final = {
    (3, "even"): 100.0, (10, "even"): 150.0, (3, "hot"): 300.0, (10, "hot"): 300.0, (3, "held"): 300.0, (10, "held"): 300.0,
}  # fmt: skip
"""The mean of a search alone, in a city of LARGE. What telling of others costs is part of what explanations may cost."""
LARGE, SMALL = 100_000, 10_000
P99_US: Final = 400.0
GROWTH_MAX: Final = 1.5
"""The largest city to the smallest: LARGE to SMALL."""


def sizes(text: str) -> list[int]:
    """ "10000" or "10000,100000"."""
    return sorted(at_least_one(part) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    found = options("candidates", "Time of a search for the nearest free providers, inside Redis.")
    found.add_argument(
        "--providers", type=sizes, default=[10_000, 100_000], metavar="N[,N…]", help="online (default: 10000,100000)"
    )
    found.add_argument("--searches", type=at_least_one, default=3_000, help="of each kind (default: 3000)")
    return found


SHORT: Final = {"providers": [1_000, 10_000], "searches": 300}


def around(place: tuple[float, float], within_m: float, dice: random.Random) -> tuple[float, float]:
    """A place at most so far away, evenly spread over the disc."""
    far, way = within_m * math.sqrt(dice.random()), dice.random() * 2 * math.pi
    lat = place[0] + far * math.cos(way) / METRES_PER_DEGREE
    return lat, place[1] + far * math.sin(way) / (METRES_PER_DEGREE * math.cos(math.radians(lat)))


def populace(market: Market, count: int, dice: random.Random) -> list[tuple[float, float]]:
    """Where the providers are: a cloud over the city, and a tenth of them in one spot."""
    spot = market.centre()
    hot = round(count * HOT_SHARE)
    return cloud(market, count - hot, seed=dice.randrange(2**32)) + [around(spot, HOT_M, dice) for _ in range(hot)]


async def settled(presence: Presence, places: Sequence[tuple[float, float]]) -> list[UUID]:
    """Put them on the map, as a worker does whose phones have all come at once. Returns who they are, in that order."""
    names: list[UUID] = []
    for start in range(0, len(places), TICK_OF):
        for lat, lng in places[start : start + TICK_OF]:
            state = ProviderState(
                uuid4(), uuid4(), ProviderStatus.APPROVED, True, (KIND,), (KIND,), (KIND,), 10_000, active_job=None
            )
            presence.put(presence.arrive(state, uuid4()), lat, lng)
            names.append(state.id)
        await presence.tick()
    return names


def nearest(names: Sequence[UUID], places: Sequence[tuple[float, float]], to: tuple[float, float]) -> list[UUID]:
    """The HELD who stand nearest to a place. Pure."""
    far = sorted(zip((distance_m(*to, *place) for place in places), names, strict=True))
    return [name for _, name in far[:HELD]]


async def searched(
    redis: Redis,
    presence: Presence,
    market: Market,
    pickups: Sequence[tuple[float, float]],
    *,
    wanted: int,
    hold: bool,
    also: int = 0,
    held: Sequence[UUID] = (),
    advance: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """One kind of search, which tells of `also` behind, as matching asks where rounds are explained; one after the other, while others hold `held`; the first WARM_UP do not count. `advance(1)` is told
    of each.
    """
    passed, renewals = frozenset(held), 0
    waited: list[float] = []
    few = 0
    pid = await redis_pid(redis.plain)
    before = usage_of([], pid, None)
    for number, (lat, lng) in enumerate(pickups):
        if number == WARM_UP:
            await redis.plain.config_resetstat()
            before = usage_of([], pid, None)
        if held and number % RENEWED == 0:
            await presence.let_go(market, held)
            await presence.hold(market, held, HELD_S)
            renewals += number >= WARM_UP
        began = time.perf_counter()
        near = await presence.near(
            market,
            KIND,
            lat,
            lng,
            wanted=wanted,
            radius_max_m=market.radius_max_m,
            hold_s=HOLD_S if hold else 0.0,
            also=also,
        )
        found = near.found
        assert passed.isdisjoint(candidate.provider_id for candidate in found), "held by others, and found"
        if number >= WARM_UP:
            waited.append((time.perf_counter() - began) * 1e6)
            few += len(found) < wanted
        advance(1)
        if hold:
            await presence.let_go(market, [candidate.provider_id for candidate in found])
    used = usage_of([], pid, None).since(before)
    if held:
        await presence.let_go(market, held)
    inside = await redis.plain.info("latencystats")
    stats = (await redis.plain.info("commandstats"))["cmdstat_fcall"]
    assert stats["calls"] == len(waited) + renewals, "somebody else called functions"
    within = inside["latency_percentiles_usec_fcall"]
    return {
        "function_us_mean": round(stats["usec"] / stats["calls"], 1),
        "function_us_p50": float(within["p50"]),
        "function_us_p99": float(within["p99"]),
        **spread(waited, "waited_us"),
        "waited_us_curve": curve(waited),
        "redis_cpu_us": used.per(len(waited))["redis"],
        "load_generator_cpu_us": used.per(len(waited))["load_generator"],
        "redis_rss_mib": round(rss_of([pid]) / 1024, 1),
        "searches": len(waited),
        "found_too_few": few,
    }


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises EmbeddedError."""
    markets = Markets.load()
    market = markets[MARKET]
    measured: list[dict[str, Any]] = []
    async with stores(None, want=STORES, fast=True, echo=say) as started, Redis.open(started.redis_url) as redis:
        for count in shown.providers:
            await redis.plain.flushall()
            await redis.load()
            dice = random.Random(count)
            places = populace(market, count, dice)
            presence = Presence(redis, markets, SystemClock(), fresh_s=FRESH_S)
            names = await settled(presence, places)
            held = nearest(names, places, market.centre())
            say(f"{count:,} providers on the map")
            for place in ("even", "hot", "held"):
                many = WARM_UP + shown.searches
                pickups = (
                    [around(dice.choice(places), HOT_PICKUP_M, dice) for _ in range(many)]
                    if place == "even"
                    else [around(market.centre(), HOT_PICKUP_M, dice) for _ in range(many)]
                )
                for wanted in (3, 10):
                    for hold, also in ((False, 0), (True, 0), (True, BEHIND))[place == "held" :]:
                        of = {"providers": count, "pickups": place, "k": wanted, "hold": hold, "also": also}
                        with bar(f"{count:,} providers, {kind(of)}", many) as advance:
                            found = await searched(
                                redis, presence, market, pickups, wanted=wanted, hold=hold, also=also,
                                held=held if place == "held" else (), advance=advance,
                            )  # fmt: skip
                        measured.append(of | found)
        versions = {str(kind): version for kind, version in started.versions.items()}
    for reason in wrong(measured):
        void(reason)
    _show(measured, shown)
    curves = {}
    for one in measured:
        found = one.pop("waited_us_curve")
        if one["providers"] == max(shown.providers):
            curves[f"{kind(one)}, {one['providers']:,} providers"] = [
                (share, None if waited is None else waited / 1000) for share, waited in found
            ]
    figures = {"latency": curves, "searches_of": measured, "growth": growth(measured), "scaling": scaling(measured)}
    return complete(figures, shown, versions), 0


def kind(one: Mapping[str, Any]) -> str:
    """Of a search, for people. Pure."""
    hold = ", with a hold" if one["hold"] else ""
    return f"{one['k']} nearest, {one['pickups']}{hold}{_and_told_of(one['also'])}"


def _and_told_of(also: int) -> str:
    return f" and telling of {also} behind" if also else ""


def wrong(measured: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why times are not those of such searches: whoever finds nobody is the fastest. Pure."""
    return [
        f"{one['found_too_few']:,} of {one['searches']:,} found fewer than they wanted: {kind(one)}, {one['providers']:,} providers"
        for one in measured
        if one["found_too_few"]
    ]


def scaling(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time inside the function by the size of the city. Pure."""
    return [
        point(
            f"search, the {kind(one)}", "µs inside Redis", "providers",
            one["providers"], one["function_us_mean"],
        )
        for one in measured
    ]  # fmt: skip


def growth(measured: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean in the largest city to that in the smallest, by kind of search. Pure."""
    sizes_of = [one["providers"] for one in measured]
    if not measured or min(sizes_of) == max(sizes_of):
        return {}
    mean = {
        (one["providers"], one["pickups"], one["k"], one["hold"], one["also"]): float(one["function_us_mean"])
        for one in measured
    }
    return {
        f"k={k} {pickups}{' with a hold' if hold else ''}{_and_told_of(also)}": round(
            value / mean[min(sizes_of), pickups, k, hold, also], 2
        )
        for (size, pickups, k, hold, also), value in mean.items()
        if size == max(sizes_of)
    }


def _show(measured: Sequence[dict[str, Any]], shown: argparse.Namespace) -> None:
    smallest, largest = min(shown.providers), max(shown.providers)
    for one in measured:
        # What telling adds is no part of finding k: it belongs to what explanations may cost (`simulate --overhead`).
        aimed = full(shown, (one["providers"], LARGE)) and not one["also"]
        target = TARGETS_US[one["k"], one["pickups"]] if aimed else None
        show(
            f"{one['providers']:,} providers, the {kind(one)}",
            [
                ("inside Redis, mean", f"{one['function_us_mean']:.0f} µs", verdict(one["function_us_mean"], target, "µs")),
                ("p99", f"{one['function_us_p99']:.0f} µs", verdict(one["function_us_p99"], P99_US if aimed else None, "µs")),
                *((f"the asker waits, {share}", f"{one[f'waited_us_{share}']:.0f} µs", "") for share in ("p50", "p95", "p99", "max")),
                ("CPU of Redis for each, its undoing included", f"{one['redis_cpu_us']:.0f} µs", ""),
                ("CPU of who asks, a worker's presence included", f"{one['load_generator_cpu_us']:.0f} µs", ""),
                ("RSS of Redis", f"{one['redis_rss_mib']:.0f} MiB", ""),
                ("fewer than wanted", f"{one['found_too_few']}", ""),
            ],
        )  # fmt: skip
    limit = GROWTH_MAX if full(shown, (largest, LARGE), (SMALL, smallest)) else None
    for search, times in growth(measured).items():
        show(search, [("largest to smallest city", f"{times:.2f}", verdict(times, limit, "times"))])


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
