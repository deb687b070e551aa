"""What a server's log says that it must not: errors, tracebacks, lines that are none of its own."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

BAD_LEVELS: Final = ("error", "critical")
SAMPLES_MAX: Final = 10
_WARNINGS: Final = "py.warnings"
"""Python's own, such as of a coroutine that nobody awaits."""
_ENDS_IN = re.compile(r"^(?:\w+\.)*([A-Z]\w*)(?:: (.*))?$", re.MULTILINE)
_BESIDE = ("DETAIL", "HINT", "CONTEXT")
_DYING = ("Process dispatch-worker-", "Traceback (most recent call last)")
"""So begins what a process prints as it dies; it ends before the next line of the log, or of the command's own."""
_PLAIN = ("ready: ", "dispatch: ", "Process dispatch-worker-")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not as it should be."""

    text: str
    """What it was and what it ended in; the way there is long, and names folders of this machine."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """Its fields; none: it is no line of the server's log."""
    error: str = ""
    """The type of the exception that it ended in, and what that says."""
    said: str = ""

    @property
    def event(self) -> str:
        return str(self.entry.get("event", ""))


def wrong_line(text: str) -> Line | None:
    """What is wrong with this line: an error, anything with a traceback, a warning of Python's, anything that is no line of ours."""
    try:
        entry = orjson.loads(text)
        level, event = entry["level"], entry["event"]
    except (ValueError, KeyError, TypeError):
        error, said = _ending(text) if "\n" in text else ("", "")
        return Line(
            ": ".join(part for part in (text.strip().partition("\n")[0], error, said) if part)[:300], {}, error, said
        )
    if (
        level not in BAD_LEVELS
        and "exception" not in entry
        and "Traceback" not in text
        and entry.get("logger") != _WARNINGS
    ):
        return None
    error, said = _ending(str(entry.get("exception", "")))
    ending = f"{error}: {said}" if said else error
    return Line(f"{level}: {event}: {ending}"[:300], entry, error, said)


def _ending(traceback: str) -> tuple[str, str]:
    error, said = "", ""
    for found in _ENDS_IN.finditer(traceback):
        if found[1] not in _BESIDE:
            error, said = found[1], found[2] or ""
    return error, said


def lines_of(text: str) -> Iterator[str]:
    """The lines of a log; what a process prints as it dies of an exception is one."""
    dying: list[str] = []
    for line in text.splitlines():
        if dying and not line.startswith(("{", *_PLAIN)):
            dying.append(line)
            continue
        if dying:
            yield "\n".join(dying)
            dying.clear()
        if line.startswith(_DYING):
            dying.append(line)
        else:
            yield line
    if dying:
        yield "\n".join(dying)


def wrong_lines(text: str) -> Iterator[Line]:
    """Those of a whole log."""
    return (line for line in map(wrong_line, lines_of(text)) if line is not None)


def judged_log(text: str) -> dict[str, Any]:
    """Lines of a server's log by kind. `unhandled`: those that nothing excuses."""
    unhandled: list[str] = []
    others: Counter[str] = Counter()
    for one in lines_of(text):
        line = wrong_line(one)
        if line is None:
            entry = orjson.loads(one)
            others[f"{entry['level']}: {str(entry['event'])[:80]}"] += 1
        else:
            unhandled.append(line.text)
    return {
        "log_lines": len(text.splitlines()),
        "unhandled": len(unhandled),
        "unhandled_lines": unhandled[:SAMPLES_MAX],
        "other_lines": dict(others.most_common(20)),
    }
