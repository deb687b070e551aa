"""`python -m bench peers`: its options, its runs, its tables."""

import argparse
import asyncio
import math
import os
import shutil
import statistics
import sys
import tempfile
import textwrap
import traceback
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.demo.command import at_least_one
from bench.demo.stage import StageError
from bench.figures import Row, complete, keep, options, perform, show, words
from bench.fleet import FleetError
from bench.peers.judge import functions
from bench.peers.packages import NoNode, ready
from bench.peers.races import crowd, racers, races
from bench.peers.ratios import DEMANDED, NEVER, aim_of, compare, fault, uncompared, unmeasured, verdict
from bench.peers.sides import LACKS, NAMES, SCRIPTS, VARIANTS, Ours, Peer, PeerStores, peer
from bench.peers.works import MARKET, SHORT, Sample, Scale, offers, positions, tracking, weigh
from bench.server import server
from dispatch.kit.embedded import stores

WORKS: Final = ("positions", "offers", "accepts", "tracking", "sockets")
QUIET_LOAD: Final = 1.0
"""A load average above it before the run: somebody else works here, and absolute figures mean little."""
QUIET_CORES: Final = 0.1
"""So much kept busy by others, in the median of a side's samples, means the same. Our own server, idle while a peer is measured, is a
few hundredths of it.
"""
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
    work: str,
    scale: Scale,
    workers: int,
    peers: Sequence[Peer],
    made: PeerStores,
    kinds: Sequence[str],
    samples: list[Sample],
) -> None:
    """One work on all sides."""
    if work == "sockets":
        return await weighed(scale, workers, made, kinds, samples)
    if work == "accepts":
        await functions(made, scale, samples)
        for kind in (crowd(scale), racers(scale)):
            async with ours(scale, workers, kind.overrides()) as mine:
                await races([mine, *peers], scale, kind, samples)
        return None
    board: dict[str, object] = {"open_board": False}
    overrides = board | ({"wave_size": 1} if work == "tracking" else {})
    async with ours(scale, workers, overrides) as mine:
        does = {"positions": positions, "offers": offers, "tracking": tracking}[work]
        return await does([mine, *peers], scale, samples)


async def weighed(scale: Scale, workers: int, made: PeerStores, kinds: Sequence[str], samples: list[Sample]) -> None:
    """Idle sockets on servers started for each look."""
    for run in range(scale.runs):
        async with ours(scale, workers, {}) as mine:
            samples.append(await weigh(run, mine, scale))
        for kind in kinds:
            for variant in VARIANTS:
                async with peer(kind, variant, made, workers, "_weighed") as one:
                    samples.append(await weigh(run, one, scale))


def said_of(error: BaseException) -> str:
    """In one line; of a group, each of those in it that differ. Pure."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(said_of(one) for one in error.exceptions))
    text = " ".join(str(error).split())
    return text if isinstance(error, (FleetError, StageError)) else f"{type(error).__name__}: {text}".rstrip(": ")


async def attempted(work: str, running: Awaitable[None], failed: dict[str, str]) -> None:
    """One work that fails is told and kept, and the others are measured all the same; what it had measured stays."""
    try:
        # A task of its own: on Python 3.11 a task in which a TaskGroup has failed counts as being cancelled ever after.
        await asyncio.ensure_future(running)
    except Exception as error:  # noqa: BLE001 whatever it is, it is told, and the exit code says so
        failed[work] = said_of(error)
        print(f"{work} could not be measured: {failed[work]}")
        if not isinstance(error, (FleetError, StageError)):
            traceback.print_exception(error)


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
            await attempted(work, sides_run(work, scale, shown.workers, peers, made, kinds, samples), failed)
    figures = figures_of(samples, shown, scale, load_before, failed, skipped)
    _show(figures)
    return complete(figures, shown, versions), code_of(figures)


def figures_of(
    samples: list[Sample],
    shown: argparse.Namespace,
    scale: Scale,
    load_before: float,
    failed: dict[str, str],
    skipped: dict[str, str],
) -> dict[str, Any]:
    """What the JSON holds. Of the short form nothing is judged: its sizes are not those of the targets. Pure."""
    spreads = compare(samples)
    for name, spread in spreads.items():
        spread["verdict"] = "" if shown.short else verdict(name, spread)
    doubles = sum(
        one["double_assignments"] for one in samples if one.get("kind") in ("crowd", "racers") and one["side"] == "ours"
    )
    others = others_of(samples)
    return {
        "ratios": {name: spread["median"] for name, spread in spreads.items()}
        | {name: None for name in DEMANDED if name not in spreads},
        "ratio_spreads": spreads,
        "uncompared": uncompared(samples),
        "unmeasured": [] if shown.short else unmeasured(spreads, shown.only, shown.against),
        "samples": samples,
        "peers": {
            kind: {"lacks": list(LACKS[kind]), "skipped": skipped.get(kind)} for kind in NAMES if kind in shown.against
        },
        "failed": failed,
        "void": {
            f"{one['work']}, run {one['run'] + 1}, {one['side']}": what for one in samples if (what := fault(one))
        },
        "double_assignments": doubles,
        "lines_lost": sum(one.get("lines_lost", 0) for one in samples if one["side"] == "ours"),
        "scale": {name: getattr(scale, name) for name in scale.__slots__},
        "load_average_before": round(load_before, 2),
        "others_cores": others,
        "noisy": load_before >= QUIET_LOAD or any(one["median"] >= QUIET_CORES for one in others.values()),
    }


def others_of(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Side → cores that somebody else kept busy while it was measured: {median, max} of its samples. Pure."""
    found: dict[str, list[float]] = {}
    for one in samples:
        found.setdefault(one["side"], []).append(one["others_cores"])
    return {side: {"median": round(statistics.median(cores), 3), "max": max(cores)} for side, cores in found.items()}


