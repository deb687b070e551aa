"""Identifiers and chance: the only place that draws random numbers."""

import os
import random
import secrets
import time
from uuid import UUID, uuid5

from asyncpg.pgproto import pgproto

__all__ = ["derived_id", "jitter_s", "new_id", "new_secret", "new_word", "swift"]


def new_id() -> UUID:
    """A UUID version 7: 48 bits of milliseconds, then chance, so that rows made together lie together in an index."""
    raw = bytearray(int(time.time() * 1000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return UUID(bytes=bytes(raw))


def swift(id: UUID) -> UUID:
    """The same id as asyncpg makes them: hashed and compared in C, a third of the cost of a look-up, for what is looked up with each frame.
    Equal to the other in every way but one: orjson does not know it, so into JSON it goes as str.
    """
    made: UUID = pgproto.UUID(id.bytes)
    return made


def derived_id(space: UUID, name: str) -> UUID:
    """The same id for the same (space, name), for ever (UUID version 5)."""
    return uuid5(space, name)


def new_secret() -> str:
    """256 bits, URL-safe: tickets and the like."""
    return secrets.token_urlsafe(32)


def new_word(length: int = 8) -> str:
    """A short random word of hex digits: names of workers, epochs of Redis data sets, request ids."""
    return secrets.token_hex((length + 1) // 2)[:length]


def jitter_s(low_s: float, high_s: float) -> float:
    """A uniformly random number of seconds, to spread what would otherwise come at once."""
    return random.uniform(low_s, high_s)
