"""How a scenario tells what it found: a table for people, JSON for programs."""

import argparse
import asyncio
import math
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from bench.demo.command import at_least_one, raise_file_limit
from bench.demo.stage import StageError
from bench.demo.summary import commit, machine
from bench.demo.tally import percentile, percentile_of
from bench.fleet import FleetError
from bench.server import Unreachable
from bench.speed import work_ms
from dispatch.kit.embedded import EmbeddedError

LIBRARIES = ("aiohttp", "asyncpg", "msgspec", "orjson", "redis", "uvloop")
"""Those whose speed is measured along."""

PLAIN_COLUMNS = 120
"""In a file or a pipe there is no edge to wrap at."""

Row = tuple[str, str, str]
"""(what, figure, target or "")"""


SHARES: Final = (0.5, 0.95, 0.99)
CURVE: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0)
"""Shares at which a latency's curve is kept."""
SECRETS: Final = "DISPATCH_JWT_SECRETS"
SPEED: Final = "a fixed piece of work took, before and after"
_OWN: Final = ("--json", "--folder", "--data")
"""Options whose value is a file of whoever runs it."""


def options(name: str, text: str, *, anywhere: bool = False, short: bool = True) -> argparse.ArgumentParser:
    """The options that all scenarios have. `anywhere`: it can measure a server that runs already. `short`: it has a short form, whose
    values `parsed` is given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=text)
    parser.add_argument("--workers", type=at_least_one, default=2, help="of the server (default: 2)")
    if short:
        parser.add_argument("--short", action="store_true", help="a little of everything; for a look, not for figures")
    parser.add_argument("--json", type=Path, default=None, metavar="PATH", help="write the figures there")
    parser.set_defaults(scenario=name, url=None)
    if anywhere:
        parser.add_argument(
            "--url",
            default=None,
            metavar="URL",
            help=f"measure the server there; it leaves people behind in its database. The key of their tokens is read from {SECRETS},"
            " as the server reads it; with DATABASE_URL they are made in one go, else signed up one by one. /metrics is asked with"
            " DISPATCH_METRICS_TOKEN, commits are read from DISPATCH_STAMP_FILE, Redis from REDIS_URL, each if it is set",
        )
    return parser


def words(known: Collection[str], text: str) -> list[str]:
    """ "sockets,api", of an option; each must be known."""
    found = text.split(",")
    for word in found:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
    return found


def parsed(parser: argparse.ArgumentParser, args: Sequence[str], short: Mapping[str, Any]) -> argparse.Namespace:
    """The options. `short` are the defaults of --short."""
    if parser.parse_args(args).short:
        parser.set_defaults(**short)
    return parser.parse_args(args)


def seconds(text: str) -> float:
    """A positive duration."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is out of range: above 0")
    return value


def spread(values: Sequence[float], name: str, shares: Sequence[float] = SHARES) -> dict[str, float | None]:
    """name_p50, name_p95, name_p99 and name_max. None: infinite, as something never came; or there was nothing at all."""
    found = {f"{name}_p{share * 100:g}": percentile(values, share) for share in shares}
    found[f"{name}_max"] = max(values, default=math.nan)
    return {key: round(value, 3) if math.isfinite(value) else None for key, value in found.items()}


def curve(values: Sequence[float]) -> list[tuple[float, float | None]]:
    """(share, value that so many do not exceed); None: infinite. Empty without values."""
    if not values:
        return []
    ordered = sorted(values)
    found = [(share, percentile_of(ordered, share)) for share in CURVE]
    return [(share, round(value, 3) if math.isfinite(value) else None) for share, value in found]


def point(of: str, unit: str, by: str, at: float, value: float | None) -> dict[str, Any]:
    """One point of a scaling curve: `of`, in `unit`, at so many of `by`."""
    return {"of": of, "unit": unit, "by": by, "at": at, "value": value}


def known(value: float | None, form: str) -> str:
    """For people; what could not be measured is not nothing."""
    return "unknown" if value is None or math.isnan(value) else format(value, form)


