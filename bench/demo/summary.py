"""The end of a run: as a table for people, as JSON for programs, as an exit code for scripts."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from babel.numbers import format_currency
from rich.console import Console
from rich.table import Table

from bench.demo.hiring import Hired
from bench.demo.replay import Result, finite
from bench.demo.tally import percentile

ROOT = Path(__file__).parents[2]
INTERRUPTED = 130


def commit() -> str:
    """The revision of this tree, "-dirty" when it has changes, "unknown" outside of a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def machine() -> dict[str, Any]:
    """Where it ran: figures mean nothing without it."""
    return {
        "cores": os.cpu_count(),
        "arch": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def latency(values: list[float]) -> dict[str, float | int | None]:
    """p50, p99 and how many. None stands for infinite (something never arrived), and for no value at all."""
    p50, p99 = (finite(percentile(values, share)) for share in (0.5, 0.99))
    return {"p50": p50 and round(p50, 3), "p99": p99 and round(p99, 3), "count": len(values)}


def report(result: Result, hired: Hired, options: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    """Everything that the run has shown, with plain types only."""
    tally = result.tally
    states = tally.by_status()
    return {
        "drivers": hired.figures(),
        "jobs": {
            "created": len(tally.jobs),
            "completed": states.get("completed", 0),
            "cancelled": states.get("cancelled", 0),
            "no_provider": tally.no_provider,
            "under_way": sum(states.get(state, 0) for state in ("accepted", "arrived", "in_progress")),
            "waiting": sum(states.get(state, 0) for state in ("pending", "offered")),
            "under_way_at_start": result.warm_trips,
            "outside_market": tally.outside,
            "failed": tally.requests_failed,
        },
        "double_assignments": tally.assignments.doubles(),
        "lost_events": result.lost_events,
        "offers": len(result.offer_ms),
        "offers_never_seen": sum(finite(value) is None for value in result.offer_ms),
        "offer_latency_ms": latency(result.offer_ms),
        "accept_latency_ms": latency(tally.accept_ms),
        "answers": dict(sorted(tally.answers.items())),
        "declined": tally.declined,
        "ignored": tally.ignored,
        "positions": tally.positions,
        "positions_to_customers": tally.tracked,
        "events": tally.events,
        "errors": dict(sorted(tally.errors.items())),
        "lines_lost": tally.lines_lost,
        "books": {
            "differences": result.books.differences,
            "entries": result.books.entries,
            "wallets_told_wrong": result.books.told_wrong,
            "earned": {currency: dict(sums) for currency, sums in result.books.earned.items()},
        },
        "server_cpu_s": None if result.server_cpu_s is None else round(result.server_cpu_s, 2),
        "seconds": round(result.seconds, 3),
        "interrupted": result.interrupted,
        "options": options,
        "machine": machine(),
        "versions": versions,
        "commit": commit(),
    }


def exit_code(summary: dict[str, Any]) -> int:
    """1 when a promise was broken or the books do not add up, 130 when it was stopped by hand, else 0."""
    books = summary["books"]
    if (
        summary["double_assignments"]
        or summary["lost_events"]
        or books["differences"] != 0
        or books["wallets_told_wrong"]
    ):
        return 1
    return INTERRUPTED if summary["interrupted"] else 0


def print_table(summary: dict[str, Any], console: Console | None = None) -> None:
    """The figures that matter."""
    console = console or Console(file=sys.stdout)
    table = Table(title="The run", title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    jobs = summary["jobs"]
    cpu = summary["server_cpu_s"]
    drivers = summary["drivers"]
    hired = f"{drivers['registered']:,}, {drivers['approved']:,} in {drivers['seconds']:.1f} s"
    table.add_row("drivers registered, approved", hired)
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    table.add_row("jobs completed", f"{jobs['completed']:,} of {jobs['created']:,}")
    table.add_row("jobs under way, waiting", f"{jobs['under_way']:,}, {jobs['waiting']:,}")
    table.add_row("jobs cancelled", f"{jobs['cancelled']:,}")
    table.add_row("requests outside the market", f"{jobs['outside_market']:,}")
    table.add_row("offers", f"{summary['offers']:,}")
    table.add_row("offer latency p50, p99", _latency(summary["offer_latency_ms"]))
    table.add_row("accept latency p50, p99", _latency(summary["accept_latency_ms"]))
    table.add_row("positions sent", f"{summary['positions']:,}")
    table.add_row("events applied", f"{summary['events']:,}")
    table.add_row("lines lost and found", f"{summary['lines_lost']:,}")
    table.add_row("server CPU", "unknown here" if cpu is None else f"{cpu:.1f} s")
    books = summary["books"]
    for currency, sums in books["earned"].items():
        net, fees, best = (format_currency(sums[key] / 100, currency, locale="en") for key in ("net", "fees", "best"))
        table.add_row(f"earned by {sums['drivers']:,} drivers", f"{net} (the best {best})")
        table.add_row("the platform's fees", fees)
    differences = (
        "not run" if books["differences"] is None else f"{books['differences']} in {books['entries']:,} entries"
    )
    table.add_row(
        "ledger differences", differences, style="bold green" if books["differences"] == 0 else "bold white on red"
    )
    wrong = books["wallets_told_wrong"]
    table.add_row("wallets told wrong", str(wrong), style="bold green" if wrong == 0 else "bold white on red")
    for name, key in (("double assignments", "double_assignments"), ("lost events", "lost_events")):
        table.add_row(name, str(summary[key]), style="bold green" if summary[key] == 0 else "bold white on red")
    console.print(table)


def _latency(values: dict[str, Any]) -> str:
    """Two figures, "-" where nothing was measured and "never" where something did not arrive."""
    missing = "never" if values["count"] else "-"
    p50, p99 = (missing if values[key] is None else f"{values[key]:.1f} ms" for key in ("p50", "p99"))
    return f"{p50}, {p99}"
