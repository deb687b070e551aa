"""Rows of the inbox."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from dispatch.inbox.model import Fact, fact_of
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries

Q = Queries(Path(__file__).with_name("queries.sql"))

EVENTS_PER_READ = 512


def pending(user_id: UUID, name: str, body: bytes) -> tuple[UUID, str, bytes]:
    """A fact that is decided and not yet numbered."""
    return (user_id, name, body)


async def append(tx: Tx, facts: Sequence[tuple[UUID, str, bytes]]) -> list[Fact]:
    """Number and store `facts` in the caller's transaction: the last thing it does before the commit, so that heads are held
    for as short as can be. The result is to be delivered after the commit, and only then.
    """
    if not facts:
        return []
    rows = await tx.fetchval(Q["append"], [f[0] for f in facts], [f[1] for f in facts], [f[2] for f in facts])
    return facts_of(rows)


def collected(rows: Iterable[Any]) -> list[tuple[UUID, str, bytes]]:
    """Facts that SQL functions have collected (`pending_fact`), to be numbered by `append` with what else there is to tell."""
    return [(row["user_id"], row["name"], row["body"]) for row in rows]


def facts_of(rows: Iterable[Any] | None) -> list[Fact]:
    """From a `fact[]` of a SQL function."""
    return [fact_of(row) for row in rows or ()]


async def after(conn: Tx, user_id: UUID, seq: int, upto: int) -> list[Fact]:
    """Events after `seq` up to `upto`, oldest first, at most 512."""
    return [fact_of(row) for row in await conn.fetch(Q["after"], user_id, seq, upto, EVENTS_PER_READ)]
