"""The page: plain HTML with its style and its pictures inside."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from bench.figures import said
from bench.peers.ratios import judged
from bench.report.results import Result, flat

HIDDEN: Final = (
    "machine", "versions", "options", "date", "commit", "scenario", "elsewhere", "latency", "scaling", "ratios", "ratio_spreads", "samples",
    "peers", "scale", "rates", "searches_of",
)  # fmt: skip
"""Of the table of figures: told elsewhere on the page, or too much of it."""
STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.5em}h2{margin-top:2em;border-bottom:1px solid #ccc}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
.met{color:#17691b}.missed{color:#b3261e}.facts{color:#666;font-size:.85em}img{max-width:100%}pre{overflow-x:auto}details{margin:.5em 0}
"""


def number(value: Any) -> str:
    """For people. Pure."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "unknown or never"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def peers_table(result: Result) -> str:
    """Ratios of one run, ours over theirs, with their spread and what was aimed at."""
    rows = []
    for name, spread in result.ratios().items():
        target = spread["verdict"] if "verdict" in spread else judged(name, spread["median"])
        style = "missed" if "MISSED" in target else "met" if target else ""
        rows.append(
            f"<tr><td>{escape(name)}</td><td class=n>{spread['median']:.3g}</td><td class=n>{spread['min']:.3g} to {spread['max']:.3g}</td>"
            f"<td class=n>{spread['runs']}</td><td class='{style}'>{escape(target)}</td></tr>"
        )
    lacks = "".join(
        f"<li>{escape(kind)}: {escape('; '.join(facts.get('lacks', ())))}</li>"
        for kind, facts in (result.figures.get("peers") or {}).items()
    )
    noisy = (
        f"<p class=missed>The machine was not quiet: load average {number(result.figures.get('load_average_before'))} before the run.</p>"
        if result.figures.get("noisy")
        else ""
    )
    return (
        f"{noisy}<table id=peers><tr><th>ours over theirs</th><th>median</th><th>spread</th><th>paired runs</th><th>target</th></tr>"
        f"{''.join(rows)}</table><p>What they do not guarantee:</p><ul>{lacks}</ul>"
    )


def figures_table(result: Result) -> str:
    """What else the file tells."""
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td class=n>{escape(number(value))}</td></tr>"
        for name, value in flat(result.figures, HIDDEN)
    )
    return f"<details><summary>figures</summary><table>{rows}</table></details>"


def kept_table(shown: Mapping[str, Any]) -> str:
    """A table as the run has shown it, verdicts in colour."""
    rows = ""
    for row in shown["rows"]:
        style = {"met": "met", "MISSED": "missed", "void": "missed"}.get(said(row), "")
        *cells, last = (escape(str(cell)) for cell in row)
        rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}<td class='{style}'>{last}</td></tr>"
    return f"<details open><summary>{escape(shown['title'])}</summary><table>{rows}</table></details>"


def kept_text(shown: Mapping[str, Any]) -> str:
    """Lines that the run has kept, folded."""
    lines = escape("\n".join(shown["text"]))
    return f"<details><summary>{escape(shown['title'])}</summary><pre>{lines}</pre></details>"


def picture(name: str, png: bytes) -> str:
    """An image that the page carries itself."""
    return f'<p><img alt="{escape(name, quote=True)}" src="data:image/png;base64,{b64encode(png).decode()}"></p>'


def page(results: Sequence[Result], pictures: Mapping[str, Mapping[str, bytes]], left_out: Sequence[str]) -> str:
    """The HTML. `pictures`: of each result by its name, and under "" those of several; by title."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>dispatch: what it costs</title><style>{STYLE}</style></head><body><h1>dispatch: what it costs</h1>",
        "<p>Figures hold beside their machine only; ratios of one run hold roughly elsewhere too. A latency counts from the moment that",
        " was a request's, whether or not the load generator was late.</p>",
    ]
    if shared := pictures.get("", {}):
        parts += ["<h2>by size</h2>", *(picture(name, png) for name, png in shared.items())]
    for result in results:
        parts.append(f"<h2 id='{escape(result.name, quote=True)}'>{escape(result.name)}</h2>")
        parts.append(f"<p class=facts>{escape(result.facts)}</p>")
        parts += map(kept_table, result.tables())
        parts += map(kept_text, result.texts())
        parts += [picture(name, png) for name, png in pictures.get(result.name, {}).items()]
        if result.ratios():
            parts.append(peers_table(result))
        parts.append(figures_table(result))
    if left_out:
        parts += ["<h2>left out</h2><ul>", *(f"<li>{escape(one)}</li>" for one in left_out), "</ul>"]
    return "".join([*parts, "</body></html>\n"])
