"""What a run leaves behind: everything that clients asked and were told, the faults, and what the judge's tables say at the end.

The simulator and the chaos run write the same records, so that the same checkers judge both. On disk a history is JSON lines,
one file per client beside `faults.jsonl` and `final.json`. Times are nanoseconds of one clock that all of them share: the
machine's wall clock on real processes, virtual time in the simulator.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

NEVER = 2**63 - 1
"""When an answer came that never came."""

SUSPENDING = frozenset({"suspend", "reinstate"})


class Op(msgspec.Struct, tag="op", omit_defaults=True, kw_only=True):
    """One request of a client, from its first sending to its final answer. Sent again with the same key, it stays one."""

    at: int
    """First sent."""
    done: int = NEVER
    """The final answer was read. NEVER with `word` «unknown»."""
    client: str
    """The device: one of `Told.client`."""
    user: str
    """Who acts: a user id."""
    kind: Literal[
        "accept",
        "decline",
        "cancel",
        "advance",
        "create",
        "online",
        "offline",
        "suspend",
        "reinstate",
        "block",
        "unblock",
        "withdraw",
    ]
    key: str
    """The request id, or Idempotency-Key: unique per user."""
    body: str = ""
    """What was asked besides the key: two requests of one key with different bodies are told apart by it."""
    offer: str = ""
    """Of an accept: the offer it names; "": none."""
    job: str = ""
    """The job that is asked for, or, in a create's answer, was made."""
    round: int = 0
    """Of an accept: the round it names; 0: none."""
    to: str = ""
    """Of an advance: the stage."""
    target: str = ""
    """Of a suspend, reinstate, block or unblock: whose, a user id."""
    word: str = "unknown"
    """ok; the status of a JOB_NOT_AVAILABLE (accepted: it is or was somebody else's, cancelled, expired); another error's code; unknown."""
    says: str = ""
    """Of a change of a job's status that was refused: the status that the job was said to have; "": none was recorded."""
    told_round: int = 0
    """Of an accept that was won: the round in the answer's job."""
    answer: str = ""
    """Of an `ok`: a digest of the answer's body, to compare what the same key was told at different times."""

    @property
    def final(self) -> bool:
        """Whether it decided something: what BUSY, 429, 5xx and silence say may still go either way."""
        return self.word not in UNDECIDED


UNDECIDED = frozenset({"unknown", "BUSY", "OVERLOADED", "RATE_LIMITED", "REQUEST_IN_PROGRESS", "INTERNAL_ERROR"})


class Told(msgspec.Struct, tag="told", omit_defaults=True, kw_only=True):
    """One frame that reached a device: a welcome, an event as it was applied, a snapshot, a position of a tracked job.

    Events that the device had already are left out. «gap»: an event that it could not apply, because one before it had not come
    on this line: `protocol.session.Gap`. Lines keep order, so that is the server's fault. «stray»: an answer to a request that this
    device never sent; `name` is its id.
    """

    at: int
    client: str
    user: str
    socket: str
    """The session of the last welcome: one line."""
    kind: Literal["welcome", "event", "snapshot", "position", "gap", "stray"]
    seq: int = 0
    """Of a welcome: the newest; of an event: its own; of a snapshot: what it covers."""
    name: str = ""
    job: str = ""
    """The job that it speaks of."""
    offer: str = ""
    """The offer that it speaks of."""
    digest: str = ""
    """Of an event: `digest` of its name and data; of a snapshot: of what it shows (`Standing.digest`)."""
    jobs: list[str] = []
    """Of a snapshot: the jobs and the offers' jobs in it."""
    resumed: bool = False
    """Of a welcome."""


class Fault(msgspec.Struct, tag="fault", omit_defaults=True, kw_only=True):
    """Something the nemesis did. It counts by its effect: `met` calls were in flight on what it hit, were refused or lost their reply."""

    at: int
    until: int = 0
    """Healed; 0: it has no length."""
    kind: str
    target: str = ""
    met: int = 0
    skipped: str = ""
    """Why it could not be done here; it counts for nothing then."""


class Step(msgspec.Struct, kw_only=True):
    """One row of a job's history (`job_events`), by job and version."""

    job: str
    version: int
    was: str
    """"": it began."""
    to: str
    round: int
    actor: str = ""
    role: str = ""
    at: int


class Job(msgspec.Struct, kw_only=True):
    """A row of `jobs` at the end."""

    id: str
    status: str
    round: int
    version: int
    customer: str
    holder: str = ""
    """User id of the provider who has it or had it last."""
    key: str = ""


