"""Logs: one JSON object per line on stderr, written by a thread of its own, without secrets.

A pipe that nobody reads blocks its writer for ever; with the thread it blocks only the thread. The queue to it
is bounded: what does not fit is dropped and counted, and the count is written when there is room again.
"""

import atexit
import contextlib
import logging
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol

import orjson
import structlog

LINES_WAITING_MAX = 10_000
FLUSH_AT_EXIT_S = 2.0
NESTING_MAX = 6
SECRET_WORDS = ("token", "secret", "password", "authorization", "phone_number", "ticket", "cookie")
HIDDEN = "***"

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_URL_PASSWORD = re.compile(r"(?<=://)([^:@/\s]*):[^@\s]*@")
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")
_TICKET = re.compile(r"(?i)\b((?:ticket|token|password)=)[^&\s\"']+")


class Sink(Protocol):
    """Where finished lines go."""

    def write(self, line: bytes, /) -> object: ...


class QueuedWriter:
    """Writes lines to a file descriptor from a thread. `write` never blocks and never raises."""

    def __init__(self, fd: int, *, bound: int = LINES_WAITING_MAX) -> None:
        self._fd = fd
        self._bound = bound
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._dropped = 0
        self._reported = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that found the queue full, since the start."""
        return self._dropped

    def write(self, line: bytes) -> None:
        if self._lines.qsize() >= self._bound:
            self._dropped += 1
        else:
            self._lines.put(line)

    def close(self, timeout_s: float = FLUSH_AT_EXIT_S) -> None:
        """Write what waits, for `timeout_s` at most. Idempotent."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._out(line)
            if (lost := self._dropped - self._reported) and self._lines.qsize() < self._bound // 2:
                self._reported += lost
                now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                note = {"at": now, "level": "warning", "logger": "log", "event": "log lines dropped", "lines": lost}
                self._out(orjson.dumps(note) + b"\n")

    def _out(self, line: bytes) -> None:
        with contextlib.suppress(OSError):  # a closed stderr must not take the thread down
            while line:
                line = line[os.write(self._fd, line) :]


class _Logger:
    """What structlog calls at the end of its chain: the level methods take the finished line."""

    __slots__ = ("_sink", "name")

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self.name = name

    def msg(self, line: bytes) -> None:
        self._sink.write(line)

    log = debug = info = warn = warning = error = exception = critical = fatal = msg


_writer: QueuedWriter | None = None


def configure(level: str = "info", *, slot: int | None = None, sink: Sink | None = None) -> None:
    """Set up structlog and the standard library's logging for this process. Call once, before the first line.

    `level` is debug, info, warning or error. `slot` is added to every line, to tell workers apart.
    `sink` takes the lines instead of stderr.
    """
    global _writer
    if sink is None:
        if _writer is None:
            _writer = QueuedWriter(sys.stderr.fileno())
            atexit.register(_writer.close)
        sink = _writer
    target = sink
    always = {} if slot is None else {"slot": slot}

    def add_common(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"at": None, "level": None, "logger": getattr(logger, "name", "") or "dispatch", **always, **event}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_common,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *args: _Logger(target, str(args[0]) if args else ""),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(_LEVELS[level], logging.INFO))
    logging.captureWarnings(True)


def dropped() -> int:
    """Lines lost so far because nobody read them: for a counter."""
    return 0 if _writer is None else _writer.dropped


def name_request(name: str) -> None:
    """Put this request id on every line that is logged, and every row that is audited, until the task ends or names another."""
    structlog.contextvars.bind_contextvars(request_id=name)


def request_id() -> str | None:
    """The name of the request that is being served; None in a loop."""
    found: str | None = structlog.contextvars.get_contextvars().get("request_id")
    return found


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Hide values whose key names a secret, at any depth, and passwords and tokens inside text."""
    return {key: HIDDEN if _is_secret(key) else _clean(value, NESTING_MAX) for key, value in event.items()}


def _is_secret(key: object) -> bool:
    low = str(key).lower()
    return any(word in low for word in SECRET_WORDS)


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bytes):
        return clean_text(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        if depth == 0:
            return "…"
        return {str(key): HIDDEN if _is_secret(key) else _clean(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return "…" if depth == 0 else [_clean(inner, depth - 1) for inner in value]
    return value


def clean_text(text: str) -> str:
    """`text` without passwords of addresses, tokens and tickets."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    if "eyJ" in text:
        text = _JWT.sub(HIDDEN, text)
    if "=" in text:
        text = _TICKET.sub(rf"\1{HIDDEN}", text)
    return text


def render(_: Any, __: str, event: MutableMapping[str, Any]) -> bytes:
    """The line. Never raises: what JSON cannot hold is written as its repr."""
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        plain = {str(key): ascii(value)[:2000] for key, value in event.items()}
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)


class _Bridge(logging.Handler):
    """Lines of libraries that log in the standard way."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            facts: dict[str, Any] = {}
            event = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                if record.name == "aiohttp.server" and _is_bad_request(record.exc_info[1]):
                    # A client's nonsense, such as a NUL in a header. aiohttp logs a full traceback for each.
                    structlog.get_logger(record.name).info("unreadable request", error=repr(record.exc_info[1])[:200])
                    return
                facts["exc_info"] = record.exc_info
            method: Callable[..., Any] = getattr(structlog.get_logger(record.name), _level_name(record.levelno))
            method(event, **facts)
        except Exception:  # noqa: BLE001 logging must not raise into the library that logs
            self.handleError(record)


def _is_bad_request(error: BaseException) -> bool:
    return any(kind.__name__ in {"BadHttpMessage", "HttpProcessingError"} for kind in type(error).__mro__)


def _level_name(number: int) -> str:
    return next((name for name, level in reversed(_LEVELS.items()) if number >= level), "debug")
