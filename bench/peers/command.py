"""`python -m bench peers`: its options, its runs, its tables."""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.demo.command import at_least_one
from bench.demo.stage import StageError
from bench.figures import Row, complete, keep, options, perform, show
from bench.fleet import FleetError
from bench.peers.judge import functions
from bench.peers.packages import NoNode, ready
from bench.peers.races import crowd, racers, races
from bench.peers.ratios import compare, judged
from bench.peers.sides import LACKS, NAMES, SCRIPTS, VARIANTS, Ours, Peer, PeerStores, Side, peer
from bench.peers.works import MARKET, SHORT, Sample, Scale, offers, positions, tracking, weigh
from bench.server import server
from dispatch.kit.embedded import stores

WORKS: Final = ("positions", "offers", "accepts", "tracking", "sockets")
QUIET_LOAD: Final = 1.0
"""A load average above it before the run: somebody else works here, and absolute figures mean little."""
SHOWN: Final = {
    "positions": (("cpu_us", "µs each, stores included"),),
    "offers": (
        ("cpu_us", "µs a job with its positions"),
        ("commit_to_frame_ms_p99", "ms p99 commit to frame"),
        ("request_to_first_frame_ms_p99", "ms p99 request to frame"),
    ),
    "accepts": (
        ("cpu_us", "µs a winner"),
        ("accept_ms_p99", "ms p99 of the yes"),
        ("accepts_per_s", "a second"),
        ("double_assignments", "jobs with two winners"),
        ("providers_with_two_jobs", "providers with two jobs"),
        ("jobs_nobody_got", "jobs nobody got"),
    ),
    "tracking": (("cpu_us", "µs a frame"), ("age_ms_p50", "ms p50 position to frame")),
    "sockets": (("rss_kib_per_socket", "KiB a socket"),),
}
"""What is printed of each work; all else is in the JSON."""
WIDE: Final = 140
"""Columns in a file or a pipe: seven sides beside each other."""
LINE: Final = 88
"""Characters of a sentence beside a peer's name, so that nothing is cut off in a file."""
TRACK_EVERY_S: Final = "1"
"""A peer relays each position, one a second; so that ours does the same work, its cadence of 5 s is 1 s here."""


def words(known: Sequence[str], text: str) -> list[str]:
    """ "positions,offers"; each must be known."""
    found = text.split(",")
    for word in found:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
    return found


def parser() -> argparse.ArgumentParser:
    found = options(
        "peers", "The same work here and in Node ws, Socket.IO and the first documents' Postgres design, by turns."
    )
    found.add_argument(
        "--runs", type=at_least_one, default=None, help="of each work, all sides by turns (default: 5; --short: 2)"
    )
    found.add_argument(
        "--only",
        type=lambda text: words(WORKS, text),
        default=list(WORKS),
        metavar="WORK[,…]",
        help=f"of {', '.join(WORKS)}",
    )
    found.add_argument(
        "--against", type=lambda text: words(list(NAMES), text), default=list(NAMES), metavar="PEER[,…]", help=f"of {', '.join(NAMES)}"
    )  # fmt: skip
    return found


