"""`python -m bench report`: its options, and one report from reading to writing."""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from bench.report import plots
from bench.report.markdown import REASONS, Missed, markdown, unreasoned
from bench.report.page import page
from bench.report.results import Scaling, Unreadable, read, scalings

RESULTS: Final = Path(__file__).parents[1] / "results"
PAGE: Final = "report.html"


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m bench report",
        description="One HTML page and PNG plots out of the JSON of scenarios, into their folder. Exit code 1: with --page, an aim was"
        " missed and no reason says why; 2: there is no report.",
    )
    found.add_argument("folder", nargs="?", type=Path, default=RESULTS, help="(default: bench/results)")
    found.add_argument("--page", type=Path, default=None, metavar="FILE", help="write the tables there as Markdown too")
    return found


def file_name(title: str) -> str:
    """Of a picture. Pure."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".png"


def write(folder: Path) -> Path:
    """The page and its pictures, beside the results; where the page is. Raises Unreadable."""
    results, left_out = read(folder)
    pictures: dict[str, dict[str, bytes]] = defaultdict(dict)
    for result in results:
        if curves := result.curves():
            pictures[result.name][f"latency {result.name}"] = plots.latency(f"{result.scenario}: latency", curves)
    groups: dict[tuple[str, str, str], list[Scaling]] = defaultdict(list)
    for line in scalings(results):
        # One picture for what can be compared: the same unit by the same size, of one kind of work.
        groups[line.of.partition(",")[0], line.unit, line.by].append(line)
    for (of, unit, by), lines in groups.items():
        pictures[""][f"scaling {of} by {by}"] = plots.scaling(f"{of}, {unit}, by {by}", lines)
    try:
        for some in pictures.values():
            for title, png in some.items():
                (folder / file_name(title)).write_bytes(png)
        (folder / PAGE).write_text(page(results, pictures, left_out), encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"nothing can be written into {folder}: {error.strerror}") from error
    return folder / PAGE


def tell(folder: Path, page: Path) -> list[Missed]:
    """The kept tables as one Markdown page, as `docs/performance.md` is; what it leaves without a reason. Raises Unreadable."""
    results, _ = read(folder)
    reasons = REASONS.read_text(encoding="utf-8")
    text = markdown(results, folder.as_posix(), page.as_posix(), reasons)
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unreadable(f"nothing can be written to {page}: {error.strerror}") from error
    return unreasoned(results, reasons)


def main(args: list[str]) -> int:
    """Write it; the exit code."""
    shown = parser().parse_args(args)
    open_ones: list[Missed] = []
    try:
        where = write(shown.folder)
        if shown.page is not None:
            open_ones = tell(shown.folder, shown.page)
    except Unreadable as error:
        print(f"There is no report: {error}", file=sys.stderr)
        return 2
    print(f"report: {where}")
    for one in open_ones:
        what, *_, aim = one.row
        print(f"no reason in {REASONS.name}: {one.of}, {one.title}, {what}: {aim}", file=sys.stderr)
    return 1 if open_ones else 0