def cores(value: float) -> str:
    """For people."""
    return f"{known(value, '.2f')} cores"


def us(value: float | None) -> str:
    """For people."""
    return f"{known(value, ',.1f')} µs"


def latencies(found: Mapping[str, Any], name: str, what: str, limit_ms: float | None = None) -> list[Row]:
    """Rows of p50, p95, p99 and max of a spread; the target is the p99's."""
    rows = []
    for share in ("p50", "p95", "p99", "max"):
        value = found[f"{name}_{share}"]
        target = verdict(value, limit_ms, "ms") if limit_ms is not None and share == "p99" else ""
        rows.append((f"{what} {share}", ms(value), target))
    return rows


def ms(value: float | None) -> str:
    """For people."""
    return "never" if value is None else f"{known(value, ',.1f')} ms"


def full(shown: argparse.Namespace, *sizes: tuple[float, float]) -> bool:
    """Whether the aims are for such a run: it is no short form, and each size (what it has, what the aim is for) is reached. Pure."""
    return not getattr(shown, "short", False) and all(has >= wanted for has, wanted in sizes)


def verdict(value: float | None, limit: float | None, unit: str) -> str:
    """The target, and whether it was met. None: it came never, which misses every target. No limit: no target for such a run."""
    if limit is None:
        return ""
    aim = f"≤ {limit:g} {unit}".rstrip()
    if value is not None and math.isnan(value):
        return f"{aim}: unknown"
    met = value is not None and value <= limit
    return f"{aim}: {'met' if met else 'MISSED'}"


def at_least(value: float, limit: float | None, unit: str) -> str:
    """The same, where more is better."""
    if limit is None:
        return ""
    aim = f"≥ {limit:,g} {unit}".rstrip()
    return f"{aim}: {'unknown' if math.isnan(value) else 'met' if value >= limit else 'MISSED'}"


def none(count: int) -> str:
    """Of what there may be none, in whatever run."""
    return f"0: {'MISSED' if count else 'met'}"


_shown: list[dict[str, Any]] = []
"""Every table of the run that is under way, for its JSON: who reads it later sees what was seen then."""


_voids: list[str] = []
"""Why the figures of the run that is under way are of something else than they say."""
WORDS: Final = ("met", "MISSED", "unknown", "void")
"""What a verdict says."""
_began: list[str] = []
"""The commit at which it began."""


def void(reason: str) -> None:
    """The run did not do what its figures are of: none of its aims counts as met, each that would says why, and the exit code is 1. What
    is missed even so is missed.
    """
    if reason not in _voids:
        _voids.append(reason)


def broken(figures: Mapping[str, Any]) -> list[str]:
    """What no run may have, by its `lines_lost` and its `errors`. Pure."""
    found = [f"{figures['lines_lost']:,} lines lost"] if figures.get("lines_lost") else []
    return found + ([f"errors: {figures['errors']}"] if figures.get("errors") else [])


def said(row: Sequence[str]) -> str:
    """What a row's last cell says of its aim: one of WORDS, or "" where it names none. Pure."""
    _, aimed, word = row[-1].rpartition(": ")
    if ": void: " in row[-1]:
        return "void"
    return word if aimed and word in WORDS else ""


def judged(row: Sequence[str]) -> list[str]:
    """The row; of a run that is void the verdict says so instead of that it is met."""
    *cells, last = row
    if not _voids or said(row) != "met":
        return list(row)
    return [*cells, f"{last.rpartition(': ')[0]}: void: {'; '.join(_voids)}"]


def keep(title: str, rows: Sequence[Sequence[str]]) -> None:
    """A table goes into the JSON as it was shown: {title, rows}."""
    _shown.append({"title": title, "rows": [list(row) for row in rows]})


def keep_text(title: str, lines: Sequence[str]) -> None:
    """Lines go into the JSON among the tables, {title, rows: [], text}: for who asks what is behind them."""
    _shown.append({"title": title, "rows": [], "text": list(lines)})


