"""`docs/performance.md` out of kept results: their tables as they were shown, with what made them. Nothing in them is written by hand."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import said
from bench.report.results import Result

REASONS: Final = Path(__file__).with_name("reasons.md")
"""Why some targets are missed: prose, for which no command can stand. `### SCENARIO` begins a section, `- **words**: reason` in it is the
reason of those rows in whose name, or whose table's title, the words occur. A section without such lines is the reason of all its rows.
"""
POINT: Final = re.compile(r"^- \*\*(.+?)\*\*:", re.MULTILINE)
HEAD: Final = """# Performance: what an operation costs

Made by `python -m bench report {folder} --page {page}` out of [{folder}](../{folder}); tables of results are not written by hand. A figure holds beside its machine only; ratios of one run hold roughly elsewhere too. Latencies count from the moment that was a request's,
whether or not the load generator was late. Each scenario says how much of the machine others kept busy meanwhile: where that is more than a few hundredths, only CPU per operation and ratios mean something.

"""
ORDER: Final = (
    *(
        "positions",
        "sockets",
        "offers",
        "accepts",
        "peers",
        "candidates",
        "tracking",
        "api",
        "storm",
        "ledger",
        "office",
    ),
    *("scaling", "tables"),
)


def ordered(results: Iterable[Result]) -> list[Result]:
    """As somebody would ask: what is done most comes first; what this page does not know comes last, by name."""
    places = {name: at for at, name in enumerate(ORDER)}
    return sorted(results, key=lambda one: (places.get(one.scenario, len(places)), one.name))


def facts(result: Result) -> str:
    """When, from what, where, how again, and why it counts for nothing; one paragraph."""
    figures = result.figures
    versions = ", ".join(f"{name} {version}" for name, version in figures.get("versions", {}).items())
    void = f" · **void: {'; '.join(figures['void'])}**" if isinstance(figures.get("void"), list) else ""
    return f"`{figures.get('command', '?')}` · {figures.get('date', '?')} · {result.of} · {result.where} · {versions}{void}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a kept table. One whose first row begins with nothing has it as its heads."""
    width = max(len(row) for row in rows)
    headed = rows[0][0] == "" and len(rows) > 1
    heads, body = (rows[0], rows[1:]) if headed else ([""] * width, rows)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * width]
    for row in body:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(
            "| "
            + " | ".join(f"**{cell}**" if "MISSED" in cell or ": void: " in cell else cell for cell in cells)
            + " |"
        )
    return lines


def aims(results: Sequence[Result]) -> list[str]:
    """Every row that has an aim, of all kept tables: where it stands, what it is, figure, aim."""
    found = [("", "at", "what", "figure", "aim")]
    for result in results:
        for shown in result.tables():
            for row in shown["rows"]:
                if said(row):
                    found.append((result.name, shown["title"], row[0], row[1], row[-1]))
    return table(found) if len(found) > 1 else []


@dataclass(frozen=True, slots=True)
class Missed:
    """A row whose aim was missed, or is void."""

    of: str
    """The result's name."""
    scenario: str
    title: str
    row: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What the reasons say of one scenario."""

    scenario: str
    intro: str
    """All of it, where it has no points."""
    points: tuple[tuple[str, str], ...]
    """(words, the whole point)."""

    def covers(self, one: Missed) -> bool:
        return one.scenario == self.scenario and (not self.points or any(names(words, one) for words, _ in self.points))


def names(words: str, one: Missed) -> bool:
    """Whether a point with these words is about that row. Pure."""
    return words in one.title or words in one.row[0]


def missed(results: Iterable[Result]) -> Iterator[Missed]:
    """Every such row of all kept tables."""
    for result in results:
        for shown in result.tables():
            for row in shown["rows"]:
                if said(row) in ("MISSED", "void"):
                    yield Missed(result.name, result.scenario, shown["title"], tuple(row))


def sections(reasons: str) -> tuple[str, list[Section]]:
    """(What stands before the first, all of them.) Pure."""
    head, *parts = re.split(r"^### ", reasons, flags=re.MULTILINE)
    found = []
    for part in parts:
        name, _, body = part.partition("\n")
        intro, *points = POINT.split(body)
        pairs = zip(points[::2], points[1::2], strict=True)
        told = tuple((words, f"- **{words}**:{text.rstrip()}") for words, text in pairs)
        found.append(Section(name.strip(), intro.strip(), told))
    return head.strip(), found


def unreasoned(results: Iterable[Result], reasons: str) -> list[Missed]:
    """The rows that no reason is about. Pure."""
    _, found = sections(reasons)
    return [one for one in missed(results) if not any(section.covers(one) for section in found)]


def reasoned(results: Iterable[Result], reasons: str) -> list[str]:
    """Lines: the reasons of what was missed, and no others, so that none stands beside an aim that was met. Pure."""
    rows = list(missed(results))
    head, found = sections(reasons)
    lines: list[str] = []
    for section in found:
        if not any(map(section.covers, rows)):
            continue
        mine = [one for one in rows if one.scenario == section.scenario]
        points = [text for words, text in section.points if any(names(words, one) for one in mine)]
        lines += [f"### {section.scenario}", "", *([section.intro, ""] if section.intro else ())]
        lines += [line for text in points for line in (text, "")]
    return [head, "", *lines] if lines else []


def markdown(results: Sequence[Result], folder: str, page: str, reasons: str) -> str:
    """The page."""
    lines = [HEAD.format(folder=folder, page=page).rstrip(), ""]
    if rows := aims(ordered(results)):
        lines += ["## Every aim, and what was found", "", *rows, ""]
    for result in ordered(results):
        lines += [f"## {result.name}", "", facts(result), ""]
        for shown in result.tables():
            lines += [f"**{shown['title']}**", "", *table(shown["rows"]), ""]
        for shown in result.texts():
            lines += [f"**{shown['title']}**", "", "```", *shown["text"], "```", ""]
    return "\n".join([*lines, *reasoned(results, reasons)])
