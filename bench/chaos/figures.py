"""What a run's record says in figures."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bench.chaos.nemesis import Marks
from bench.faults.checkers import Violation, by_invariant
from bench.faults.history import NEVER, History, Op
from bench.figures import spread

CLOCK_SHIFT = timedelta(hours=1)
JUDGE_SHIFT = timedelta(milliseconds=400)
"""By which the faults move the clocks of workers and Redis, and that of Postgres."""
MS = 1_000_000
SERVED_WITHIN_NS = 10_000_000_000
"""After Postgres is back somebody wins a job within this, if there are orders."""
TAIL_NS = 3_000_000_000
"""For so long after its end a fault is still felt."""


def clock_error(history: History) -> int:
    """How far Postgres' clock was from ours at most, ns."""
    shifted = any(fault.kind == "clock-postgres" and not fault.skipped for fault in history.faults)
    return int(JUDGE_SHIFT.total_seconds() * 1e9) if shifted else 0


SILENCING = (
    "link-half-open",
    "link-blackhole",
    "link-delay",
    "link-throttle",
    "link-reset",
    "worker-stop",
    "worker-block",
)
SILENCING_ALL = ("postgres-kill", "postgres-immediate", "postgres-stop", "clock-postgres", "disk-full", "cpu-hog")
"""Faults that cut one worker off, and those that cut off all: without Postgres nobody can learn what it has decided."""


def silences(history: History) -> list[tuple[int, int, str]]:
    """When which workers could hear or say nothing. Without Redis they can (I7): such a link's troubles give nobody more time."""
    found = [
        (fault.at, fault.until, fault.target.partition(",")[0])
        for fault in history.faults
        if fault.kind in SILENCING and ", redis" not in fault.target
    ]
    return found + [(fault.at, fault.until, "") for fault in history.faults if fault.kind in SILENCING_ALL]


def measured(history: History, marks: Marks, violations: Sequence[Violation]) -> dict[str, Any]:
    """The figures of one run."""
    accepts = [op for op in history.ops if op.kind == "accept"]
    met = Counter(fault.kind for fault in history.faults if fault.met > 0)
    dead = [(since, until) for since, until in marks.redis_dead if _alone(marks, since, until)]
    while_dead = [
        (op.done - op.at) / MS
        for op in accepts
        # Also those that outlasted it: they are the slow ones.
        if op.final and any(since <= op.at < until for since, until in dead)
    ]
    doubts = _doubts(history.ops, marks)
    calm_doubts = [took for took, since, until in doubts if _calm(marks, since, until)]
    back = [one for one in marks.resumes if one.done_at]
    alone = [one for one in back if _alone(marks, one.killed_at, one.done_at)]
    ordered = max((op.at for op in history.ops if op.kind == "create"), default=0)
    served = [value for up in marks.postgres_up if (value := _first_after(accepts, up)) is not None]
    words = Counter(f"{op.kind} {op.word}" for op in history.ops)
    return {
        "accepts": len(accepts),
        "accepts_won": sum(op.word == "ok" for op in accepts),
        "jobs": len(history.final.jobs),
        "jobs_by_status": dict(Counter(job.status for job in history.final.jobs)),
        "ops": len(history.ops),
        "unknown_ops": sum(op.done == NEVER for op in history.ops),
        "told": len(history.told),
        "faults": history.struck,
        "faults_by_kind": dict(sorted(met.items())),
        "faults_that_met_nobody": sum(fault.met == 0 and not fault.skipped for fault in history.faults),
        "calls_met": sum(fault.met for fault in history.faults),
        "violations": len(violations),
        "by_invariant": by_invariant(violations),
        "acked_accepts_lost": _lost(history),
        "resume_ms": spread([(one.done_at - one.killed_at) / MS for one in alone], "resume"),
        "resumes": len(alone),
        "resume_ms_with_other_faults": spread([(one.done_at - one.killed_at) / MS for one in back], "resume"),
        "resumes_with_other_faults": len(back),
        "never_resumed": sum(not one.done_at for one in marks.resumes),
        "accept_ms": spread([(op.done - op.at) / MS for op in accepts if op.final], "accept"),
        "accept_ms_redis_dead": spread(while_dead, "accept"),
        "accepts_redis_dead": len(while_dead),
        "postgres_to_first_accept_s": spread(served, "served"),
        "never_served": sum(
            _first_after(accepts, up) is None for up in marks.postgres_up if ordered - up > SERVED_WITHIN_NS
        ),
        "unknown_commits": len(doubts),
        "unknown_commits_settled_s": spread([took for took in calm_doubts if took is not None], "settled"),
        "unknown_commits_in_the_calm": len(calm_doubts),
        "unknown_commits_settled_s_with_other_faults": spread(
            [took for took, _, _ in doubts if took is not None], "settled"
        ),
        "unknown_commits_unsettled": sum(took is None for took, _, _ in doubts),
        "lies": marks.lies,
        "answers": dict(sorted(words.items())),
    }


def _alone(marks: Marks, since: int, until: int) -> bool:
    """Whether one fault was on between, and none had just ended."""
    return sum(at < until and end + TAIL_NS > since for at, end, _ in marks.outages) <= 1


def _calm(marks: Marks, since: int, until: int) -> bool:
    """Whether nothing was wrong but lost replies, and with Redis, which decides nothing."""
    return not any(at < until and end + TAIL_NS > since and "redis" not in kind for at, end, kind in marks.outages)


def _doubts(ops: Sequence[Op], marks: Marks) -> list[tuple[float | None, int, int]]:
    """Of each lost answer of a commit: seconds to the final answer of whoever waited for it (None: it never came), from, until."""
    by_key = {op.key: op for op in ops}
    found: list[tuple[float | None, int, int]] = []
    for key, at in marks.doubts:
        op = by_key.get(key)
        if op is not None:
            found.append(((op.done - at) / 1e9 if op.done != NEVER else None, at, op.done))
    return found


def _first_after(accepts: Sequence[Op], up: int) -> float | None:
    """Seconds until the first accept that was won after `up`."""
    found = min((op.done for op in accepts if op.word == "ok" and op.done > up), default=None)
    return None if found is None else (found - up) / 1e9


def _lost(history: History) -> int:
    """Accepts that were answered with yes and are in no history of their job."""
    kept = {(step.job, step.actor, step.round) for step in history.final.steps if step.to == "accepted"}
    return sum(
        op.kind == "accept" and op.word == "ok" and (op.job, op.user, op.told_round) not in kept for op in history.ops
    )
