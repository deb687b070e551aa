"""What is promised, what attacks it, who judges it, and which mistake proves that the judge sees: the data of docs/reliability.md."""

from dataclasses import dataclass
from typing import Literal

Where = Literal["simulation", "chaos", "storms", "hostile", "tests"]


@dataclass(frozen=True, slots=True)
class Promise:
    """One invariant."""

    name: str
    words: str
    faults: tuple[str, ...]
    """Those of FAULTS that attack it most."""
    checker: str
    """Its function in bench/faults/checkers.py, or a test where no history can show it."""
    mutants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake that is made on purpose."""

    name: str
    words: str
    attack: Literal["simulation", "race", "crash"]
    """A seeded simulation; one certain order of events on a real Postgres; a real Postgres killed under load."""
    named: str
    """The invariant that is found broken."""


@dataclass(frozen=True, slots=True)
class Danger:
    """A fault of the plan."""

    name: str
    words: str
    where: tuple[Where, ...]
    simulated: tuple[str, ...] = ()
    real: tuple[str, ...] = ()
    """What it is called in the `faults_by_kind` of a simulated run and of one on real processes."""


PROMISES = (
    Promise(
        "I1",
        "One winner: of a job's round at most one provider is ever told that it is his; a later one only after a committed release.",
        ("F1", "F2", "F3", "F4", "F5", "F6", "F8", "F20"),
        "single_winner",
        ("ack before commit",),
    ),
    Promise(
        "I1b",
        "No false loss: who is told «taken» is told so after it was taken. «Busy» is no loss.",
        ("F3", "F6", "F8", "F10"),
        "no_false_loss",
        ("SET NX claim with retries", "taken from a pending claim"),
    ),
    Promise(
        "I1c",
        "No false refusal: who is told that he is busy, switched off, suspended or shut out, or that there is no such job or offer for him, may have been so while he asked.",
        ("F3", "F6", "F8", "F9", "F10"),
        "no_false_refusal",
        (),
    ),
    Promise(
        "I2",
        "At every commit a provider has one active job at most, and a job one provider.",
        ("F2", "F5", "F6", "F7"),
        "one_job_each",
        ("no unique index",),
    ),
    Promise(
        "I3",
        "What was answered with yes is there, whatever dies afterwards.",
        ("F1", "F7", "F8", "F11"),
        "durable",
        ("ack before commit", "synchronous_commit off"),
    ),
    Promise(
        "I4",
        "Nobody has a job without an offer of that round, and offers go to people who are free and may work.",
        ("F2", "F5", "F6", "F18"),
        "eligible",
        ("no round check",),
    ),
    Promise(
        "I5",
        "Money: every transaction sums to nothing, balances are their entries, nobody is below his floor, every completed job is paid once.",
        ("F1", "F7", "F8", "F11"),
        "books",
        (),
    ),
    Promise(
        "I6",
        "Each device applies its user's events without a gap, in order and as they were committed, or starts anew from a snapshot.",
        ("F1", "F3", "F4", "F5", "F10", "F14", "F15"),
        "inbox_prefix",
        (
            "event published before commit",
            "outbox skipped",
            "copy out of order",
            "seq allocated outside the transaction",
        ),
    ),
    Promise(
        "I7",
        "A suspended provider has no job and takes none, hears of no new offer a second later, and is told within 5 s. Who is shut out hears nothing and gets nothing done 5 s later.",
        ("F3", "F9", "F10"),
        "revoked",
        ("EXISTS instead of lock, then read",),
    ),
    Promise(
        "I8",
        "What waits for a socket is bounded, and a worker's loop does not stall.",
        ("F13", "F14", "F16", "F17"),
        "`python -m bench storms`, `python -m bench hostile`",
        (),
    ),
    Promise(
        "I9",
        "When a fault is over, every job goes on by itself within 10 s.",
        ("F1", "F3", "F7"),
        "unstuck",
        (),
    ),
    Promise(
        "I10",
        "The same key is answered alike as often as it is sent; its effect is there once.",
        ("F8", "F10", "F19"),
        "once_only",
        (),
    ),
    Promise(
        "I11",
        "No clock but Postgres' decides.",
        ("F12",),
        "all of the above, with the workers' and Redis' clocks wrong",
        (),
    ),
    Promise(
        "I12",
        "Whoever is told of a job or an offer has to do with it.",
        ("F16", "F18", "F19"),
        "isolated",
        ("socket lookup by index",),
    ),
    Promise(
        "I13",
        "No line carries another user's event.",
        ("F14", "F19"),
        "own_frames",
        ("socket lookup by index",),
    ),
    Promise(
        "linearizable",
        "Some order of all calls on a job, respecting real time, explains every answer.",
        ("F2", "F6", "F8", "F10"),
        "orderly",
        ("taken from a pending claim",),
    ),
)

MUTANTS = (
    Mutant("ack before commit", "the claim's holder is told yes, the judge is asked afterwards", "simulation", "I3"),
    Mutant("no round check", "an offer is an offer, whichever round it was of", "race", "I4"),
    Mutant("no unique index", "he had no other job a moment ago", "race", "I2"),
    Mutant("SET NX claim with retries", "the claim knows no owner, and its no is told", "simulation", "I1b"),
    Mutant("EXISTS instead of lock, then read", "conditions are read and hoped for", "race", "I7"),
    Mutant("taken from a pending claim", "who is being decided on is told as the winner", "simulation", "I1b"),
    Mutant("event published before commit", "events go out when they are numbered", "simulation", "I6"),
    Mutant("outbox skipped", "what no hint brings never comes", "simulation", "I6"),
    Mutant("copy out of order", "the copy in Redis takes frames as they come", "simulation", "I6"),
    Mutant("synchronous_commit off", "Postgres says yes before it is on disk", "crash", "I3"),
    Mutant("seq allocated outside the transaction", "a rollback leaves its number behind", "simulation", "I6"),
    Mutant("socket lookup by index", "a seat is found by its place in a list that moves up", "simulation", "I13"),
)

FAULTS = (
    Danger(
        "F1",
        "SIGKILL of a worker",
        ("simulation", "chaos"),
        ("worker_crash", "crash_at_commit", "worker_restart"),
        ("worker-kill",),
    ),
    Danger(
        "F2",
        "SIGSTOP of a worker, 1-30 s",
        ("simulation", "chaos"),
        ("worker_freeze", "freeze_at_commit"),
        ("worker-stop",),
    ),
    Danger(
        "F3",
        "SIGKILL and SIGSTOP of Redis",
        ("simulation", "chaos"),
        ("redis_down", "redis_hang"),
        ("redis-kill", "redis-stop"),
    ),
    Danger(
        "F4",
        "FLUSHALL; functions flushed; a stale data set restored",
        ("simulation", "chaos"),
        ("redis_flushed", "functions_lost", "redis_stale"),
        ("flushall", "function-flush", "redis-stale"),
    ),
    Danger(
        "F5",
        "failover to an empty or a lagging replica; two masters at once",
        ("simulation", "chaos"),
        ("redis_failover",),
        ("redis-empty", "redis-split"),
    ),
    Danger(
        "F6", "a lying Redis; claims switched off", ("simulation", "chaos", "tests"), ("redis_lies",), ("redis-lies",)
    ),
    Danger(
        "F7",
        "SIGKILL of Postgres, immediate restart, backends terminated",
        ("simulation", "chaos"),
        ("postgres_down", "postgres_terminated"),
        ("postgres-kill", "postgres-immediate", "postgres-stop", "backends"),
    ),
    Danger(
        "F8",
        "the reply of a commit lost",
        ("simulation", "chaos", "tests"),
        ("postgres_reply_lost", "redis_reply_lost"),
        ("dropped-commit", "dropped-claim"),
    ),
    Danger(
        "F9",
        "a job or gate row held for 10 s",
        ("simulation", "chaos", "tests"),
        ("row_held", "postgres_stall"),
        ("row-lock",),
    ),
    Danger(
        "F10",
        "lines reset, half open, delayed, throttled",
        ("simulation", "chaos"),
        (
            "postgres_slow",
            "postgres_line_lost",
            "postgres_half_open",
            "redis_slow",
            "redis_line_lost",
            "phone_cut",
            "phone_slow",
            "phone_half_open",
            "phone_stalled",
            "pubsub_lost",
            "pubsub_disorder",
            "pubsub_deaf",
        ),
        ("link-reset", "link-half-open", "link-blackhole", "link-delay", "link-throttle"),
    ),
    Danger("F11", "disk full under Postgres and Redis", ("chaos",), (), ("disk-full",)),
    Danger(
        "F12",
        "clocks an hour off, or jumping",
        ("simulation", "chaos"),
        ("worker_clock", "redis_clock"),
        ("clock-worker", "clock-redis", "clock-postgres"),
    ),
    Danger("F13", "a tenth of all sockets stop reading", ("storms",)),
    Danger("F14", "all sockets return at once", ("simulation", "storms"), ("phone_storm",)),
    Danger("F15", "rolling restart under load", ("storms", "tests")),
    Danger("F16", "mutated frames", ("hostile",)),
    Danger("F17", "oversized frames, a million fragments, deflate bombs", ("hostile",)),
    Danger("F18", "replayed, expired and revoked tokens and tickets; others' offers; old rounds", ("tests",)),
    Danger("F19", "clients that go away in the middle of a call", ("chaos", "tests"), (), ("client-abort",)),
    Danger(
        "F20",
        "an event loop that stands for 5 s; a busy machine",
        ("chaos",),
        (),
        ("worker-block", "cpu-hog"),
    ),
    Danger("F21", "old and new workers together: unknown event types", ("tests",)),
)

LIMITS = (
    "Postgres is one primary: it is the floor of availability, and a failover to an asynchronous standby can lose what was answered. Promote only a synchronous one.",
    "The simulator runs the shipped protocol core against models of Postgres and Redis, not against them; a suite holds the models to the real ones, statement by statement and one at a time: how statements run into each other is modelled, and attacked on the real ones by tests/races and chaos. Money, papers, notifications and positions are outside of it. Users are shut out in it alone, not on real processes.",
    "A kill of a process is not a power cut: what the disk promises is the disk's.",
    "Everything ran on one machine with two cores, load generator included. Latencies are upper bounds, and network partitions are those of a proxy.",
    "Postgres' clock is shifted by 0.4 s only: an hour would blind the checkers, which compare it with the clients'. Redis' clock is shifted in the simulator, and on real processes only where the build starts under libfaketime.",
    "That a suspended provider is told within 5 s is judged only on lines that lived as long and while his worker could hear and say something: about one device in four in the simulator. What he can no longer do is judged always.",
    "Refusals for papers, debts or places are judged by tests of their own; on real processes no history explains them. How often each checker had something to judge stands in a run's result (`looked`).",
    "RFC 6455 asks a server to refuse unmasked frames; the HTTP library lets them pass, and so do we. A proxy in front may be stricter.",
    "The attackers' bystander is served, and slowly: 600 hostile sockets share two cores, and each worker's connections to Postgres, with him. What he asks on the socket there is answered from memory; what he asks over HTTP waits for such a connection, is refused with OVERLOADED after 2 s without one, and is asked again a second or more later.",
    "No advisory database has been asked about the pinned versions: `make audit` needs one outside, and none was within reach where this was made. tests/security/test_advisories.py holds a list of known holes that was made by hand.",
    "{seeds} seeds of the simulator are few beside what the databases with simulators of their own have run.",
)
"""{seeds}: of the kept runs."""
