"""`docs/performance.md` out of kept results: their tables as they were shown, with what made them. Nothing in them is written by hand."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from bench.figures import said
from bench.report.results import Result

REASONS: Final = Path(__file__).with_name("reasons.md")
"""Why some targets are missed: prose, for which no command can stand."""
HEAD: Final = """# Performance: what an operation costs

Made by `python -m bench report {folder} --page {page}` out of [{folder}](../{folder}); tables are not written by hand. A figure holds beside its machine only; ratios of one run hold roughly elsewhere too. Latencies count from the moment that was a request's,
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
    """When, from what, where, and how again; one paragraph."""
    figures, machine = result.figures, result.figures.get("machine", {})
    versions = ", ".join(f"{name} {version}" for name, version in figures.get("versions", {}).items())
    where = f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {machine.get('system', '?')}, Python {machine.get('python', '?')}"
    return f"`{figures.get('command', '?')}` · {figures.get('date', '?')} · {result.of} · {where} · {versions}"


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


def unreasoned(results: Sequence[Result], reasons: str) -> list[tuple[str, str]]:
    """(scenario, row) of each aim that was missed by a scenario which `reasons` has no heading for. Pure."""
    named = {line.removeprefix("### ").strip() for line in reasons.splitlines() if line.startswith("### ")}
    return [
        (result.scenario, row[0])
        for result in results
        for shown in result.tables()
        for row in shown["rows"]
        if said(row) == "MISSED" and result.scenario not in named
    ]


def markdown(results: Sequence[Result], folder: str, page: str, reasons: str) -> str:
    """The page."""
    lines = [HEAD.format(folder=folder, page=page).rstrip(), ""]
    if rows := aims(ordered(results)):
        lines += ["## Every aim, and what was found", "", *rows, ""]
    for result in ordered(results):
        lines += [f"## {result.name}", "", facts(result), ""]
        for shown in result.tables():
            lines += [f"**{shown['title']}**", "", *table(shown["rows"]), ""]
    return "\n".join([*lines, reasons.rstrip(), ""])
