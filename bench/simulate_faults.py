"""`python -m bench simulate-faults`: seeds of the simulated protocol core, each run and judged. 1 when one breaks a promise."""

import argparse
import hashlib
import json
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.checkers import by_invariant
from bench.figures import complete
from bench.simulation import Outcome, run_seed
from bench.simulation.telling import report

_SHOWN = 5
"""So many failing seeds are told in full."""


@dataclass(slots=True)
class Score:
    """What many seeds came to."""

    first: int
    seeds: int = 0
    accepts: int = 0
    violations: int = 0
    virtual_s: float = 0.0
    by_invariant: Counter[str] = field(default_factory=Counter)
    looked: Counter[str] = field(default_factory=Counter)
    faults_by_kind: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    trace: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, one: "Summary") -> None:
        """In the order of the seeds: the hash of all depends on it."""
        self.seeds += 1
        self.accepts += one.accepts
        self.violations += one.violations
        self.virtual_s += one.virtual_s
        self.by_invariant.update(one.by_invariant)
        self.looked.update(one.looked)
        self.faults_by_kind.update(one.faults_by_kind)
        self.trace.update(one.trace_hash.encode())
        if one.violations:
            self.failed.append(one.seed)

    def figures(self, seconds: float) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "first": self.first,
            "accepts": self.accepts,
            "faults": sum(self.faults_by_kind.values()),
            "violations": self.violations,
            "by_invariant": dict(sorted(self.by_invariant.items())),
            "looked": dict(sorted(self.looked.items())),
            "seconds": round(seconds, 3),
            "trace_hash": self.trace.hexdigest(),
            "faults_by_kind": dict(sorted(self.faults_by_kind.items())),
            "virtual_s": round(self.virtual_s),
            "failed": self.failed[:100],
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """One seed, small enough to cross from one process to another."""

    seed: int
    accepts: int
    violations: int
    virtual_s: float
    by_invariant: dict[str, int]
    looked: dict[str, int]
    faults_by_kind: dict[str, int]
    trace_hash: str
    told: list[str]


def summary_of(seed: int) -> Summary:
    """Run one seed. A failing one comes with its history in words."""
    outcome = run_seed(seed)
    counts = Counter(by_invariant(outcome.violations))
    counts.update(one.invariant for one in outcome.violations if one.invariant not in counts)
    return Summary(
        seed,
        outcome.history.accepts,
        len(outcome.violations),
        outcome.virtual_s,
        dict(counts),
        dict(outcome.looked),
        outcome.faults_by_kind,
        outcome.trace_hash,
        list(report(outcome, outcome.violations[:2])),
    )


def summaries(seeds: range, processes: int) -> Iterator[Summary]:
    """In the order of the seeds, from so many processes."""
    if processes == 1:
        yield from map(summary_of, seeds)
        return
    # An interrupt is ours to hear: theirs would be a traceback each.
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap(summary_of, seeds, chunksize=8)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m bench simulate-faults", description=__doc__)
    options.add_argument("--seeds", type=int, default=100, metavar="N", help="how many")
    options.add_argument("--first", type=int, default=1, metavar="N", help="the first of them")
    options.add_argument("--processes", type=int, default=1, metavar="N")
    options.add_argument("--json", type=Path, metavar="PATH", help="write the figures there")
    options.add_argument("--seed", type=int, metavar="S", help="this one alone, with its whole story")
    return options


def main(args: list[str]) -> int:
    """1 when a promise was broken."""
    shown = parser().parse_args(args)
    if shown.seed is not None:
        return _replay(shown.seed)
    if shown.seeds < 1 or shown.processes < 1:
        print("--seeds and --processes are at least 1", file=sys.stderr)
        return 2
    if shown.json is not None and not shown.json.parent.is_dir():
        print(f"--json {shown.json}: there is no folder {shown.json.parent}", file=sys.stderr)
        return 2
    try:
        return _seeds(shown)
    except KeyboardInterrupt:
        return 130


def _seeds(shown: argparse.Namespace) -> int:
    began = time.perf_counter()
    score = Score(shown.first)
    for one in summaries(range(shown.first, shown.first + shown.seeds), shown.processes):
        score.add(one)
        if one.told and len(score.failed) <= _SHOWN:
            _bar(None, 0, 0.0)
            print("\n".join(one.told), flush=True)
        _bar(score, shown.seeds, time.perf_counter() - began)
    _bar(None, 0, 0.0)
    figures = score.figures(time.perf_counter() - began)
    if shown.json is not None:
        given = argparse.Namespace(**vars(shown) | {"json": None})
        shown.json.write_text(json.dumps(complete(figures, given, {}), indent=2) + "\n", encoding="utf-8")
    _print(figures)
    return 1 if score.violations else 0


def _replay(seed: int) -> int:
    outcome = run_seed(seed, story=True)
    for at, where, who, what in outcome.story:
        print(f"{at:9.4f}  {where:9} {who:6} {what[:200]}")
    for line in report(outcome, outcome.violations):
        print(line)
    _print_outcome(outcome)
    return 1 if outcome.violations else 0


def _print_outcome(outcome: Outcome) -> None:
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.faults_by_kind.items())) or "none"
    print(
        f"seed {outcome.seed}: {outcome.history.accepts} accepts, {len(outcome.violations)} violations, {outcome.virtual_s:.1f} s"
    )
    print(f"faults that met somebody: {faults}\ntrace {outcome.trace_hash}")


def _bar(score: Score | None, seeds: int, seconds: float) -> None:
    """One line that is written over, on a terminal alone."""
    if not sys.stderr.isatty():
        return
    if score is None:
        sys.stderr.write("\r\033[K")
    elif score.seeds % 5 == 0 or score.seeds == seeds:
        done = 30 * score.seeds // seeds
        rate = score.seeds / max(seconds, 1e-9)
        line = f"[{'#' * done}{'.' * (30 - done)}] {score.seeds:,}/{seeds:,} seeds, {rate:.1f}/s, {score.accepts:,} accepts"
        sys.stderr.write(
            f"\r\033[K{line}, {sum(score.faults_by_kind.values()):,} faults, {score.violations} violations"
        )
    sys.stderr.flush()


def _print(figures: dict[str, Any]) -> None:
    print(
        f"{figures['seeds']:,} seeds from {figures['first']}: {figures['accepts']:,} accepts, {figures['faults']:,} faults that met somebody"
    )
    broken = {name: count for name, count in figures["by_invariant"].items() if count}
    print(f"violations: {figures['violations']}" + (f" {broken}, seeds {figures['failed']}" if broken else ""))
    never = [name for name, count in figures["looked"].items() if not count]
    print("judged nothing: " + (", ".join(never) or "none"))
    print("faults: " + ", ".join(f"{kind} {count:,}" for kind, count in figures["faults_by_kind"].items()))
    print(f"{figures['seconds']:.1f} s, {figures['virtual_s']:,} virtual; trace {figures['trace_hash']}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
