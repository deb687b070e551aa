"""Mistakes in the judge's own statements: its functions as they stand in the database, with a few words changed."""

from collections.abc import Sequence
from typing import Any

import asyncpg

Edit = tuple[str, str, str]
"""(function, words that it holds exactly once, what stands there instead)"""

NO_ROUND_CHECK: Sequence[Edit] = (
    (
        "accept_job",
        "o.status = 'live' AND o.round = j.round AND (p_round IS NULL OR p_round = j.round)\n     AND j.offer_deadline",
        "j.offer_deadline",
    ),
)
"""An offer is an offer, whichever round it was of."""

EXISTS_INSTEAD_OF_LOCKS: Sequence[Edit] = (
    ("accept_job", "FROM provider_gate g WHERE g.user_id = p_user FOR SHARE;", "FROM provider_gate g WHERE g.user_id = p_user;"),
    ("accept_job", "SELECT * INTO j FROM jobs WHERE id = p_job FOR UPDATE;", "SELECT * INTO j FROM jobs WHERE id = p_job;"),
)  # fmt: skip
"""Conditions are read and then hoped for: what the UPDATE does not name may have changed since."""

NO_UNIQUE_INDEX = ("DROP INDEX dispatch.jobs_one_active",)
"""He had no other job a moment ago."""


async def edit(database_url: str, edits: Sequence[Edit] = (), statements: Sequence[str] = ()) -> None:
    """Change the functions of a database. Raises AssertionError when the words are not there: the mutant is out of date."""
    conn: asyncpg.Connection[Any] = await asyncpg.connect(database_url)
    try:
        for statement in statements:
            await conn.execute(statement)
        for name, words, instead in edits:
            text: str = await conn.fetchval("SELECT pg_get_functiondef(('dispatch.' || $1)::regproc)", name)
            assert text.count(words) == 1, f"{name} holds these words {text.count(words)} times: {words}"
            await conn.execute(text.replace(words, instead))
    finally:
        await conn.close()
