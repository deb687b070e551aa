"""A failing seed in words: what happened to the jobs and people concerned, in the order of time."""

from collections.abc import Iterable, Iterator

from bench.faults.checkers import Violation
from bench.faults.history import NEVER, History
from bench.simulation.world import Outcome

_LINES_MAX = 400


def told(outcome: Outcome, violation: Violation) -> Iterator[str]:
    """The history of what a violation is about, one line a step. Seconds of virtual time first."""
    lines = sorted(_lines(outcome.history, set(violation.jobs), set(violation.users)))
    for at, line in lines[:_LINES_MAX]:
        yield f"  {at / 1e9:9.4f}  {line}"
    if len(lines) > _LINES_MAX:
        yield f"  … and {len(lines) - _LINES_MAX} more"


def _lines(history: History, jobs: set[str], users: set[str]) -> Iterator[tuple[int, str]]:
    named = _names(history)

    def who(user: str) -> str:
        return named.get(user, user)

    for op in history.ops:
        if op.job in jobs or (not jobs and (op.user in users or op.target in users)):
            asked = f"{op.client} asks {op.kind} {_short(op.job)} round {op.round or '-'} {op.to}{who(op.target)} (key {_short(op.key)})"
            yield op.at, asked
            if op.done != NEVER:
                won = f" round {op.told_round}" if op.told_round else ""
                yield (
                    op.done,
                    f"{op.client} is told {op.kind} {_short(op.job)}: {op.word}{won} (key {_short(op.key)}, {op.answer})",
                )
    for row in history.final.steps:
        if row.job in jobs:
            yield (
                row.at,
                f"  Postgres: {_short(row.job)} {row.was or 'new'} → {row.to}, round {row.round}, version {row.version}, by {who(row.actor) or row.role}",
            )
    for offer in history.final.offers:
        if offer.job in jobs:
            yield (
                offer.at,
                f"  Postgres: offer {_short(offer.id)} of {_short(offer.job)} round {offer.round} to {who(offer.user)}",
            )
            if offer.responded:
                yield offer.responded, f"  Postgres: offer {_short(offer.id)} to {who(offer.user)} is {offer.status}"
    for frame in history.told:
        about = frame.job in jobs or bool(jobs.intersection(frame.jobs))
        if about or (not jobs and frame.user in users):
            yield (
                frame.at,
                f"{frame.client} hears {frame.kind} {frame.seq} {frame.name} {_short(frame.job)} on {_short(frame.socket)}",
            )
    for fault in history.faults:
        yield fault.at, f"    fault {fault.kind} {fault.target} (met {fault.met})"
        if fault.until:
            yield fault.until, f"    fault {fault.kind} {fault.target} is over"


def _names(history: History) -> dict[str, str]:
    """User → the device he goes by."""
    return {frame.user: frame.client for frame in history.told} | {"": ""}


def _short(word: str) -> str:
    return word[-6:]


def report(outcome: Outcome, violations: Iterable[Violation]) -> Iterator[str]:
    """All of it: each violation, how to see it again, and its history."""
    for violation in violations:
        yield f"seed {outcome.seed} breaks {violation.invariant}: {violation.text}"
        yield f"  again: python -m bench simulate-faults --seed {outcome.seed}"
        yield from told(outcome, violation)