def code_of(figures: dict[str, Any]) -> int:
    """1 when a work failed, ours assigned a job twice, or what was to be measured is missing. Pure."""
    return 1 if figures["failed"] or figures["double_assignments"] or figures["unmeasured"] else 0


def rows_of(figures: dict[str, Any]) -> list[Row]:
    """The ratios. Pure."""

    def said(value: float) -> str:
        return "never" if value >= NEVER else f"{value:.3g}"

    rows: list[Row] = []
    for name, spread in figures["ratio_spreads"].items():
        flaws = "".join(f"; {spread[flaw]} {flaw}" for flaw in ("dropped", "void") if spread[flaw])
        figure = f"{said(spread['median'])} ({said(spread['min'])} to {said(spread['max'])}; {spread['runs']}{flaws})"
        rows.append((name, figure, spread["verdict"]))
    rows += [(name, f"no pair; {dropped} dropped", aim_of(name)) for name, dropped in figures["uncompared"].items()]
    missing = [name for name in figures["unmeasured"] if name not in figures["uncompared"]]
    return rows + [(name, "could not be measured", aim_of(name)) for name in missing]


def conditions_of(figures: dict[str, Any]) -> list[Row]:
    """How far the run is to be trusted: who else was at work, and what is missing. Pure."""
    rows: list[Row] = [
        (
            "machine",
            f"load average {figures['load_average_before']} before",
            "not quiet" if figures["noisy"] else "quiet",
        )
    ]
    for side, cores in figures["others_cores"].items():
        found = f"{cores['median']:.2f} cores, at most {cores['max']:.2f}"
        rows.append((f"others beside {side.replace('_', ' ')}", found, ""))
    missing = {
        "failed": figures["failed"],
        "skipped": {NAMES[kind]: facts["skipped"] for kind, facts in figures["peers"].items() if facts["skipped"]},
        "void": figures["void"],
    }
    for how, found_of in missing.items():
        for what, why in found_of.items():
            lines = textwrap.wrap(" ".join(why.split()), LINE) or [""]
            rows += [(f"{how}: {what}" if number == 0 else "", line, "") for number, line in enumerate(lines)]
    return rows


def _show(figures: dict[str, Any]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    if rows := rows_of(figures):
        show("ours over theirs: median (min to max; runs)", rows, console)
    show("the machine meanwhile, and what is missing", conditions_of(figures), console)
    _show_medians(figures["samples"], console)
    lacks: list[Row] = []
    for kind in (*figures["peers"], "ours"):
        lines = [line for what in LACKS[kind] for line in textwrap.wrap(what, LINE, subsequent_indent="  ")]
        lacks += [(NAMES.get(kind, "ours") if number == 0 else "", "", line) for number, line in enumerate(lines)]
    show("what each does not guarantee", lacks, console)


def _show_medians(samples: Sequence[Sample], console: Console) -> None:
    """The figures behind the ratios: medians over the runs, a column for each side. What never came is infinite."""
    values: dict[str, dict[str, list[float]]] = {}
    sides: dict[str, None] = {}
    for sample in samples:
        work = sample["work"]
        if sample.get("kind") == "function":
            continue
        part = f" {sample['rate']:g}/s" if work == "positions" else f" {sample['kind']}" if work == "accepts" else ""
        for field, unit in SHOWN[work]:
            value = sample[field]
            value = value["all"] if isinstance(value, dict) else value
            sides[sample["side"]] = None
            found_of = values.setdefault(f"{work}{part}: {unit}", {})
            found_of.setdefault(sample["side"], []).append(math.inf if value is None else value)
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
        [what, *(_median(found[side]) if side in found else "" for side in sides)] for what, found in values.items()
    ]
    for row in medians:
        table.add_row(*row)
    keep(title, [["", *(side.replace("_", " ") for side in sides)], *medians])
    console.print(table)


def _median(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:,.1f}" if math.isfinite(middle) else "never"


def main(args: list[str]) -> int:
    """Run it; 1 when a work failed, ours assigned a job twice or, in the full form, a ratio is missing that was to be measured."""
    return perform(scenario, parser().parse_args(args))
