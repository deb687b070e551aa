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
from bench.chaos.disk import again_in_a_namespace
from bench.chaos.plan import BY_NAME, KINDS, STANDING, drawn, length_of, short
from bench.chaos.run import Outcome, Wanted, run
from bench.chaos.stores import redis_build
from bench.demo.command import at_least_one
from bench.report import complete, options, perform, seconds, show

SHOWN_VIOLATIONS = 20
EVERY_S = 2.0
"""Between two faults, on average."""
ROUND_S, SHORTEST_S = 900.0, 30.0
"""A longer run is made of rounds, each from nothing and judged by itself: what it leaves behind must fit into memory."""
SUMS: tuple[str, ...] = (
    *(
        "accepts",
        "accepts_won",
        "jobs",
        "ops",
        "unknown_ops",
        "told",
        "faults",
        "faults_that_met_nobody",
        "calls_met",
        "violations",
    ),
    *(
        "acked_accepts_lost",
        "never_resumed",
        "never_served",
        "resumes",
        "unknown_commits",
        "unknown_commits_unsettled",
        "lies",
        "load_s",
        "seconds",
    ),
)
COUNTS = (
    "faults_by_kind",
    "by_invariant",
    "looked",
    "answers",
    "closes",
    "http_statuses",
    "ended_by_themselves",
    "worker_deaths",
    "excused_lines",
)
SPREADS = ("resume_ms", "accept_ms", "accept_ms_redis_dead", "postgres_to_first_accept_s", "unknown_commits_settled_s")
SIZE, SHORT_SIZE = (500, 100, 16.0), (200, 60, 8.0)
"""Providers, customers, jobs per second."""
LAUNCH = (sys.executable, "-m", "dispatch")


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
    found.add_argument("--providers", type=at_least_one, default=None, help="(default: 500; short: 200)")
    found.add_argument("--customers", type=at_least_one, default=None, help="(default: 100; short: 60)")
    found.add_argument("--jobs-per-s", type=seconds, default=None, help="new jobs (default: 16; short: 8)")
    return found


def wanted_of(
    shown: argparse.Namespace, seed: int, for_s: float, launch: Sequence[str] = LAUNCH, prepare: Prepare = nothing
) -> Wanted:
    """What these options ask for. Raises EmbeddedError."""
    kinds = [kind.name for kind in KINDS if shown.only is None or kind.name in shown.only]
    standing = [name for name in STANDING if shown.only is None or name in shown.only]
    plan = short(seed, kinds) if shown.short else drawn(seed, for_s, kinds, every_s=EVERY_S)
    lasting_s = length_of(plan) if shown.short else for_s
    size = SHORT_SIZE if shown.short else SIZE
    habits = Habits(jobs_per_s=shown.jobs_per_s or size[2])
    build = redis_build(shown.redis)
    return Wanted(
        seed=seed,
        seconds=lasting_s,
        plan=plan,
        standing=standing,
        habits=habits,
        build=build,
        providers=shown.providers or size[0],
        customers=shown.customers or size[1],
        workers=shown.workers,
        rest_s=5.0 if shown.short else 10.0,
        launch=launch,
        prepare=prepare,
    )


async def scenario(
    shown: argparse.Namespace, launch: Sequence[str] = LAUNCH, prepare: Prepare = nothing
) -> tuple[dict[str, Any], int]:
    """One command's work. `launch` starts the server's commands, `prepare` gets the database's address after its migration: so can
    tests run another server than the shipped one. Raises StageError, EmbeddedError.
    """
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    rounds: list[dict[str, Any]] = []
    left_s = 0.0 if shown.short else shown.seconds
    with run_folder(shown.keep) as folder:
        while True:
            seed = shown.seed + len(rounds)
            wanted = wanted_of(shown, seed, min(left_s, ROUND_S), launch, prepare)
            left_s -= wanted.seconds
            place = folder / f"seed-{seed}"
            place.mkdir()
            kinds = Counter(planned.kind for planned in wanted.plan)
            say(f"seed {seed}, {wanted.seconds:.0f} s, {len(wanted.plan)} faults planned on {wanted.build}")
            say("  " + ", ".join(f"{count}x {kind}" for kind, count in kinds.most_common()))
            say(f"history and logs: {place}")
            outcome = await run(wanted, place, say)
            rounds.append(outcome.figures | {"seed": seed})
            _show(wanted, outcome, place)
            if shown.keep is None and not code_of_run(outcome.figures):
                shutil.rmtree(place, ignore_errors=True)
            if left_s < SHORTEST_S:
                break
        if shown.keep is None and not any(folder.iterdir()):
            folder.rmdir()
    found = together(rounds) | {"seed": shown.seed, "redis": str(wanted.build)}
    given = argparse.Namespace(
        **{name: str(value) if isinstance(value, Path) else value for name, value in vars(shown).items()}
    )
    return complete(found, given, rounds[-1]["versions"]), code_of_run(found)


BREAKING = ("violations", "unexpected", "not_done", "never_resumed", "never_served", "unknown_commits_unsettled")


def code_of_run(found: dict[str, Any]) -> int:
    """1 when a promise was broken: also that somebody comes back, is served again, or is answered at all. A fault that could not be
    done is none that was survived: a store that did not come up again is among them.
    """
    return int(any(found[name] for name in BREAKING))


def together(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One round as it is; several by their sums, with what each came to beside them."""
    if len(rounds) == 1:
        return dict(rounds[0])
    found: dict[str, Any] = {"rounds": list(rounds)}
    for name in SUMS:
        found[name] = round(sum(one[name] for one in rounds), 1)
    for name in COUNTS:
        # Those that are 0 stay: somebody looked.
        keys = sorted({key for one in rounds for key in one[name]})
        found[name] = {key: sum(one[name].get(key, 0) for one in rounds) for key in keys}
    found["unexpected"] = [line for one in rounds for line in one["unexpected"]]
    found["not_done"] = [line for one in rounds for line in one["not_done"]]
    found["skipped"] = {kind: why for one in rounds for kind, why in one["skipped"].items()}
    # Of each the worst round.
    for name in SPREADS:
        keys = rounds[0][name]
        found[name] = {
            key: max((one[name][key] for one in rounds if one[name][key] is not None), default=None) for key in keys
        }
    return found


def _show(wanted: Wanted, outcome: Outcome, folder: Path) -> None:
    found = outcome.figures
    rows = [
        (name.replace("_", " "), _text(value), "")
        for name, value in found.items()
        if name not in ("answers", "versions", "unexpected", "not_done")
    ]
    show(f"chaos, seed {wanted.seed}, on {wanted.build}", rows)
    for line in found["not_done"]:
        print(f"  a fault could not be done: {line[:300]}")
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
    again_in_a_namespace([sys.executable, "-m", "bench", "chaos", *args])
    return perform(scenario, shown)
