"""How fast this machine is now. Other guests of its host slow it down, and no counter of its own says so: a fixed piece of work does."""

import hashlib
import random
import time
import zlib
from typing import Final

TURNS: Final = 300_000
BUFFER: Final = random.Random(1).randbytes(1 << 20)
TIMES: Final = 5
"""The best of so many counts: it is the machine that is to be seen, and not who had the core for a moment."""


def work() -> int:
    """The same steps of the interpreter, and the same bytes through compiled code, whenever it is called. Pure."""
    found = 0
    for turn in range(TURNS):
        found = (found * 31 + turn) & 0xFFFFFF
    digest = hashlib.sha256(BUFFER).digest()
    return found ^ digest[0] ^ zlib.crc32(zlib.compress(BUFFER, 6))


def work_ms() -> float:
    """Milliseconds that it takes now."""
    took = []
    for _ in range(TIMES):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1000)
    return round(min(took), 2)