class Offer(msgspec.Struct, kw_only=True):
    """A row of `offers` at the end."""

    id: str
    job: str
    round: int
    user: str
    status: str
    at: int
    expires: int
    responded: int = 0


class Entry(msgspec.Struct, kw_only=True):
    """One entry in the books."""

    transaction: str
    kind: str
    """Of the transaction: earning, cash_fee, tip, ..."""
    account: str
    currency: str
    amount: int
    job: str = ""
    """Whose ID stands in the transaction's `ref` (job:ID)."""


class Balance(msgspec.Struct, kw_only=True):
    """An account at the end."""

    account: str
    currency: str
    amount: int
    floor: int | None
    """The least that it may hold; None: no bound."""


class Kept(msgspec.Struct, kw_only=True):
    """A row of `idem` at the end: what was answered under a key."""

    user: str
    key: str
    at: int
    answer: str
    """Its digest: what `Op.answer` is of the same answer."""
    withdrawal: str = ""
    """The withdrawal that it speaks of."""


class Withdrawal(msgspec.Struct, kw_only=True):
    """A row of `withdrawals` at the end."""

    id: str
    user: str
    amount: int
    currency: str
    asked: str
    """Digest of the request that asks for just this: what `Op.body` is of it."""


class Final(msgspec.Struct, kw_only=True):
    """What the judge holds after everything has healed and come to rest."""

    at: int
    jobs: list[Job] = []
    steps: list[Step] = []
    offers: list[Offer] = []
    events: dict[str, list[tuple[int, str]]] = {}
    """user → (seq, digest) in order."""
    standings: dict[str, list[str]] = {}
    """user → what his first event, his first two, ... amount to (`Standing.digest`)."""
    heads: dict[str, int] = {}
    """user → the newest seq that was given out (`inbox_head`)."""
    provider_users: list[str] = []
    shifts_ended: dict[str, list[int]] = {}
    """provider's user → when the server switched him off by itself, because no device of his had a line."""
    entries: list[Entry] = []
    balances: list[Balance] = []
    paid: bool = False
    """Completed jobs are paid here. Where they are not, nothing is known of I5 but what stands in the books."""
    books: list[str] = []
    """What `dispatch ledger reconcile` found wrong, line by line."""
    stuck: list[str] = []
    """Jobs that have no next action or are long past it: an id each, and why."""
    kept: list[Kept] = []
    withdrawals: list[Withdrawal] = []
    providers: dict[str, str] = {}
    """user → his status as a provider."""
    applied: dict[str, int] = {}
    """device → the newest seq that it had applied at the end; only devices that were connected then."""


class History(msgspec.Struct, kw_only=True):
    """All of a run."""

    ops: list[Op] = []
    told: list[Told] = []
    faults: list[Fault] = []
    final: Final
    clock_error: int = 0
    """How far the judge's clock may be from the clients', ns: nothing on one machine, more where a fault shifts Postgres' clock."""
    silences: list[tuple[int, int, str]] = []
    """(from, until, where) while a worker, a device, or with "" everybody could hear or say nothing by any way: no word can be in time
    then. Which worker a line is on stands in the `name` of its welcome.
    """

    @property
    def accepts(self) -> int:
        """Attempts to take a job."""
        return sum(op.kind == "accept" for op in self.ops)

    @property
    def struck(self) -> int:
        """Faults that met somebody."""
        return sum(fault.met > 0 for fault in self.faults)


def digest(name: str, data: Any) -> str:
    """What an event says, in 16 hex digits: the same for the frame that a phone read and for the row that it was made of."""
    text = msgspec.json.encode([name, data], order="sorted")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


_RECORD = msgspec.json.Decoder(Op | Told | Fault)


def write_lines(path: Path, records: Iterable[Op | Told | Fault]) -> None:
    """One JSON object a line."""
    with path.open("wb") as file:
        for record in records:
            file.write(msgspec.json.encode(record) + b"\n")


def read(folder: Path) -> History:
    """A history out of its folder: `*.jsonl` and `final.json`. A line torn by a killed client is left out, if it is the last."""
    ops: list[Op] = []
    told: list[Told] = []
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in _whole(path.read_bytes()):
            match _RECORD.decode(line):
                case Op() as op:
                    ops.append(op)
                case Told() as one:
                    told.append(one)
                case Fault() as fault:
                    faults.append(fault)
    final = msgspec.json.decode((folder / "final.json").read_bytes(), type=Final)
    return History(ops=ops, told=told, faults=faults, final=final)


def _whole(data: bytes) -> Sequence[bytes]:
    return data.split(b"\n")[:-1]
