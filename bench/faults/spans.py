"""What follows from a history without judging it: who had which job when, and when somebody was in a state for sure, or may have been."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from bench.faults.history import NEVER, History, Op, Step

T = TypeVar("T")
K = TypeVar("K")

OPEN = ("pending", "offered")
ACTIVE = ("accepted", "arrived", "in_progress")


@dataclass(frozen=True, slots=True)
class Holding:
    """A provider has a job, from the row that says so to the row that ends it."""

    job: str
    round: int
    user: str
    since: int
    until: int


class Span(NamedTuple):
    """Somebody was in a state for sure between `since` and `until`. `asked`: it cannot have begun before."""

    asked: int
    since: int
    until: int


class Maybe(NamedTuple):
    """Somebody may have been in a state between these two, and by this reason not outside of them."""

    since: int
    until: int


def by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items in their order, by key."""
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def holdings(steps: Iterable[Step]) -> list[Holding]:
    """Who had which job when, out of the jobs' histories."""
    found = []
    for job, rows in by(steps, lambda row: row.job).items():
        rows.sort(key=lambda row: row.version)
        for index, row in enumerate(rows):
            if row.to == "accepted":
                end = next((later.at for later in rows[index + 1 :] if later.to not in ACTIVE), NEVER)
                found.append(Holding(job, row.round, row.actor, row.at, end))
    return found


def suspended(history: History) -> dict[str, list[Span]]:
    """When each provider was suspended for sure."""
    return _sure(history, "suspend", "reinstate", lambda op: op.target)


def blocked(history: History) -> dict[str, list[Span]]:
    """When each user was shut out for sure."""
    return _sure(history, "block", "unblock", lambda op: op.target)


def switched_off(history: History) -> dict[str, list[Span]]:
    """When each provider was switched off for sure, by his own wish."""
    return _sure(history, "offline", "online", lambda op: op.user)


def _sure(history: History, begins: str, ends: str, whose: Callable[[Op], str]) -> dict[str, list[Span]]:
    """From the answer that said so to the first attempt to take it back."""
    found: dict[str, list[Span]] = defaultdict(list)
    for user, moves in by((op for op in history.ops if op.kind in (begins, ends) and whose(op)), whose).items():
        moves.sort(key=lambda op: op.at)
        for index, op in enumerate(moves):
            if op.kind == begins and op.word == "ok":
                until = next((later.at for later in moves[index + 1 :] if later.kind == ends), NEVER)
                earlier = [before.done if before.final else NEVER for before in moves[:index] if before.kind == ends]
                # An attempt that was still under way may have come after it.
                if all(done <= op.at for done in earlier):
                    found[user].append(Span(op.at, op.done, until))
    return found


def perhaps_suspended(history: History) -> dict[str, list[Maybe]]:
    """When each provider may have been suspended."""
    return _perhaps(history, "suspend", "reinstate")


def perhaps_blocked(history: History) -> dict[str, list[Maybe]]:
    """When each user may have been shut out."""
    return _perhaps(history, "block", "unblock")


def _perhaps(history: History, begins: str, ends: str) -> dict[str, list[Maybe]]:
    """From the asking to the answer of one that was asked for afterwards and took it back."""
    back = by((op for op in history.ops if op.kind == ends), lambda op: op.target)
    found: dict[str, list[Maybe]] = defaultdict(list)
    for op in history.ops:
        if op.kind == begins and _may_count(op):
            found[op.target].append(Maybe(op.at, _ended(op.done, back.get(op.target, ()))))
    return found


def perhaps_off(history: History) -> dict[str, list[Maybe]]:
    """When each provider may have been switched off: before he first switched on; after he switched off, was suspended, or the
    server ended his shift because no device of his had a line; until he switched on again.
    """
    on = by((op for op in history.ops if op.kind == "online"), lambda op: op.user)
    found = {user: [Maybe(0, _ended(0, ops))] for user, ops in on.items()}
    for op in history.ops:
        who = op.user if op.kind == "offline" else op.target if op.kind == "suspend" else ""
        if who and _may_count(op):
            found.setdefault(who, []).append(Maybe(op.at, _ended(op.done, on.get(who, ()))))
    slack = history.clock_error
    for user, ends in history.final.shifts_ended.items():
        found.setdefault(user, []).extend(Maybe(at - slack, _ended(at + slack, on.get(user, ()))) for at in ends)
    return found


def meets(spans: Iterable[Maybe], op: Op, asked: int | None = None) -> bool:
    """Whether somebody may have been in that state at some moment between his asking and his answer."""
    since = op.at if asked is None else asked
    return any(span.since <= op.done and span.until >= since for span in spans)


def _may_count(op: Op) -> bool:
    return op.word == "ok" or not op.final


def _ended(after: int, ends: Iterable[Op]) -> int:
    """When what had begun by `after` was over for sure: one that was asked for later has been answered."""
    return min((op.done for op in ends if op.word == "ok" and op.at >= after), default=NEVER)
