"""Logs are JSON lines without secrets, and nobody waits for whoever reads them."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from dispatch.kit import log


class Lines:
    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def write(self, line: bytes, /) -> None:
        self.raw.append(line)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]


@pytest.fixture
def lines() -> Iterator[Lines]:
    sink = Lines()
    root = logging.getLogger()
    before = root.handlers, root.level
    log.configure("info", slot=3, sink=sink)
    yield sink
    structlog.reset_defaults()
    root.handlers, root.level = before
    logging.captureWarnings(False)


def test_a_line_says_when_who_and_what(lines: Lines) -> None:
    structlog.get_logger("jobs").info("job accepted", job_id="j1", round=2)
    structlog.get_logger("jobs").debug("not at this level")
    (row,) = lines.rows
    assert row.pop("at").endswith("Z")
    assert row == {"level": "info", "logger": "jobs", "slot": 3, "event": "job accepted", "job_id": "j1", "round": 2}
    assert lines.raw[0].endswith(b"\n")


@pytest.mark.parametrize(
    ("facts", "hidden"),
    [
        ({"token": "s3cret"}, "s3cret"),
        ({"Authorization": "Bearer s3cret"}, "s3cret"),
        ({"jwt_secrets": ["s3cret"]}, "s3cret"),
        ({"user": {"phone_number": "+66123"}}, "+66123"),
        ({"users": [{"deep": {"password": "s3cret"}}]}, "s3cret"),
        ({"url": "postgresql://joe:s3cret@db:5432/x"}, "s3cret"),
        ({"url": "redis://:s3cret@cache"}, "s3cret"),
        ({"path": "/v1/socket?ticket=s3cret"}, "s3cret"),
        ({"header": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"}, "c2lnbmF0dXJl"),
        ({"raw": b"password=s3cret"}, "s3cret"),
    ],
)
def test_secrets_do_not_reach_the_log(lines: Lines, facts: dict[str, Any], hidden: str) -> None:
    structlog.get_logger().info("x", **facts)
    (raw,) = lines.raw
    assert hidden not in raw.decode()
    assert log.HIDDEN in raw.decode()


def test_an_exception_is_logged_with_its_place_and_without_its_secrets(lines: Lines) -> None:
    try:
        raise ValueError("cannot reach postgresql://joe:s3cret@db/x")
    except ValueError:
        structlog.get_logger().exception("failed")
    (row,) = lines.rows
    assert "test_log.py" in row["exception"]
    assert "s3cret" not in row["exception"]


@given(
    st.dictionaries(
        st.text(), st.one_of(st.integers(), st.floats(), st.text(), st.binary(), st.tuples(st.text())), max_size=5
    )
)
def test_any_facts_make_one_line_of_json(facts: dict[str, Any]) -> None:
    line = log.render(
        None, "info", dict(log.redact(None, "info", {"event": "x", **facts, "odd": object(), "big": 2**80}))
    )
    assert line.count(b"\n") == 1
    assert json.loads(line)


def test_libraries_log_into_the_same_stream(lines: Lines) -> None:
    logging.getLogger("websockets").warning("line %s", "lost")
    (row,) = lines.rows
    assert (row["logger"], row["level"], row["event"]) == ("websockets", "warning", "line lost")


def test_a_clients_nonsense_is_one_short_line(lines: Lines) -> None:
    from aiohttp.http_exceptions import BadHttpMessage

    try:
        raise BadHttpMessage("NUL in header")
    except BadHttpMessage:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    nonsense, bug = lines.rows
    assert (nonsense["level"], "exception" in nonsense) == ("info", False)
    assert (bug["level"], "exception" in bug) == ("error", True)


def test_a_pipe_that_nobody_reads_stalls_nobody_and_the_loss_is_told() -> None:
    reading, writing = os.pipe()
    writer = log.QueuedWriter(writing, bound=10)
    line = b"x" * 1023 + b"\n"
    for _ in range(500):  # the pipe holds 64, the queue 10
        writer.write(line)
    lost = writer.dropped
    assert lost >= 400
    received = os.read(reading, 1 << 20)
    while b"log lines dropped" not in received:
        received += os.read(reading, 1 << 20)
    note = json.loads(next(part for part in received.split(b"\n") if b"dropped" in part))
    assert note["lines"] == lost
    writer.close()
    os.close(writing)
    os.close(reading)


def test_the_last_lines_before_the_end_are_written() -> None:
    script = (
        "from dispatch.kit import log; import structlog; log.configure(); structlog.get_logger().info('last words')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["event"] == "last words"
