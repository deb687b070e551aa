"""Rows of jobs."""

from pathlib import Path
from typing import Any
from uuid import UUID

from dispatch.jobs.model import JobRow
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


async def cancelled(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[Any]:
    """End a job that is locked and may end. Returns facts yet to be numbered."""
    return list(await tx.fetchval(Q["job_cancel"], job_id, by, actor_id, str(role), reason))


async def released(
    tx: Tx, job_id: UUID, *, by: str, actor_id: UUID | None, role: Actor, reason: str | None
) -> list[Any]:
    """Take a locked job back from its provider and open the next round. Returns facts yet to be numbered."""
    return list(await tx.fetchval(Q["job_release"], job_id, by, actor_id, str(role), reason))
