"""`python -m bench sockets`: what an idle connection costs in resident memory, summed over the workers.

The first connections are not counted: with them the workers load code and fill caches once. From there to the last one
the growth of RSS is divided by the sockets that came, once greeted (a session stands) and once online as providers.
Kernel memory is on top: about 4 KB a connection.
"""

import argparse
import asyncio
from typing import Any

from bench.demo.command import at_least_one
from bench.fleet import cloud, fleet, lost, open_all
from bench.report import complete, options, perform, seconds, show, verdict
from bench.server import rss_of, server
from dispatch.markets import Markets

MARKET = "bkk"
TARGET_KIB = 20.0


def parser() -> argparse.ArgumentParser:
    found = options("sockets", "Resident memory per idle connection.")
    found.add_argument("--sockets", type=at_least_one, default=4_000, help="counted (default: 4000)")
    found.add_argument("--first", type=at_least_one, default=400, help="not counted (default: 400)")
    found.add_argument("--settle", type=seconds, default=20.0, metavar="S", help="idle before a look (default: 20)")
    return found


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    everybody = shown.first + shown.sockets
    places = cloud(Markets.load()[MARKET], everybody, seed=1)
    async with server(
        market=MARKET, providers=everybody, customers=0, workers=shown.workers, market_overrides={}, say=print
    ) as running:
        workers = running.worker_pids()
        phones = fleet(running.stage.url, running.stage.providers, places)
        first, counted = phones[: shown.first], phones[shown.first :]
        empty = rss_of(workers)
        await open_all(first)
        await asyncio.sleep(shown.settle)
        before = rss_of(workers)
        await open_all(counted, online=False)
        print(f"{len(counted)} providers connected")
        await asyncio.sleep(shown.settle)
        greeted = rss_of(workers)
        gate = asyncio.Semaphore(64)

        async def switch_on(number: int) -> None:
            async with gate:
                await counted[number].online()

        await asyncio.gather(*map(switch_on, range(len(counted))))
        print("all of them online")
        await asyncio.sleep(shown.settle)
        online = rss_of(workers)
        idle_before = running.usage()
        await asyncio.sleep(shown.settle)
        idle = running.usage().since(idle_before)
        figures = {
            "rss_kib_per_socket": round((online - before) / len(counted), 2),
            "rss_kib_per_greeted_socket": round((greeted - before) / len(counted), 2),
            "sockets": len(counted),
            "workers": len(workers),
            "rss_kib_per_empty_worker": round(empty / len(workers)),
            "rss_kib_all_workers": online,
            "idle_server_cpu_share": round(idle.server / shown.settle, 4),
            "lines_lost": lost(phones),
        }
        for phone in phones:
            phone.close()
        cost = figures["rss_kib_per_socket"]
        show(
            f"{len(counted):,} idle sockets, {len(workers)} workers",
            [
                ("RSS per socket, provider online", f"{cost:.1f} KiB", verdict(cost, TARGET_KIB, "KiB")),
                ("RSS per socket, greeted only", f"{figures['rss_kib_per_greeted_socket']:.1f} KiB", ""),
                ("RSS of an empty worker", f"{figures['rss_kib_per_empty_worker'] / 1024:.0f} MiB", ""),
                ("RSS of all workers", f"{online / 1024:.0f} MiB", ""),
                ("server CPU when nobody sends", f"{figures['idle_server_cpu_share'] * 100:.1f} % of a core", ""),
                ("lines lost", f"{figures['lines_lost']}", ""),
            ],
        )
        return complete(figures, shown, running.stage.versions), 0


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parser().parse_args(args))
