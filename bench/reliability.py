"""`python -m bench reliability`: the page of evidence, docs/reliability.md, out of bench/faults/promises.py and the kept results.

Every figure on the page comes from a file of bench/results/faults, and each file names its seed, machine, stores, commit and date.
"""

import argparse
import ast
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.faults.checkers import CHECKERS, LOOKS
from bench.faults.promises import FAULTS, LIMITS, MUTANTS, PROMISES
from bench.faults.targets import TARGETS, Results, Target

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "bench" / "results" / "faults"
BREACHES = ROOT / "tests" / "bench" / "breaches.py"
"""Its `BROKEN` maps functions that break a history by hand to the invariant that must be named."""
RUNS = ("simulation", "chaos")
"""What makes a history that is judged; their files are named NAME-….json."""


def results(folder: Path = RESULTS) -> Results:
    """File name without its end → what it holds, by name."""
    return {path.stem: orjson.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def runs(found: Results) -> list[tuple[str, dict[str, Any]]]:
    """The runs that were judged."""
    return [(name, one) for name, one in found.items() if name.partition("-")[0] in RUNS]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return str(value).replace("|", "\\|")


def promises(found: Results) -> str:
    """Promise by promise: the words, the faults, the checker, the mutants, and how often the runs have seen it broken."""
    cases, by_hand = looks(found), breaches()

    def broken(name: str) -> object:
        """A checker that never had anything to judge has not found that all is well."""
        count = sum(one["by_invariant"].get(name, 0) for _, one in runs(found))
        return count if count or cases[name] else "-"

    return table(
        ("", "promise", "attacked by", "judged by", "mutants that it names", "breaches by hand", "cases judged", "violations"),
        [
            (
                f"**{one.name}**",
                one.words,
                ", ".join(one.faults),
                f"`{one.checker}`" if one.checker.isidentifier() else one.checker,
                "; ".join(one.mutants) or "-",
                "; ".join(by_hand.get(one.name, ())) or "-",
                cases.get(one.name, "-"),
                broken(one.name),
            )
            for one in PROMISES
        ],
    )  # fmt: skip


def breaches(file: Path = BREACHES) -> dict[str, list[str]]:
    """Invariant → the mistakes put into a history by hand that its checker is held to name, read from the test's source."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name("BROKEN"), value=ast.Dict(keys, values)):
                for breach, name in zip(keys, values, strict=True):
                    assert isinstance(breach, ast.Name)
                    found.setdefault(ast.literal_eval(name), []).append(breach.id.replace("_", " "))
    return found


def looks(found: Results) -> Counter[str]:
    """How often a checker had something to judge, in the runs that counted it."""
    return sum((Counter(one.get("looked", {})) for _, one in runs(found)), Counter())


def rare(found: Results) -> str:
    """Of those, what is seldom met."""
    names = [name for name in LOOKS if name not in CHECKERS]
    cases = looks(found)
    return ", ".join(f"{name}: {cases[name]:,}" for name in names)


def faults(found: Results) -> str:
    """Fault by fault: where it is made, and how many met somebody."""
    met: dict[str, dict[str, int]] = {}
    skipped: dict[str, str] = {}
    for name, one in runs(found):
        counts = met.setdefault(name.partition("-")[0], {})
        for kind, number in one.get("faults_by_kind", {}).items():
            counts[kind] = counts.get(kind, 0) + number
        skipped |= one.get("skipped", {})

    def count(where: str, kinds: Sequence[str]) -> object:
        return sum(met[where].get(kind, 0) for kind in kinds) if kinds and where in met else "-"

    rows = [
        (
            one.name,
            one.words,
            ", ".join(one.where),
            count("simulation", one.simulated),
            count("chaos", one.real),
            "; ".join(f"{kind}: {skipped[kind]}" for kind in one.real if kind in skipped) or "",
        )
        for one in FAULTS
    ]
    return table(("", "fault", "made in", "met, simulated", "met, real processes", "skipped"), rows)


def mutants(found: Results) -> str:
    """Mutant by mutant: how it was caught, and in how long."""
    caught = found.get("mutants", {}).get("mutants", {})
    rows = []
    for one in MUTANTS:
        how = caught.get(one.name)
        seconds = "not yet" if how is None else f"{how['seconds']:g} s"
        rows.append((one.name, one.words, one.attack, one.named, "not yet" if how is None else how["how"], seconds))
    return table(("mutant", "the mistake", "attack", "breaks", "caught by", "in"), rows)


def figures(found: Results) -> str:
    """What was aimed at, what was measured, and in which file it is kept."""
    return table(
        ("what", "aim", "measured", "", "command"),
        [
            (one.words, one.aim, *_judged(one, found), f"`{one.command}`")
            for one in TARGETS
        ],
    )  # fmt: skip


def _judged(one: Target, found: Results) -> tuple[str, str]:
    value = one.value(found)
    if value is None:
        return "not measured", "**open**"
    if one.limit is None:
        return one.shown(value), ""
    return one.shown(value), "met" if one.met(value) else "**MISSED**"


def _stores(name: str, one: dict[str, Any]) -> str:
    """What a run ran on."""
    if name.startswith("simulation"):
        return "models"
    return f"PostgreSQL {one['versions']['postgres']}, {one['redis']}"


def totals(found: Results) -> str:
    """All runs together."""
    rows = []
    for name, one in runs(found):
        seeds = f"{one['first']}-{one['first'] + one['seeds'] - 1}" if "seeds" in one else str(one["seed"])
        rows.append(
            (name, seeds, one["accepts"], one["faults"], one["violations"], float(one["seconds"]), _stores(name, one), one["commit"][:9], one["date"][:16])
        )  # fmt: skip
    whole = [one for _, one in runs(found)]
    summed = (sum(one[key] for one in whole) for key in ("accepts", "faults", "violations", "seconds"))
    rows.append(("**all**", "", *summed, "", "", ""))
    return table(
        ("run", "seeds", "accepts", "faults that met somebody", "violations", "s", "stores", "commit", "date"), rows
    )


def page(found: Results) -> str:
    """The whole page."""
    seeds = sum(one.get("seeds", 0) for _, one in runs(found))
    limits = "\n".join(f"- {line}" for line in LIMITS).format(seeds=f"{seeds:,}")
    return f"""# Reliability: the evidence

Made by `python -m bench reliability` out of [promises.py](../bench/faults/promises.py) and the results kept in [bench/results/faults](../bench/results/faults); a test holds this page and its sources together.
A promise counts for something only with the faults that attack it, what judges it, and a mistake made on purpose that proves the judge awake: a mutant of the
server, or a history broken by hand in [breaches.py](../tests/bench/breaches.py). I8 and I11 have neither: the one is measured, the other is judged by all
the rest while clocks are wrong.

## How to run it again

| what | command |
|---|---|
| the simulator: shipped modules, virtual time, stores that lie and die | `python -m bench simulate-faults --seeds 1000` |
| one seed again, step by step | `python -m bench simulate-faults --seed 17` |
| real processes under a nemesis, 10 minutes, hours | `make chaos`, `make soak` |
| reconnect storm, slow readers, rolling restart | `python -m bench storms` |
| a deaf worker | `pytest tests/faults/test_deaf_worker.py` |
| a million broken frames | `python -m bench hostile` |
| the twelve mutants | `make mutants` |

## Promises

{promises(found)}

A case is something that a checker could have found wrong: a yes, an offer, an applied event. Without a case there is no verdict, and "-" stands for it. Of what is
seldom met, each by itself: {rare(found)}.

## Runs

A fault counts when it met somebody: a call in flight, a line, a lock that was waited for. Accepts are attempts to take a job, each counted once however often it was sent.

{totals(found)}

## Faults

{faults(found)}

## Mutants

{mutants(found)}

## Figures

{figures(found)}

## What this does not show

{limits}
"""


def main(args: list[str]) -> int:
    """Write the page; with `--check`, say whether it is up to date. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench reliability", description="Write docs/reliability.md.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    shown = parser.parse_args(args)
    text = page(results())
    if shown.check:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        print(
            "up to date"
            if same
            else f"{PAGE.relative_to(ROOT)} is not what the results say: python -m bench reliability",
            file=sys.stderr,
        )
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
    return 0