def show(title: str, rows: Sequence[Row], console: Console | None = None) -> None:
    """The table: in colours on a terminal, plain elsewhere. It is kept, too."""
    keep(title, rows)
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    for what, figure, target in map(judged, rows):
        style = "red" if "MISSED" in target or ": void: " in target else "green" if "met" in target else ""
        table.add_row(what, figure, target, style=style)
    console = console or (Console() if sys.stdout.isatty() else Console(width=PLAIN_COLUMNS))
    console.print(table, no_wrap=not console.is_terminal)


def cpu_model() -> str:
    """What kind of processor; figures mean nothing without it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown"


def spanned(before: str, after: str) -> str:
    """The commit of a run by those at its begin and its end: both, when the tree changed meanwhile. Pure."""
    first, last = before.partition("..")[0], after.rpartition("..")[2]
    return last if first == last else f"{first}..{last}"


def complete(figures: dict[str, Any], shown: argparse.Namespace, versions: dict[str, str]) -> dict[str, Any]:
    """The figures beside the options, machine, versions, commit and date that they belong to. Folders and files of whoever ran it are
    nobody else's business.
    """
    hidden = ("json", "scenario", "url")
    elsewhere = getattr(shown, "url", None) is not None
    given = {name: value for name, value in vars(shown).items() if name not in hidden and not isinstance(value, Path)}
    facts = {
        "scenario": getattr(shown, "scenario", None),
        "elsewhere": elsewhere,
        "options": given,
        "machine": {**machine(), "cpu": cpu_model()},
        "versions": versions | {name: metadata.version(name) for name in LIBRARIES},
        # Ours is not that of a server that somebody else has started.
        "commit": "unknown" if elsewhere else spanned(_began[0] if _began else commit(), commit()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return figures | facts


def command(words: Sequence[str]) -> str:
    """What was typed, without files and addresses of whoever typed it. Pure."""
    left, kept = iter(words), []
    for word in left:
        name, given, _ = word.partition("=")
        if name not in (*_OWN, "--url"):
            kept.append(word)
            continue
        if name == "--url":
            # That it was somebody else's server is to be seen, and not whose.
            kept += ["--url", "URL"]
        if not given:
            next(left, None)
    return " ".join(("python -m bench", *kept))


Scenario = Callable[[argparse.Namespace], Coroutine[Any, Any, tuple[dict[str, Any], int]]]
"""Runs with its options; (complete figures, exit code). Prints its own table."""


def perform(scenario: Scenario, shown: argparse.Namespace) -> int:
    """Run it, write the JSON, with how fast the machine was before and after it; the exit code. 1 for a run that is void; 2: it could not
    run.
    """
    if shown.json is not None and not shown.json.parent.is_dir():
        print(f"--json {shown.json}: there is no folder {shown.json.parent}", file=sys.stderr)
        return 2
    raise_file_limit()
    _shown.clear()
    _voids.clear()
    _began[:] = [commit()]
    before_ms = work_ms()
    try:
        import uvloop

        loop_factory: Any = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            figures, code = runner.run(scenario(shown))
    except (StageError, EmbeddedError, FleetError, Unreachable) as error:
        print(f"The benchmark cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        _began.clear()
    speed = {"before_ms": before_ms, "after_ms": work_ms()}
    figures |= {"machine": {**figures.get("machine", {}), "speed": speed}}
    show("the machine", [(SPEED, f"{speed['before_ms']:.1f}, {speed['after_ms']:.1f} ms", "")])
    for reason in _voids:
        print(f"void: {reason}", file=sys.stderr)
        code = max(code, 1)
    if shown.json is not None:
        # A table that was shown before its run turned out to be void is void as well.
        tables = [{**one, "rows": [judged(row) for row in one["rows"]]} for one in _shown]
        figures |= {"command": command(sys.argv[1:]), "tables": tables} | ({"void": list(_voids)} if _voids else {})
        shown.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    _voids.clear()
    return code
