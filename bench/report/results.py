"""What scenarios have left, as plots and tables want it. Files are somebody's: what is none of ours is said and left out."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

Curve = list[tuple[float, float]]
"""(share, ms), rising; what is infinite is left out."""


class Unreadable(Exception):
    """There is nothing to report of. The message is for people."""


@dataclass(frozen=True, slots=True)
class Result:
    """One file."""

    name: str
    """Its name without .json."""
    scenario: str
    figures: dict[str, Any]

    @property
    def of(self) -> str:
        """Which state of the sources was measured: the commit, or what is known of a server that somebody else has started."""
        # Only the hex is shortened: that there were changes, or two commits, is to be seen.
        commit = re.sub(r"[0-9a-f]{40}", lambda found: found[0][:12], str(self.figures.get("commit", "?")))
        if self.figures.get("elsewhere"):
            return "a server elsewhere, its commit unknown; machine and libraries are the load generator's"
        return f"commit {commit}"

    @property
    def where(self) -> str:
        """On which machine, and how fast it was; what was kept before that was looked at says nothing of it."""
        machine = self.figures.get("machine", {})
        found = f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {machine.get('system', '?')}, Python {machine.get('python', '?')}"
        if speed := machine.get("speed"):
            found += f", a fixed piece of work took {speed['before_ms']:g} ms before and {speed['after_ms']:g} ms after"
        return found

    @property
    def facts(self) -> str:
        """When, of what and where; in one line."""
        found = self.figures
        versions = ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())
        options = ", ".join(f"{name} {value}" for name, value in found.get("options", {}).items() if value is not None)
        return f"{found.get('date', '?')} · {self.of} · {self.where} · {versions} · {options}"

    def curves(self) -> dict[str, Curve]:
        """Latencies by name."""
        given = self.figures.get("latency")
        found = {}
        for name, points in (given if isinstance(given, dict) else {}).items():
            curve = [(float(share), float(value)) for share, value in points if value is not None]
            if curve:
                found[str(name)] = curve
        return found

    def tables(self) -> list[dict[str, Any]]:
        """Those that the run has shown, {title, rows}; not the empty ones."""
        return [shown for shown in self.figures.get("tables") or () if shown.get("rows")]

    def texts(self) -> list[dict[str, Any]]:
        """What was kept among the tables as lines, {title, text}."""
        return [shown for shown in self.figures.get("tables") or () if shown.get("text")]

    def ratios(self) -> dict[str, dict[str, Any]]:
        """Spreads of ratios to peers, by name."""
        given = self.figures.get("ratio_spreads")
        return given if isinstance(given, dict) else {}


@dataclass(slots=True)
class Scaling:
    """One line of a plot: a figure by some size."""

    of: str
    unit: str
    by: str
    points: dict[float, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Size → what was found there, of all files."""


def read(folder: Path) -> tuple[list[Result], list[str]]:
    """(results in the order of their names, what was left out and why). Raises Unreadable when none is there."""
    if not folder.is_dir():
        raise Unreadable(f"there is no folder {folder}: run `python -m bench all --short --folder {folder}` first")
    found, left_out = [], []
    for file in sorted(folder.glob("*.json")):
        try:
            figures = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            left_out.append(f"{file.name}: {error}")
            continue
        if not isinstance(figures, dict) or "machine" not in figures:
            left_out.append(f"{file.name}: not written by `python -m bench`")
            continue
        found.append(Result(file.stem, str(figures.get("scenario") or file.stem), figures))
    if not found:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise Unreadable(f"no results in {folder}{why}: scenarios leave some there with --json {folder}/NAME.json")
    return found, left_out


def scalings(results: Iterable[Result]) -> list[Scaling]:
    """Those that have more than one size, over all files."""
    found: dict[tuple[str, str, str], Scaling] = {}
    for result in results:
        for one in result.figures.get("scaling") or ():
            value = one.get("value")
            if value is None or not math.isfinite(value):
                continue
            key = (one["of"], one["unit"], one["by"])
            found.setdefault(key, Scaling(*key)).points[float(one["at"])].append(float(value))
    return [one for one in found.values() if len(one.points) > 1]


def flat(figures: dict[str, Any], hidden: Sequence[str]) -> list[tuple[str, Any]]:
    """The figures that are numbers or words, those of nested tables by «outer / inner»."""
    rows: list[tuple[str, Any]] = []
    for name, value in figures.items():
        if name in hidden:
            continue
        if isinstance(value, dict):
            rows += [(f"{name} / {inner}", found) for inner, found in flat(value, hidden)]
        elif not isinstance(value, list):
            rows.append((name, value))
    return rows
