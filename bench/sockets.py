"""`python -m bench sockets`: what an idle connection costs in resident memory, summed over the workers.

The first connections are not counted: with them the workers load code and fill caches once. From there to the last one
the growth of RSS is divided by the sockets that came, once greeted (a session stands) and once online as providers.
Kernel memory is on top: about 4 KB a connection.
"""

import argparse
import math
import time
from collections.abc import Mapping
from typing import Any, Final

from bench.demo.command import at_least_one
from bench.elsewhere import MARKET, target
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
    verdict,
    void,
)
from bench.fleet import cloud, fleet, hang_up, lost, open_all
from bench.meter import Meter, rows_of
from bench.pace import at_moments
from bench.progress import bar, say, wait
from bench.server import rss_of
from dispatch.markets import Markets

TARGET_KIB, SOCKETS = 20.0, 1_000
"""The aim, and of how many: of fewer sockets what an allocator does by the way weighs more than they do."""
ONLINE_PER_S: Final = 300.0


def parser() -> argparse.ArgumentParser:
    found = options("sockets", "Resident memory per idle connection.", anywhere=True)
    found.add_argument("--sockets", type=at_least_one, default=4_000, help="counted (default: 4000)")
    found.add_argument("--first", type=at_least_one, default=400, help="not counted (default: 400)")
    found.add_argument("--settle", type=seconds, default=20.0, metavar="S", help="idle before a look (default: 20)")
    return found


SHORT: Final = {"sockets": 400, "first": 100, "settle": 1.5}


def rss_if_known(workers: list[int]) -> float:
    """KiB of all of them; NaN when none is known."""
    return rss_of(workers) if workers else math.nan


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    everybody = shown.first + shown.sockets
    places = cloud(Markets.load()[MARKET], everybody, seed=1)
    async with target(shown, providers=everybody, customers=0, market_overrides={}) as running:
        workers = running.worker_pids()
        if shown.url is not None and not workers:
            say("memory is unknown: the server's processes are not on this machine, or we may not see them")
        phones = fleet(running.url, running.providers, places)
        first, counted = phones[: shown.first], phones[shown.first :]
        empty = rss_if_known(workers)
        with bar("the first connecting", len(first)) as advance:
            await open_all(first, advance=advance)
        await wait("idle", shown.settle)
        before = rss_if_known(workers)
        with bar("connecting", len(counted)) as advance:
            came_ms = await open_all(counted, online=False, advance=advance)
        say(f"{len(counted)} providers connected")
        await wait("idle, greeted", shown.settle)
        greeted = rss_if_known(workers)
        switched_ms: list[float] = []

        async def switch_on(number: int, due_ns: int) -> None:
            await counted[number].online()
            switched_ms.append((time.monotonic_ns() - due_ns) / 1e6)
            advance(1)

        with bar("going online", len(counted)) as advance:
            await at_moments([number / ONLINE_PER_S for number in range(len(counted))], switch_on)
        say("all of them online")
        await wait("idle, online", shown.settle)
        online = rss_if_known(workers)
        async with Meter(running) as meter:
            await wait("idle, CPU", shown.settle)
        idle = meter.used
        assert idle is not None
        figures = {
            "rss_kib_per_socket": round((online - before) / len(counted), 2),
            "rss_kib_per_greeted_socket": round((greeted - before) / len(counted), 2),
            "sockets": len(counted),
            "workers": len(workers),
            "rss_kib_per_empty_worker": round(empty / len(workers)) if workers else math.nan,
            **spread(came_ms, "welcome_ms"),
            **spread(switched_ms, "online_ms"),
            "processes": meter.figures,
            "latency": {"handshake to welcome": curve(came_ms), "online to yes": curve(switched_ms)},
            "rss_kib_all_workers": online,
            "idle_server_cpu_share": round(idle.server / shown.settle, 4),
            "lines_lost": lost(phones),
        }
        await hang_up(phones, offline=shown.url is not None)
        cost = figures["rss_kib_per_socket"]
        figures["scaling"] = [
            point("RSS per idle provider", "KiB", "sockets", everybody, cost),
            point("idle server CPU", "cores", "sockets", everybody, figures["idle_server_cpu_share"]),
        ]
        for reason in wrong(figures):
            void(reason)
        limit = TARGET_KIB if full(shown, (everybody, SOCKETS)) else None
        show(
            f"{len(counted):,} idle sockets, {len(workers)} workers",
            [
                ("RSS per socket, provider online", f"{known(cost, '.1f')} KiB", verdict(cost, limit, "KiB")),
                ("RSS per socket, greeted only", f"{known(figures['rss_kib_per_greeted_socket'], '.1f')} KiB", ""),
                ("RSS of an empty worker", f"{known(figures['rss_kib_per_empty_worker'] / 1024, '.0f')} MiB", ""),
                ("RSS of all workers", f"{known(online / 1024, '.0f')} MiB", ""),
                ("server CPU when nobody sends", cores(figures["idle_server_cpu_share"]), ""),
                *latencies(figures, "welcome_ms", "handshake to welcome"),
                *latencies(figures, "online_ms", "online to yes"),
                *rows_of(meter.figures),
                ("lines lost", f"{figures['lines_lost']}", ""),
            ],
        )
        return complete(figures, shown, running.versions), 0


def wrong(figures: Mapping[str, Any]) -> list[str]:
    """Why the growth of memory is not that of the sockets that came. Pure."""
    found = broken(figures)
    if figures["rss_kib_per_socket"] <= 0:
        found.append("memory did not grow while sockets came")
    return found


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
