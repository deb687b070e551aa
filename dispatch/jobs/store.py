"""Rows of jobs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from dispatch.inbox import Fact, collected, facts_of
from dispatch.jobs.model import JobRow, Trail
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from protocol.lifecycle import Actor, JobStatus

Q = Queries(Path(__file__).with_name("queries.sql"))


def _row(row: Any) -> JobRow:
    return JobRow(**{**dict(row), "status": JobStatus(row["status"])})


async def locked(tx: Tx, job_id: UUID) -> JobRow | None:
    """The job, locked until the transaction ends; None: not there, or hidden from the acting user."""
    row = await tx.fetchrow(Q["job_lock"], job_id)
    return None if row is None else _row(row)


async def seen(tx: Tx, job_id: UUID) -> JobRow | None:
    """The job as it is, unlocked: for questions, never for decisions."""
    row = await tx.fetchrow(Q["job_row"], job_id)
    return None if row is None else _row(row)


async def add_trails(conn: Tx, trails: Sequence[tuple[UUID, Trail]]) -> None:
    """Add what was seen of running jobs to their rows. By job id, so that two workers cannot deadlock."""
    rows = sorted(trails, key=lambda row: row[0])
    await conn.execute(
        Q["trail_add"],
        [job for job, _ in rows],
        [trail.distance_m for _, trail in rows],
        [trail.fixes for _, trail in rows],
    )


async def counted(conn: Tx) -> dict[tuple[str, str], int]:
    """Jobs that are not over, by (market, status)."""
    return {(row["market"], row["status"]): row["n"] for row in await conn.fetch(Q["jobs_by_status"])}


async def cancelled(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[tuple[UUID, str, bytes]]:
    """End a job that is locked and may end. Returns facts yet to be numbered."""
    return collected(await tx.fetchval(Q["job_cancel"], job_id, by, actor_id, str(role), reason))


async def released(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[tuple[UUID, str, bytes]]:
    """Take a locked job back from its provider and open the next round. Returns facts yet to be numbered."""
    return collected(await tx.fetchval(Q["job_release"], job_id, by, actor_id, str(role), reason))


async def cancelled_and_told(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[Fact]:
    """End a job that is locked and may end, as the last thing before the commit. Returns what is to be delivered after it."""
    return facts_of(await tx.fetchval(Q["job_cancel_told"], job_id, by, actor_id, str(role), reason))


async def released_and_told(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[Fact]:
    """Take a locked job back from its provider, as the last thing before the commit. Returns what is to be delivered after it."""
    return facts_of(await tx.fetchval(Q["job_release_told"], job_id, by, actor_id, str(role), reason))
