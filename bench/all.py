"""`python -m bench all`: each scenario after the other, in its short or its full form, and a report of what they found.

Each runs in a process of its own and writes its JSON into one folder; one that fails does not stop the others, and the exit code tells.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from bench.figures import WORDS, Row, said, show, words
from bench.progress import say

RESULTS: Final = Path(__file__).parent / "results"
ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "sockets": (),
    "positions": (),
    "offers": (),
    "accepts": (),
    "tracking": (),
    "api": (),
    "candidates": (),
    "storm": (),
    "ledger": (),
    # All of its works take ten minutes also in the short form.
    "peers": ("--runs", "1", "--only", "positions"),
}
"""Scenario → what its short form is given besides."""
FULL: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "positions": {"positions": ("--rates", "2000,400,4000"), "positions-one-worker": ("--workers", "1")},
    "offers": {
        "offers": (),
        "offers-full": ("--rate", "100", "--providers", "5000"),
        "offers-at-once": ("--rate", "100", "--providers", "5000", "--at-once", "100"),
        # A position a second is the dearest that may come: on a job there is one every 4 s, and who waits sends one every 15.
        "offers-full-every-4s": ("--rate", "100", "--providers", "5000", "--fixes", "0.25"),
        "offers-at-once-every-4s": ("--rate", "100", "--providers", "5000", "--at-once", "100", "--fixes", "0.25"),
    },
}
"""Scenario → the runs of its full form, where they are several: the name under which each is kept → its options."""
SHORT_WITHIN_S: Final = 240.0
"""A short form that takes longer has failed, and the next one has its turn."""
ENDED_WITHIN_S: Final = 40.0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m bench all",
        description="Every scenario, one after the other, and a report. Exit code 0; 1 when one failed or said 1; 2 for a mistake.",
    )
    found.add_argument("--short", action="store_true", help="their short forms, five minutes together")
    found.add_argument(
        "--only", type=partial(words, ORDER), default=list(ORDER), metavar="NAME[,…]", help=f"of {', '.join(ORDER)}"
    )
    found.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="where their JSON and the report go (default: bench/results; with --short bench/results/short)",
    )
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """How one scenario went. `code` None: it was ended for taking too long."""

    name: str
    code: int | None
    seconds: float

    @property
    def good(self) -> bool:
        return self.code == 0


def run(name: str, command: Sequence[str], within_s: float | None) -> Done:
    """Run it to its end, or until it has taken too long. Raises KeyboardInterrupt."""
    began = time.monotonic()
    process = subprocess.Popen(command)
    code: int | None
    try:
        code = process.wait(within_s)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            # As Ctrl-C: it stops what it has started.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(ENDED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return Done(name, code, time.monotonic() - began)


def commands(scenarios: Sequence[str], folder: Path, *, short: bool) -> dict[str, list[str]]:
    """The name under which each run is kept → how it is run, in that order. Pure."""
    found = {}
    for scenario in scenarios:
        forms = {scenario: ("--short", *ORDER[scenario])} if short else FULL.get(scenario, {scenario: ()})
        for name, more in forms.items():
            file = str(folder / f"{name}.json")
            found[name] = [sys.executable, "-m", "bench", scenario, *more, "--json", file]
    return found


def verdicts(file: Path) -> str:
    """How often the kept tables say what, as "3 met, 1 MISSED"; "" when there are none."""
    try:
        tables = orjson.loads(file.read_bytes())["tables"]
    except (OSError, orjson.JSONDecodeError, KeyError):
        return ""
    found = Counter(word for one in tables for row in one["rows"] if (word := said(row)))
    return ", ".join(f"{found[word]} {word}" for word in WORDS if found[word])


def row(done: Done, found: str = "") -> Row:
    """For the table; `found` are the run's verdicts. That it ran says nothing about them."""
    how = "ran" if done.good else "took too long: MISSED" if done.code is None else f"exit code {done.code}: MISSED"
    return done.name, f"{done.seconds:.0f} s", f"{how} ({found})" if found else how


def main(args: list[str]) -> int:
    """Run them; the exit code."""
    from bench.report import Unreadable, write

    shown = parser().parse_args(args)
    folder: Path = shown.folder or (RESULTS / "short" if shown.short else RESULTS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--folder {folder} cannot be made: {error.strerror}", file=sys.stderr)
        return 2
    done: list[Done] = []
    todo = commands(shown.only, folder, short=shown.short)
    try:
        for number, (name, command) in enumerate(todo.items(), 1):
            say(f"\n{number} of {len(todo)}: {name}")
            (folder / f"{name}.json").unlink(missing_ok=True)
            done.append(run(name, command, SHORT_WITHIN_S if shown.short else None))
    except KeyboardInterrupt:
        return 130
    show(
        f"{len(done)} runs, {sum(one.seconds for one in done):.0f} s",
        [row(one, verdicts(folder / f"{one.name}.json")) for one in done],
    )
    try:
        say(f"report: {write(folder)}")
    except Unreadable as error:
        print(f"There is no report: {error}", file=sys.stderr)
        return 1
    return 0 if all(one.good for one in done) else 1
