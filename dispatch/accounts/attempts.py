"""How often somebody may try. Counted in Postgres before the try is judged: without Postgres nobody tries anything."""

from pathlib import Path
from typing import Final

from dispatch.accounts.rules import address_of, subject_of
from dispatch.kit.errors import Limited
from dispatch.kit.postgres import Postgres
from dispatch.kit.sql import Queries
from dispatch.settings import Settings

_Q = Queries(Path(__file__).with_name("queries.sql"))

SIGN_IN: Final = "sign_in"
CODE: Final = "code"
SEND: Final = "send"
"""Whatever makes a mail or a message go out."""


class Attempts:
    """One per worker; the count is everybody's."""

    def __init__(self, settings: Settings, pg: Postgres, key: bytes) -> None:
        self._pg = pg
        self._key = key
        tries = (settings.attempts_per_user, settings.attempts_per_address, settings.attempts_window_s)
        sends = (settings.sends_per_user, settings.sends_per_address, settings.sends_window_s)
        self._limits = {SIGN_IN: tries, CODE: tries, SEND: sends}

    async def take(self, kind: str, *, whose: str, address: str, target: str | None = None) -> list[bytes]:
        """Take one try of this user (an address, an id), of this network address, and of the number that he aims at, if he does.

        Returns what `give_back` takes.

        A limit of 0 does not count. Raises: Limited with retry_after_s.
        """
        per_user, per_address, window_s = self._limits[kind]
        # The address first: who has used up his own tries does not use up somebody else's.
        counted = [(subject_of(self._key, f"{kind} address", address_of(address)), per_address)] if address else []
        counted.append((subject_of(self._key, f"{kind} user", whose), per_user))
        if target is not None:
            counted.append((subject_of(self._key, f"{kind} target", target), per_user))
        counted = [(subject, limit) for subject, limit in counted if limit > 0]
        if not counted:
            return []
        subjects = [subject for subject, _ in counted]
        async with self._pg.system() as conn:
            wait_s: int = await conn.fetchval(
                _Q["attempts_take"], subjects, [limit for _, limit in counted], float(window_s)
            )
        if wait_s:
            raise Limited(f"too many tries ({kind})", retry_after_s=wait_s)
        return subjects

    async def give_back(self, taken: list[bytes]) -> None:
        """It was no failure after all: only failures count."""
        if taken:
            async with self._pg.system() as conn:
                await conn.execute(_Q["attempts_return"], taken)
