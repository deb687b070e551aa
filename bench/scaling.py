"""`python -m bench scaling`: what becomes of a cost when there is more of everything: each curve is a scenario run at several sizes.

**sockets**: CPU per position and memory per socket from 1,000 to 19,500 sockets on one worker; at a position a second each, and at the same
rate for all sizes. **workers**: positions with one worker and with two. **providers**: searches among 10,000 to 100,000 in one market.
**markets**: positions and jobs in 1 to 8 markets on a Redis cluster. Each run is a process of its own and leaves its whole JSON in ours. A
size that the machine's limit of open files does not let in is said and left out.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from bench.all import Done, row, run
from bench.candidates import sizes
from bench.figures import Row, complete, full, options, parsed, perform, point, seconds, show, spanned, verdict, words
from bench.markets import counts
from bench.progress import say
from bench.report.results import Result, Scaling, scalings

PARTS: Final = ("sockets", "workers", "providers", "markets")
SPARE_FILES: Final = 300
"""Of a process besides its sockets: stores, libraries, files."""
SAME_RATE: Final = 1_000
"""Positions a second at every number of sockets: what quiet sockets cost the busy ones."""
AIMS: Final = {
    "sockets": ("server CPU per position", 1.3, 1_000, 19_500),
    "providers": ("search", 1.5, 10_000, 100_000),
}
"""The largest size to the smallest, by part: (of what, at most, the smallest at most, the largest at least)."""
STARTING_S: Final = 12.0
"""Stores, seeding and a server, and their end; measured as 8 to 12 s."""
CONNECTED_PER_S: Final = 250.0
"""Fewer than a worker lets in each second; as many go online."""
CHECKED_S: Final = 15.0
"""After a measurement of positions: 200 of them are followed into Redis."""
SEATED_PER_S, SEARCHED_PER_S = 4_000, 1_200
"""Providers put on the map, and searches of which half are undone again."""


def parser() -> argparse.ArgumentParser:
    found = options("scaling", "Curves of cost by size: scenarios at several sizes.")
    found.add_argument(
        "--only",
        type=partial(words, PARTS),
        default=list(PARTS),
        metavar="PART[,…]",
        help=f"of {', '.join(PARTS)} (default: all; with --short workers,providers)",
    )
    found.add_argument(
        "--sockets",
        type=sizes,
        default=[1_000, 5_000, 10_000, 19_500],
        metavar="N[,N…]",
        help="on one worker (default: 1000,5000,10000,19500)",
    )
    found.add_argument(
        "--spread", type=sizes, default=[1, 2], metavar="N[,N…]", help="workers of the part workers (default: 1,2)"
    )
    found.add_argument(
        "--busy", type=int, default=2_000, metavar="N", help="sockets of the part workers (default: 2000)"
    )
    found.add_argument(
        "--providers",
        type=sizes,
        default=[10_000, 30_000, 100_000],
        metavar="N[,N…]",
        help="(default: 10000,30000,100000)",
    )
    found.add_argument("--searches", type=int, default=3_000, help="of each kind (default: 3000)")
    found.add_argument("--markets", type=counts, default=[1, 2, 4, 8], metavar="N[,N…]", help="(default: 1,2,4,8)")
    found.add_argument(
        "--for",
        dest="run_s",
        type=seconds,
        default=20.0,
        metavar="S",
        help="each measurement of positions (default: 20)",
    )
    found.add_argument(
        "--settle", type=seconds, default=10.0, metavar="S", help="idle before memory is looked at (default: 10)"
    )
    return found


SHORT: Final = {
    "only": ["workers", "providers"],
    "sockets": [100, 300],
    "busy": 200,
    "providers": [500, 2_000],
    "searches": 50,
    "markets": [1, 3],
    "run_s": 1.5,
    "settle": 0.4,
}
"""Two parts, as each server that is started takes a quarter of a minute; with --only the others, each of which takes about one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run of a scenario for a part; `about_s` is an estimate."""

    part: str
    scenario: str
    options: tuple[str, ...]
    about_s: float


def wanted(shown: argparse.Namespace, files: int) -> tuple[list[Wanted], list[str]]:
    """(the runs, what does not fit and why); `files` is how many a process may open. Pure."""
    found: list[Wanted] = []
    left_out = []
    warm_s = min(5.0, shown.run_s)
    measuring = ("--for", f"{shown.run_s:g}", "--warm-up", f"{warm_s:g}")
    for part in shown.only:
        if part == "sockets":
            for size in shown.sockets:
                if size + SPARE_FILES > files:
                    left_out.append(
                        f"{size:,} sockets: a process may open {files:,} files here, and needs {size + SPARE_FILES:,} (ulimit -n)"
                    )
                    continue
                coming_s = STARTING_S + size / CONNECTED_PER_S
                first = max(1, size // 10)
                counted = ("--first", str(first), "--sockets", str(size - first), "--settle", f"{shown.settle:g}")
                weighing_s = coming_s + size / CONNECTED_PER_S + 4 * shown.settle
                found.append(Wanted(part, "sockets", ("--workers", "1", *counted), weighing_s))
                each = [size] if size == SAME_RATE else [size, SAME_RATE]
                rates = ("--sockets", str(size), "--rates", ",".join(map(str, each)))
                sending_s = coming_s + (shown.run_s + 2 * warm_s + CHECKED_S) * len(each)
                found.append(Wanted(part, "positions", ("--workers", "1", *rates, *measuring), sending_s))
        elif part == "workers":
            about_s = STARTING_S + shown.busy / CONNECTED_PER_S + shown.run_s + 2 * warm_s + CHECKED_S
            for workers in shown.spread:
                sending = ("--workers", str(workers), "--sockets", str(shown.busy), *measuring)
                found.append(Wanted(part, "positions", sending, about_s))
        elif part == "providers":
            among = ("--providers", ",".join(map(str, shown.providers)), "--searches", str(shown.searches))
            about_s = (
                5 + sum(shown.providers) / SEATED_PER_S + len(shown.providers) * 8 * shown.searches / SEARCHED_PER_S
            )
            found.append(Wanted(part, "candidates", among, about_s))
        else:
            many = ("--markets", ",".join(map(str, shown.markets)), "--workers", str(shown.workers), *measuring)
            more = ("--providers", "150", "--customers", "60", "--rate", "10") if shown.short else ()
            found.append(
                Wanted(
                    part, "markets", (*many, *more), len(shown.markets) * (STARTING_S + 15 + 3 * shown.run_s + warm_s)
                )
            )
    return found, left_out


def by_part(runs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Scaling]]:
    """The curves of each part that go by its own size: not, say, those by rate within the part of the sockets. Pure."""
    for part in dict.fromkeys(one["part"] for one in runs):
        of_part = [Result(part, one["scenario"], one["figures"]) for one in runs if one["part"] == part]
        yield from ((part, line) for line in scalings(of_part) if line.by == part)


def same_rate(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A positions run's point at the rate that all sizes have. Pure."""
    return [
        point(
            f"server CPU per position, {SAME_RATE:,}/s of all, 1 worker",
            "µs",
            "sockets",
            figures["sockets"],
            one["server_cpu_us_per_position"],
        )
        for one in figures["rates"]
        if one["rate"] == SAME_RATE
    ]


