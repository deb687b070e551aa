"""How a scenario tells what it found: a table for people, JSON for programs."""

import argparse
import asyncio
import math
import sys
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench.demo.command import at_least_one, raise_file_limit
from bench.demo.stage import StageError
from bench.demo.summary import commit, machine
from bench.demo.tally import percentile
from bench.fleet import FleetError
from dispatch.kit.embedded import EmbeddedError

LIBRARIES = ("aiohttp", "asyncpg", "msgspec", "orjson", "redis", "uvloop")
"""Those whose speed is measured along."""

PLAIN_COLUMNS = 120
"""In a file or a pipe there is no edge to wrap at."""

Row = tuple[str, str, str]
"""(what, figure, target or "")"""


def options(name: str, text: str) -> argparse.ArgumentParser:
    """The options that all scenarios have."""
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=text)
    parser.add_argument("--workers", type=at_least_one, default=2, help="of the server (default: 2)")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the figures there")
    return parser


def seconds(text: str) -> float:
    """A positive duration."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is out of range: above 0")
    return value


def spread(values: Sequence[float], name: str, shares: Sequence[float] = (0.5, 0.99)) -> dict[str, float | None]:
    """name_p50, name_p99 and name_max. None: infinite, as something never came; or there was nothing at all."""
    found = {f"{name}_p{share * 100:g}": percentile(values, share) for share in shares}
    found[f"{name}_max"] = max(values, default=math.nan)
    return {key: round(value, 3) if math.isfinite(value) else None for key, value in found.items()}


def ms(value: float | None) -> str:
    """For people."""
    return "never" if value is None else f"{value:,.1f} ms"


def verdict(value: float | None, limit: float, unit: str) -> str:
    """The target, and whether it was met."""
    met = value is not None and value <= limit
    return f"≤ {limit:g} {unit}: {'met' if met else 'MISSED'}"


def show(title: str, rows: Sequence[Row], console: Console | None = None) -> None:
    """The table: in colours on a terminal, plain elsewhere."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for what, figure, target in rows:
        style = "red" if "MISSED" in target else "green" if "met" in target else ""
        table.add_row(what, figure, target, style=style)
    console = console or Console(file=sys.stdout)
    console.print(table, width=None if console.is_terminal else PLAIN_COLUMNS, no_wrap=not console.is_terminal)


def cpu_model() -> str:
    """What kind of processor; figures mean nothing without it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def complete(figures: dict[str, Any], shown: argparse.Namespace, versions: dict[str, str]) -> dict[str, Any]:
    """The figures beside the options, machine, versions, commit and date that they belong to. Folders and files of whoever ran it are
    nobody else's business.
    """
    given = {name: value for name, value in vars(shown).items() if name != "json" and not isinstance(value, Path)}
    facts = {
        "options": given,
        "machine": {**machine(), "cpu": cpu_model()},
        "versions": versions | {name: metadata.version(name) for name in LIBRARIES},
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return figures | facts


Scenario = Callable[[argparse.Namespace], Coroutine[Any, Any, tuple[dict[str, Any], int]]]
"""Runs with its options; (complete figures, exit code). Prints its own table."""


def perform(scenario: Scenario, shown: argparse.Namespace) -> int:
    """Run it, write the JSON; the exit code. 2: it could not run."""
    if shown.json is not None and not shown.json.parent.is_dir():
        print(f"--json {shown.json}: there is no folder {shown.json.parent}", file=sys.stderr)
        return 2
    raise_file_limit()
    try:
        import uvloop

        loop_factory: Any = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            figures, code = runner.run(scenario(shown))
    except (StageError, EmbeddedError, FleetError) as error:
        print(f"The benchmark cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if shown.json is not None:
        shown.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    return code
