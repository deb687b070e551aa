"""One job as an object that clients call: what each answer says of it, for the search of an order that explains them all."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from bench.faults.history import NEVER, History, Op
from bench.faults.linearizable import Call
from bench.faults.spans import OPEN, meets, perhaps_blocked

COMMIT_NS = 6_000_000_000
"""A row of history is stamped inside the transaction that commits it; a statement and the locks it waits for end within this."""

_STAGES = ("accepted", "arrived", "in_progress", "completed")


class State(NamedTuple):
    """A job as its clients can tell it apart."""

    status: str = "pending"
    round: int = 0
    holder: str = ""


class Did(NamedTuple):
    """An operation and what its caller was told."""

    kind: str
    user: str = ""
    round: int = 0
    to: str = ""
    word: str = "ok"
    customer: bool = False
    """Of a cancel: by the job's customer."""
    says: str = ""
    """Of a refusal: the status that the job was said to have; "": none."""


def step(state: State, did: Did, known: bool) -> State | None:
    """The job after `did`, or None when that cannot be."""
    match did.kind:
        case "offer":  # the server opens a round: after a search, or by taking the job back
            opens = state.status in OPEN or state.status in ("accepted", "arrived")
            return State("offered", did.round) if opens and did.round > state.round else None
        case "accept" if not known or did.word == "ok":
            if state.holder == did.user and state.status != "cancelled":
                return state if did.round in (0, state.round) else None  # asked again
            fits = state.status == "offered" and did.round in (0, state.round)
            return State("accepted", state.round, did.user) if fits else None
        case "accept":
            return state if _may_refuse(state, did) else None
        case "cancel" | "advance" if known and did.word != "ok":
            return state if _may_refuse_change(state, did) else None
        case "cancel":
            return None if state.status in ("completed", "cancelled") else state._replace(status="cancelled")
        case "advance":
            return state._replace(status=did.to) if _may_advance(state, did) else None
        case "read":
            same = state.status == did.to and (did.to == "cancelled" or state.holder == did.user)
            return state if same else None
    raise ValueError(f"no such operation: {did.kind}")


def _may_advance(state: State, did: Did) -> bool:
    may = state.holder == did.user and state.status in _STAGES[:3]
    return may and _STAGES.index(did.to) == _STAGES.index(state.status) + 1


def _may_refuse_change(state: State, did: Did) -> bool:
    """To its customer and to who has it or had it last a job exists, and is where it is; to everybody else it does not."""
    concerned = did.customer or state.holder == did.user
    match did.word:
        case "INVALID_STATUS_TRANSITION":
            good = _may_advance(state, did) if did.kind == "advance" else state.status not in ("completed", "cancelled")
            return concerned and not good and did.says in ("", state.status)
        case "JOB_NOT_FOUND" | "FORBIDDEN":
            return not concerned
    return True  # of the request, and nothing about this job


def _may_refuse(state: State, did: Did) -> bool:
    match did.word:
        case "accepted":
            # His own in another round than he names is somebody else's to that request.
            own = state.holder == did.user and did.round in (0, state.round)
            return state.status in _STAGES and not own
        case "cancelled":
            return state.status == "cancelled"
    return True  # expired, busy with another job, suspended, no offer: nothing about this job


def calls_of(history: History) -> dict[str, list[Call[Did]]]:
    """The calls on each job: what clients asked, the rounds that the server opened, and the read at the end."""
    found: dict[str, list[Call[Did]]] = defaultdict(list)
    slack = history.clock_error
    shut_out = perhaps_blocked(history)
    customers = {job.id: job.customer for job in history.final.jobs}
    given_back = {(row.job, row.actor) for row in history.final.steps if row.to == "offered" and row.role == "provider"}
    for op in _once_each(history.ops):
        if op.word == "FORBIDDEN" and meets(shut_out.get(op.user, ()), op):
            # Of one who is shut out it says nothing of the job, nor of what an earlier sending has done.
            op = msgspec.structs.replace(op, word="unknown", done=NEVER)
        # A provider's cancel that opened a round is told by that row.
        told = op.kind == "cancel" and (op.job, op.user) in given_back and (op.word == "ok" or not op.final)
        if op.job and not told:
            did = _did(op, customers.get(op.job, ""))
            if did is not None:
                found[op.job].append(Call(op.at, op.done if op.final else NEVER, did, op.final))
    for row in history.final.steps:
        if row.to == "offered":
            found[row.job].append(Call(row.at - slack, row.at + COMMIT_NS + slack, Did("offer", round=row.round)))
        elif row.to == "cancelled" and row.role not in ("customer", "provider"):
            found[row.job].append(Call(row.at - slack, row.at + COMMIT_NS + slack, Did("cancel")))
    for job in history.final.jobs:
        if job.status not in OPEN:
            read = Did("read", job.holder, to=job.status)
            found[job.id].append(Call(history.final.at + COMMIT_NS + slack, NEVER - 1, read))
    return found


def _once_each(ops: Iterable[Op]) -> Iterator[Op]:
    """The requests, each once however often it was sent: what was done under a key is told again to whoever sends it again, also
    long after the job has gone on. It happened between its first sending and the first answer that said so.
    """
    done: dict[tuple[str, str, str], Op] = {}
    for op in ops:
        if op.word == "ok":
            known = done.get((op.user, op.key, op.body))
            done[op.user, op.key, op.body] = op if known is None else replace(known, done=min(known.done, op.done))
    for op in ops:
        first = done.get((op.user, op.key, op.body))
        if first is None or (op.final and op.word != "ok"):
            yield op  # a no is decided anew each time
        elif op.at < first.at:
            done[op.user, op.key, op.body] = replace(first, at=op.at)
    yield from done.values()


def _did(op: Op, customer: str) -> Did | None:
    match op.kind:
        case "accept":
            return Did("accept", op.user, op.told_round or op.round, word=op.word)
        case "cancel":
            return Did("cancel", op.user, word=op.word, customer=op.user == customer, says=op.says)
        case "advance":
            return Did("advance", op.user, to=op.to, word=op.word, says=op.says)
    return None