def growth(line: Scaling) -> float | None:
    """The largest size to the smallest; None where the smallest costs nothing. Pure."""
    small, large = (statistics.median(line.points[size]) for size in (min(line.points), max(line.points)))
    return round(large / small, 2) if small else None


def aim(part: str, line: Scaling, shown: argparse.Namespace) -> float | None:
    """How much more the largest size may cost than the smallest; None where there is no such aim, or no such sizes. Pure."""
    if part not in AIMS:
        return None
    of, limit, smallest, largest = AIMS[part]
    reached = full(shown, (max(line.points), max(largest, *getattr(shown, part))), (smallest, min(line.points)))
    return limit if reached and line.of.startswith(of) else None


def went(done: Sequence[Done], left_out: Sequence[str]) -> list[Row]:
    """How each run went, and which sizes there are no runs of. Pure."""
    return [*map(row, done), *(("left out", why, "every size: MISSED") for why in left_out)]


def summed(runs: Sequence[Mapping[str, Any]], left_out: Sequence[str]) -> dict[str, Any]:
    """The figures of all runs. Pure."""
    lines = list(by_part(runs))
    return {
        "runs": list(runs),
        "left_out": list(left_out),
        "growth": {f"{line.of}, by {line.by}": growth(line) for _, line in lines},
        "scaling": [one for each in runs for one in each["figures"].get("scaling", ())],
        "lines_lost": sum(each["figures"].get("lines_lost", 0) for each in runs),
    }


