"""`python -m bench chaos`: real workers and stores under a seeded nemesis, judged by what clients were told."""

import argparse
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.chaos.city import Habits
from bench.chaos.cluster import Prepare, nothing, run_folder
from bench.chaos.plan import BY_NAME, KINDS, STANDING, drawn, length_of, short
from bench.chaos.run import Outcome, Wanted, run
from bench.chaos.stores import redis_build
from bench.report import complete, options, perform, show

SHOWN_VIOLATIONS = 20
EVERY_S = 1.5
"""Between two faults, on average."""


def duration(text: str) -> float:
    """Seconds of 90s, 10m or 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if found is None or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no duration such as 90s, 10m or 8h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


def faults(text: str) -> list[str]:
    """Names of faults."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in BY_NAME and name not in STANDING:
            raise argparse.ArgumentTypeError(f"there is no fault {name}; --list shows them")
    return names


def parser() -> argparse.ArgumentParser:
    found = options("chaos", "Real processes under faults: what was promised is judged by what clients were told.")
    found.set_defaults(workers=4)
    found.add_argument("--for", type=duration, default=600.0, dest="seconds", help="of load and faults (default: 10m)")
    found.add_argument("--seed", type=int, default=1, help="of the schedule and of everybody's habits (default: 1)")
    found.add_argument(
        "--keep", type=Path, default=None, metavar="FOLDER", help="history and logs; kept also when all is well"
    )
    found.add_argument("--only", type=faults, default=None, metavar="FAULT,...", help="these faults and no others")
    found.add_argument("--list", action="store_true", help="show the faults and leave")
    found.add_argument("--short", action="store_true", help="every fault once, one after the other; --for is not used")
    found.add_argument("--redis", type=Path, default=None, metavar="PATH", help="redis-server or valkey-server to run")
    found.add_argument("--providers", type=int, default=500)
    found.add_argument("--customers", type=int, default=100)
    found.add_argument("--jobs-per-s", type=float, default=Habits().jobs_per_s, help="new jobs (default: %(default)s)")
    return found


def wanted_of(shown: argparse.Namespace, launch: Sequence[str] | None = None, prepare: Prepare = nothing) -> Wanted:
    """What these options ask for. Raises EmbeddedError."""
    kinds = [kind.name for kind in KINDS if shown.only is None or kind.name in shown.only]
    standing = [name for name in STANDING if shown.only is None or name in shown.only]
    plan = short(shown.seed, kinds) if shown.short else drawn(shown.seed, shown.seconds, kinds, every_s=EVERY_S)
    seconds = length_of(plan) if shown.short else shown.seconds
    habits = Habits(jobs_per_s=shown.jobs_per_s)
    build = redis_build(shown.redis)
    return Wanted(
        seed=shown.seed,
        seconds=seconds,
        plan=plan,
        standing=standing,
        habits=habits,
        build=build,
        providers=shown.providers,
        customers=shown.customers,
        workers=shown.workers,
        rest_s=5.0 if shown.short else 10.0,
        launch=launch or (sys.executable, "-m", "dispatch"),
        prepare=prepare,
    )


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError."""
    wanted = wanted_of(shown)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    kinds = Counter(planned.kind for planned in wanted.plan)
    say(f"seed {wanted.seed}, {wanted.seconds:.0f} s, {len(wanted.plan)} faults planned on {wanted.build}")
    say("  " + ", ".join(f"{count}x {kind}" for kind, count in kinds.most_common()))
    with run_folder(shown.keep) as folder:
        say(f"history and logs: {folder}")
        outcome = await run(wanted, folder, say)
        code = 0 if not outcome.violations else 1
        _show(wanted, outcome, folder)
        if code == 0 and shown.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    found = outcome.figures | {"seed": wanted.seed, "redis": str(wanted.build)}
    return complete(found, shown, outcome.figures["versions"]), code


def _show(wanted: Wanted, outcome: Outcome, folder: Path) -> None:
    found = outcome.figures
    rows = [
        (name.replace("_", " "), _text(value), "")
        for name, value in found.items()
        if name not in ("answers", "versions", "unexpected")
    ]
    show(f"chaos, seed {wanted.seed}, on {wanted.build}", rows)
    for line in found["unexpected"][:SHOWN_VIOLATIONS]:
        print(f"  unexpected: {line}")
    for one in outcome.violations[:SHOWN_VIOLATIONS]:
        print(f"  {one.invariant}: {one.text}")
    if outcome.violations:
        print(f"{len(outcome.violations)} violations. The history is in {folder / 'history'}, logs are in {folder}.")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(args: list[str]) -> int:
    """Run it; 1 when a promise was broken."""
    shown = parser().parse_args(args)
    if shown.list:
        for kind in KINDS:
            print(f"  {kind.name:20} {kind.of:4} {kind.what}")
        for name, what in STANDING.items():
            print(f"  {name:20} {what}")
        return 0
    return perform(scenario, shown)