def kinds_here(wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """(those that can run here, why the others cannot). Installs Node's packages at the first run."""
    if not any(kind in SCRIPTS for kind in wanted):
        return list(wanted), {}
    try:
        _, _, version = ready(print)
    except NoNode as missing:
        skipped = {kind: str(missing) for kind in wanted if kind in SCRIPTS}
        for kind, why in skipped.items():
            print(f"{NAMES[kind]} is skipped: {why}")
        return [kind for kind in wanted if kind not in skipped], skipped
    print(f"Node.js {version}")
    return list(wanted), {}


@asynccontextmanager
async def peer_stores() -> AsyncIterator[tuple[PeerStores, dict[str, str]]]:
    """The stores of all peers, and their versions; in a folder that is removed."""
    folder = Path(tempfile.mkdtemp(prefix="dispatch-peers-"))
    try:
        async with (
            stores(folder / "stores", echo=print) as running,
            PeerStores.of(running.database_url, running.redis_url, folder) as made,
        ):
            yield made, {str(kind): version for kind, version in running.versions.items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def ours(scale: Scale, workers: int, overrides: dict[str, object]) -> AsyncIterator[Ours]:
    """Our server, with people for the work at hand."""
    customers = max(scale.customers, scale.pairs, scale.crowd)
    async with server(
        market=MARKET,
        providers=scale.idle_first + scale.sockets,
        customers=customers,
        workers=workers,
        market_overrides=overrides,
        say=lambda _: None,
        settings={"DISPATCH_TRACK_EVERY_S": TRACK_EVERY_S},
    ) as running:
        yield Ours(running)


async def sides_run(
    work: str, scale: Scale, workers: int, peers: Sequence[Peer], made: PeerStores, kinds: Sequence[str]
) -> list[Sample]:
    """One work on all sides."""
    board: dict[str, object] = {"open_board": False}
    if work == "sockets":
        return await weighed(scale, workers, made, kinds)
    if work == "accepts":
        samples = await functions(made, scale)
        for kind in (crowd(scale), racers(scale)):
            async with ours(scale, workers, kind.overrides()) as mine:
                samples += await races([mine, *peers], scale, kind)
        return samples
    overrides = board | ({"wave_size": 1} if work == "tracking" else {})
    async with ours(scale, workers, overrides) as mine:
        sides: list[Side] = [mine, *peers]
        match work:
            case "positions":
                return await positions(sides, scale)
            case "offers":
                return await offers(sides, scale)
            case _:
                return await tracking(sides, scale)


async def weighed(scale: Scale, workers: int, made: PeerStores, kinds: Sequence[str]) -> list[Sample]:
    """Idle sockets on servers started for each look."""
    samples = []
    for run in range(scale.runs):
        async with ours(scale, workers, {}) as mine:
            samples.append(await weigh(run, mine, scale))
        for kind in kinds:
            for variant in VARIANTS:
                async with peer(kind, variant, made, workers, "_weighed") as one:
                    samples.append(await weigh(run, one, scale))
    return samples


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError, FleetError."""
    load_before = os.getloadavg()[0]
    scale = SHORT if shown.short else Scale()
    if shown.runs is not None:
        scale = replace(scale, runs=shown.runs)
    kinds, skipped = kinds_here(shown.against)
    samples: list[Sample] = []
    failed: dict[str, str] = {}
    async with peer_stores() as (made, versions), AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer(kind, variant, made, shown.workers))
            for kind in kinds
            for variant in VARIANTS
        ]
        for work in shown.only:
            try:
                # A task of its own: on Python 3.11 a task in which a TaskGroup has failed counts as being cancelled ever after.
                running = asyncio.ensure_future(sides_run(work, scale, shown.workers, peers, made, kinds))
                samples += await running
            except (FleetError, StageError) as error:
                # One work that a side could not do is said, and the others are measured all the same.
                failed[work] = str(error)
                print(f"{work} could not be measured: {failed[work]}")
    spreads = compare(samples)
    doubles = sum(
        one["double_assignments"] for one in samples if one.get("kind") in ("crowd", "racers") and one["side"] == "ours"
    )
    figures = {
        "ratios": {name: spread["median"] for name, spread in spreads.items()},
        "ratio_spreads": spreads,
        "samples": samples,
        "peers": {
            kind: {"lacks": list(LACKS[kind]), "skipped": skipped.get(kind)} for kind in NAMES if kind in shown.against
        },
        "failed": failed,
        "double_assignments": doubles,
        "lines_lost": sum(one.get("lines_lost", 0) for one in samples if one["side"] == "ours"),
        "scale": {name: getattr(scale, name) for name in scale.__slots__},
        "load_average_before": round(load_before, 2),
        "noisy": load_before >= QUIET_LOAD,
    }
    _show(figures, skipped)
    return complete(figures, shown, versions), 1 if failed or doubles else 0


def _show(figures: dict[str, Any], skipped: dict[str, str]) -> None:
    if figures["noisy"]:
        print(f"\nThe machine was not quiet: load average {figures['load_average_before']} before the run.")
    rows: list[Row] = [
        (
            name,
            f"{spread['median']:.3g} ({spread['min']:.3g} to {spread['max']:.3g}; {spread['runs']})",
            judged(name, spread["median"]),
        )
        for name, spread in figures["ratio_spreads"].items()
    ]
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    if rows:
        show("ours over theirs: median (min to max; runs)", rows, console)
    _show_medians(figures["samples"], console)
    lacks: list[Row] = []
    for kind in (*figures["peers"], "ours"):
        said = [*LACKS[kind], *([f"skipped: {skipped[kind]}"] if kind in skipped else [])]
        lines = [line for what in said for line in textwrap.wrap(what, LINE, subsequent_indent="  ")]
        lacks += [(NAMES.get(kind, "ours") if number == 0 else "", "", line) for number, line in enumerate(lines)]
    show("what each does not guarantee", lacks, console)


def _show_medians(samples: Sequence[Sample], console: Console) -> None:
    """The figures behind the ratios: medians over the runs, a column for each side."""
    values: dict[str, dict[str, list[float]]] = {}
    sides: dict[str, None] = {}
    for sample in samples:
        work = sample["work"]
        if sample.get("kind") == "function":
            continue
        part = f" {sample['rate']:g}/s" if work == "positions" else f" {sample['kind']}" if work == "accepts" else ""
        for field, unit in SHOWN[work]:
            value = sample.get(field)
            value = value["all"] if isinstance(value, dict) else value
            if value is not None:
                sides[sample["side"]] = None
                values.setdefault(f"{work}{part}: {unit}", {}).setdefault(sample["side"], []).append(value)
    functions_alone = [sample for sample in samples if sample.get("kind") == "function"]
    rows: list[Row] = []
    for side in dict.fromkeys(sample["side"] for sample in functions_alone):
        some = [sample for sample in functions_alone if sample["side"] == side]
        per_s, cpu_us = (
            statistics.median(one[field] for one in some) for field in ("accepts_per_s", "postgres_cpu_us")
        )
        rows.append((side.replace("_", " "), f"{per_s:,.0f} accepts/s", f"{cpu_us:,.0f} µs of Postgres each"))
    if rows:
        show("accept functions alone: medians on this machine", rows, console)
    if not values:
        return
    title = "medians on this machine"
    table = Table(title=title, title_justify="left")
    table.add_column("", style="dim", no_wrap=True)
    for side in sides:
        table.add_column(side.replace("_", " "), justify="right")
    medians = [
        [what, *(f"{statistics.median(found[side]):,.1f}" if side in found else "" for side in sides)]
        for what, found in values.items()
    ]
    for row in medians:
        table.add_row(*row)
    keep(title, [["", *(side.replace("_", " ") for side in sides)], *medians])
    console.print(table)


def main(args: list[str]) -> int:
    """Run it; 1 when a work failed or ours assigned a job twice."""
    return perform(scenario, parser().parse_args(args))