def rows(runs: Sequence[Mapping[str, Any]], shown: argparse.Namespace) -> list[Row]:
    """Each curve on one line. Pure."""
    found = []
    for part, line in by_part(runs):
        each = ", ".join(f"{size:,g}: {statistics.median(line.points[size]):,.1f}" for size in sorted(line.points))
        times, limit = growth(line), aim(part, line, shown)
        told = "" if times is None else f"× {times:g}" if limit is None else f"× {times:g}, {verdict(times, limit, '')}"
        found.append((f"{line.of}, {line.unit}", f"{each} {line.by}", told))
    return found


def performed(shown: argparse.Namespace, todo: Sequence[Wanted]) -> tuple[list[dict[str, Any]], list[Done]]:
    """Each run in its turn, in a process of its own: (what they left, how they went). Raises KeyboardInterrupt."""
    runs, done = [], []
    with tempfile.TemporaryDirectory(prefix="dispatch-scaling-") as name:
        file = Path(name) / "figures.json"
        for number, one in enumerate(todo, 1):
            say(f"\n{number} of {len(todo)}: {one.scenario} {' '.join(one.options)}")
            file.unlink(missing_ok=True)
            command = [sys.executable, "-m", "bench", one.scenario, *one.options, "--json", str(file)]
            done.append(run(f"{one.part}: {one.scenario} {' '.join(one.options)}", command, None))
            if not done[-1].good or not file.exists():
                continue
            figures = orjson.loads(file.read_bytes())
            if one.part == "sockets" and one.scenario == "positions":
                figures["scaling"] += same_rate(figures)
            runs.append({"part": one.part, "scenario": one.scenario, "options": list(one.options), "figures": figures})
    return runs, done


def main(args: list[str]) -> int:
    """Run it; 1 when a run failed, 2 when nothing could be run."""
    shown = parsed(parser(), args, SHORT)
    if shown.json is not None and not shown.json.parent.is_dir():
        print(f"--json {shown.json}: there is no folder {shown.json.parent}", file=sys.stderr)
        return 2
    # All that we may have: the processes that we start inherit it.
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    todo, left_out = wanted(shown, sys.maxsize if files == resource.RLIM_INFINITY else files)
    for one in left_out:
        say(f"left out: {one}")
    say(
        f"{len(todo)} runs, about {sum(one.about_s for one in todo) / 60:.1f} min; they want the machine for themselves"
    )
    began = time.monotonic()
    try:
        runs, done = performed(shown, todo)
    except KeyboardInterrupt:
        return 130
    if not runs:
        show("nothing was measured", went(done, left_out))
        return 2
    took_s = time.monotonic() - began

    async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
        first, last = (runs[at]["figures"] for at in (0, -1))
        show(f"{len(done)} runs, {took_s:.0f} s", went(done, left_out))
        show("cost by size", rows(runs, shown))
        figures = complete(summed(runs, left_out), shown, last["versions"])
        figures["commit"] = spanned(first["commit"], figures["commit"])
        return figures, 0 if all(one.good for one in done) else 1

    return perform(scenario, shown)
