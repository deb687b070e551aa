"""No wall clock and no hidden randomness: inside a simulated run `dispatch.kit` draws from the seed, and real sources raise."""

import os
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType, SimpleNamespace
from typing import Any

from dispatch.kit import clock, ids

START_S = 1_767_323_045.0
"""2026-01-02 03:04:05 UTC: when every simulated world begins."""

SOURCES: tuple[tuple[ModuleType, str], ...] = (
    *((time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    (time, "sleep"),
    (os, "urandom"),
    (os, "getrandom"),
    *((uuid, name) for name in ("uuid1", "uuid4")),
    *((secrets, name) for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice", "randbits")),
    *(
        (random, name)
        for name in (
            "random", "uniform", "randint", "randrange", "choice", "choices", "shuffle", "sample", "getrandbits",
            "gauss", "expovariate", "randbytes", "triangular", "betavariate",
        )
    ),
)  # fmt: skip


class RealSource(BaseException):
    """Somebody asked the machine for time or chance inside a simulated run. No `except Exception` may hide it."""


def _closed(name: str, real: Callable[..., Any], thread: int, heard: list[str]) -> Callable[..., Any]:
    def refuse(*args: Any, **given: Any) -> Any:
        if threading.get_ident() != thread:
            return real(*args, **given)  # another thread of the same process: not ours
        heard.append(name)
        raise RealSource(f"{name} was asked inside a simulated run: take a Clock, or dispatch.kit.ids")

    return refuse


@contextmanager
def sealed(chance: random.Random, wall_s: Callable[[], float], monotonic_s: Callable[[], float]) -> Iterator[list[str]]:
    """While the block lasts all time and chance come from `chance` and the two clocks. Gives a list of the real sources that were
    asked none the less: each raised RealSource where it was asked.
    """
    heard: list[str] = []
    thread = threading.get_ident()
    kept: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, value: Any) -> None:
        kept.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    try:
        put(ids, "os", SimpleNamespace(urandom=chance.randbytes))
        put(ids, "random", chance)
        put(ids, "secrets", SimpleNamespace(token_hex=lambda n: chance.randbytes(n).hex(), token_urlsafe=_word(chance)))
        put(ids, "time", SimpleNamespace(time=wall_s))
        put(clock, "time", SimpleNamespace(monotonic=monotonic_s, monotonic_ns=lambda: int(monotonic_s() * 1e9)))
        # `datetime` is built in and cannot be changed; nobody but kit may ask it (tests/tidy).
        put(clock, "datetime", SimpleNamespace(now=_closed("datetime.now", datetime.now, thread, heard)))
        for place, name in SOURCES:
            if hasattr(place, name):
                put(place, name, _closed(f"{place.__name__}.{name}", getattr(place, name), thread, heard))
        yield heard
    finally:
        for place, name, value in reversed(kept):
            setattr(place, name, value)


def _word(chance: random.Random) -> Callable[[int], str]:
    return lambda n: chance.randbytes(n).hex()
