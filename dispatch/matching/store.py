"""Rows of matching, for the use cases of several slices."""

from pathlib import Path
from uuid import UUID

from dispatch.inbox import collected
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries

Q = Queries(Path(__file__).with_name("queries.sql"))


async def jobs_locked_of(tx: Tx, provider_id: UUID) -> list[UUID]:
    """Lock every job that a provider has an active part or a live offer in, by id; the gate is locked by the caller."""
    return [row["job_id"] for row in await tx.fetch(Q["jobs_lock_of"], provider_id)]


async def offers_voided(tx: Tx, provider_id: UUID, reason: str) -> tuple[list[tuple[UUID, str, bytes]], list[UUID]]:
    """Withdraw a provider's live offers. Returns facts yet to be numbered, and the jobs to search again after the commit."""
    row = await tx.fetchrow(Q["offers_void"], provider_id, reason)
    assert row is not None
    return collected(row["told"]), list(row["wake"])
