"""What the tables say of requests that leave no trace in a job's history: withdrawals, declines, suspensions, and every answer that is
kept under its key. They break invariants of the same names as what `checkers` finds.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from bench.faults.checkers import Violation
from bench.faults.history import History, Op, digest


def said(answer: Any) -> str:
    """Digest of what is kept of an answer: of what concerns a job that job alone, whichever door told it."""
    return digest("answer", answer["job"] if isinstance(answer, dict) and "job" in answer else answer)


KEPT = frozenset({"accept", "decline", "cancel", "advance", "create", "online", "offline", "suspend", "reinstate", "withdraw"})  # fmt: skip
"""Kinds of requests whose answer is kept under their key."""


def answers_kept(history: History) -> Iterator[Violation]:
    """I10: whoever was told yes has his answer kept under his key, word for word; whoever was told no has none that was there before.

    One that is made after the no is excused: a sending of his was still on its way, and has found the door open.
    """
    kept = {(one.user, one.key): one for one in history.final.kept}
    asked: dict[tuple[str, str], list[Op]] = defaultdict(list)
    for op in history.ops:
        if op.kind in KEPT:
            asked[op.user, op.key].append(op)
    for (user, key), ops in asked.items():
        found = kept.get((user, key))
        good = [op for op in ops if op.word == "ok"]
        jobs = tuple({op.job for op in ops if op.job})
        if good and found is None:
            yield Violation("I10", f"{good[0].kind} of {user} was answered with yes, and nothing is kept under {key}", jobs, (user,))  # fmt: skip
        elif found is not None and good:
            for op in good:
                if op.answer and op.answer != found.answer:
                    text = f"{op.kind} of {user} was told another answer than is kept under {key}"
                    yield Violation("I10", text, jobs, (user,))
        elif found is not None and all(op.final for op in ops) and found.at < _refused(ops) - history.clock_error:
            text = f"{ops[0].kind} of {user} was refused ({ops[0].word}), and had been done under {key}"
            yield Violation("I10", text, jobs, (user,))


def _refused(ops: Sequence[Op]) -> int:
    """Until when it must not have been done: the first no, or the last time that he began to ask and was refused all the same."""
    return max(min(op.done for op in ops), *(op.at for op in ops))


def withdrawn_once(history: History) -> Iterator[Violation]:
    """I3 and I10: a withdrawal that was told is there, of what was asked; each is some key's, and no key has two."""
    rows = {row.id: row for row in history.final.withdrawals}
    kept = {(one.user, one.key): one for one in history.final.kept}
    asked = {(op.user, op.key): op for op in history.ops if op.kind == "withdraw"}
    for op in history.ops:
        if op.kind != "withdraw" or op.word != "ok":
            continue
        answer = kept.get((op.user, op.key))
        row = None if answer is None else rows.get(answer.withdrawal)
        if row is None or row.user != op.user:
            yield Violation("I3", f"a withdrawal of {op.user} was told under {op.key} and is not there", (), (op.user,))
        elif op.body != row.asked:
            text = f"withdrawal {row.id} of {op.user} is of {row.amount} {row.currency}, which is not what he asked for"
            yield Violation("I3", text, (), (op.user,))
    made = Counter(one.withdrawal for one in history.final.kept if one.withdrawal)
    whose = {one.withdrawal: one for one in history.final.kept}
    for row in rows.values():
        if made[row.id] != 1:
            yield Violation("I10", f"withdrawal {row.id} of {row.user} is the answer to {made[row.id]} keys", (), (row.user,))  # fmt: skip
        elif asked and (whose[row.id].user, whose[row.id].key) not in asked:
            yield Violation("I10", f"withdrawal {row.id} of {row.user} was made under a key that nobody sent", (), (row.user,))  # fmt: skip


def declined(history: History) -> Iterator[Violation]:
    """I3: an offer whose decline was answered with yes is declined, and stays so."""
    status = {offer.id: offer.status for offer in history.final.offers}
    for op in history.ops:
        if op.kind == "decline" and op.word == "ok" and status.get(op.offer) != "declined":
            text = f"{op.user} declined offer {op.offer}, which is {status.get(op.offer, 'not there')}"
            yield Violation("I3", text, (op.job,) if op.job else (), (op.user,))


def standing(history: History) -> Iterator[Violation]:
    """I3: a provider is at the end what the office made of him last, where one of its acts came after all others."""
    moves: dict[str, list[Op]] = defaultdict(list)
    for op in history.ops:
        if op.kind in ("suspend", "reinstate"):
            moves[op.target].append(op)
    for user, ops in moves.items():
        last = max(ops, key=lambda op: op.at)
        over = all(other.final and other.done <= last.at for other in ops if other is not last)
        status = history.final.providers.get(user)
        if last.word == "ok" and over and status is not None and (status == "suspended") != (last.kind == "suspend"):
            yield Violation("I3", f"the last word on provider {user} was {last.kind}, and he is {status}", (), (user,))


def judge_tables(history: History) -> list[Violation]:
    """All that is wrong by them."""
    return [one for check in (answers_kept, withdrawn_once, declined, standing) for one in check(history)]
