"""Password hashes: argon2id, off the loop, a few at a time."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dispatch.accounts.errors import PasswordsBusy
from dispatch.accounts.rules import canonical_password

T = TypeVar("T")

# OWASP's first choice for argon2id: 19 MiB, two passes, one lane. About 40 ms on a core of today.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
THREADS: Final = 2
WAITING_MAX: Final = 32
"""Two threads do some fifty a second: who would wait longer than that is told so at once."""


class Passwords:
    """One per worker. Its threads start when the first password comes."""

    def __init__(self, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        # Whoever has no password costs as much as who has one. Its own password is not known to anybody: 32 random bytes would do,
        # and so does the hash of nothing that a person may choose, since eight characters are the least.
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """A new hash with its own salt. Raises: PasswordsBusy."""
        text = canonical_password(password)
        return await self._off_loop(lambda: self._hasher.hash(text))

    async def check(self, known: str | None, password: str) -> bool:
        """Whether `password` is the one of hash `known`; with None the same work, and False. Raises: PasswordsBusy."""
        text = canonical_password(password)

        def work() -> bool:
            if self._nobody is None:
                self._nobody = self._hasher.hash("")
            try:
                return self._hasher.verify(known or self._nobody, text) and known is not None
            except (VerificationError, InvalidHashError):
                return False

        return await self._off_loop(work)

    def stale(self, known: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(known)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise PasswordsBusy(f"{WAITING_MAX} passwords wait already", retry_after_s=1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
