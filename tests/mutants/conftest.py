"""How each mutant was caught, and how long it took: kept in the file of the environment's MUTANTS_JSON (see `make mutants`)."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from bench.demo.summary import commit

Caught = Callable[[str, str], None]
"""(mutant, how)"""


@pytest.fixture(scope="session")
def caught_ones() -> Iterator[dict[str, dict[str, object]]]:
    found: dict[str, dict[str, object]] = {}
    yield found
    if (path := os.environ.get("MUTANTS_JSON")) is not None:
        facts = {"mutants": found, "commit": commit(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        Path(path).write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")


@pytest.fixture
def caught(caught_ones: dict[str, dict[str, object]]) -> Caught:
    began = time.monotonic()

    def note(name: str, how: str) -> None:
        caught_ones[name] = {"how": how, "seconds": round(time.monotonic() - began, 1)}

    return note
