"""What the workers' logs say that no fault explains, and deaths of workers that we did not cause.

A fault must make loops and searches fail: they say so once each, with the exception, and come again. Such a line is excused by what
exactly it says, and by nothing else; all others count by their text, and a run with any is not clean.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.workers import Worker
from bench.logs import Line, wrong_lines

AWAY = {
    # Postgres was killed, stopped or restarted, its backends were terminated, or its link was cut in the middle of a call (F7, F10).
    "ConnectionDoesNotExistError": r"connection was closed in the middle of operation(: terminating connection due to .*)?",
    "CannotConnectNowError": r"the database system is (starting up|not yet accepting connections|shutting down|in recovery mode)",
    "AdminShutdownError": r"terminating connection due to (administrator command|unexpected postmaster exit)",
    "CrashShutdownError": r"terminating connection (due to immediate shutdown command|because of crash of another server process)",
    "InterfaceError": r"(cannot call Transaction\.\w+\(\): the underlying connection is closed|cannot perform operation: connection is closed"
    r"|connection is closed|.*the underlying connection has been released back to the pool)",
    # asyncpg, whose line broke between two messages.
    "InternalClientError": r"cannot switch to state \d+; another operation \(\d+\) is in progress|got result for unknown protocol state \d+",
    "ConnectionResetError": r".*",
    "ConnectionRefusedError": r".*",
    "BrokenPipeError": r".*",
    # A stopped store, a slow or a silent link (F2, F3, F7, F10), or two processes that take all the CPU (F20).
    "TimeoutError": r"|Timeout (reading from|connecting to) .*",
    "QueryCanceledError": r"canceling statement due to statement timeout",
    # A foreign session holds rows (F9).
    "LockNotAvailableError": r"canceling statement due to lock timeout",
    # No space left (F11).
    "DiskFullError": r"could not .*: No space left on device",
    "ResponseError": r"(Command .* of pipeline caused error: \(')?MISCONF Errors writing to the AOF file: No space left on device(',\))?"
    # Its functions were flushed, or it is another one (F4, F5); whoever calls next loads them.
    r"|Command .* of pipeline caused error: \('Function not found',\)",
    # Redis was killed or stopped, or its link was cut (F3, F10).
    "ConnectionError": r"Error \d+ connecting to .*|Error while reading from .*|Connection closed by server\.|the line to Redis (is closed: .*|was closed by another|is read by another: .*)"
    r"|Error .* while writing to socket.*|unexpected connection_lost\(\) call",
    # Sixty-four are waiting for a Redis that does not answer.
    "MaxConnectionsError": r"Too many connections",
    "BusyLoadingError": r"(Redis|Valkey) is loading the dataset in memory",
}
"""Exceptions that say that a store is away, held up or full, and what they say then."""

EVENTS = {
    "loop failed": "every loop of a worker needs a store, and comes again",
    "search failed": "a search needs Postgres; its lease ends and another worker takes it",
    "Failed to restore the pool connection floor; retrying": "asyncpg's pool, which goes on trying",
    r"Exception while processing entrypoint/job-id: notify\.\w+/\d+": "a notice needs Postgres; the rescuer sends what was not sent",
    r"Flush failed, requeuing \d+ items": "the queue's own book, which it writes again",
}
"""What may end in one of those, and why nothing is lost by it."""

_AT_START = "|".join(f"(?:{said})" for said in AWAY.values() if said != r".*")
PLAIN = {
    r"ready: http://127\.0\.0\.1:\d+ \(1 worker\)": "the command's own word to people",
    # A command that is started while Postgres is away says so and ends, and its service manager starts it again.
    rf"dispatch: The database at \S+ cannot be migrated: ({_AT_START})(; DETAIL: .*)?\.": "started without a Postgres",
    r"dispatch: Postgres cannot be reached at DATABASE_URL=\S+ \(.*\)\. Start it or correct the address; .*": "started without a Postgres",
}
"""Whole lines that are no JSON."""
NO_POSTGRES = "started without a Postgres"
NOT_READY = "a worker that starts needs Postgres; its supervisor starts the next"
DIED, GAVE_UP = "worker died", "giving up"
GIVING_UP = r"dispatch: Worker 0 died \d+ times in a row, .*"
KILLED, FAILED = -9, 1
"""Exit codes: by SIGKILL, and by an exception."""


def excused(line: Line) -> str:
    """Why this line may be there; "": nothing explains it."""
    said = AWAY.get(line.error)
    if not line.entry and line.error:
        started = (
            line.text.startswith("Process dispatch-worker-") and said is not None and re.fullmatch(said, line.said)
        )
        return NOT_READY if started else ""
    if not line.entry:
        return next((why for pattern, why in PLAIN.items() if re.fullmatch(pattern, line.text)), "")
    if said is not None and re.fullmatch(said, line.said):
        return next((why for event, why in EVENTS.items() if re.fullmatch(event, line.event)), "")
    return ""


@dataclass(slots=True)
class Read:
    """What the logs came to."""

    unexpected: list[str] = field(default_factory=list)
    """Each text once, with how often it is there."""
    excused: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)


def judged(workers: Sequence[Worker], ended: Sequence[str]) -> Read:
    """All logs of the workers. `ended`: commands that were found dead, such as «worker 1», once for each time."""
    found = Read()
    wrong: Counter[str] = Counter()
    for worker in workers:
        _one(worker, worker.log, ended.count(f"worker {worker.number}"), found, wrong)
    found.unexpected += [f"a worker's log, {count}x: {text}" for text, count in wrong.most_common()]
    return found


def _one(worker: Worker, log: Path, ends: int, found: Read, wrong: Counter[str]) -> None:
    killed, torn, without, unready = worker.killed, worker.killed + worker.killed_whole, 0, 0
    gave_up = 0
    for line in wrong_lines(log.read_text(errors="replace") if log.exists() else ""):
        if line.event == DIED:
            code = line.entry.get("exit_code")
            found.deaths[f"exit code {code}"] += 1
            if code == KILLED and killed > 0:
                killed -= 1
            elif code == FAILED and line.entry.get("was_ready") is False and unready > 0:
                unready -= 1
            else:
                wrong[f"worker {worker.number} died by itself with exit code {code}"] += 1
        elif not line.entry and line.text.startswith('{"') and torn > 0:
            torn -= 1  # it was killed in the middle of the line
        elif line.event == GAVE_UP or (not line.entry and re.fullmatch(GIVING_UP, line.text)):
            # Each of the deaths is judged by itself; the command is started anew, as by a service manager.
            found.excused["so many deaths in a row that the supervisor gives up"] += 1
            gave_up += not line.entry
        elif why := excused(line):
            found.excused[why] += 1
            without += why == NO_POSTGRES
            unready += why == NOT_READY
        else:
            wrong[line.text] += 1
    if ends > without + gave_up:
        wrong[f"the command of worker {worker.number} ended {ends} times, and says {without + gave_up} times why"] += 1
