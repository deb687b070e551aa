"""Who may rate what, until when, and how many ratings count."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from dispatch.jobs import JobNotCompleted, JobRow, NotYourJob
from dispatch.kit.words import blank
from protocol.lifecycle import JobStatus

RATE_WITHIN: Final = timedelta(days=14)
"""After the job's completion, by Postgres' clock."""

LAST: Final = 500
"""The newest that a mean is taken over: what somebody was like years ago says little of him now."""


def check_may_rate(job: JobRow, user_id: UUID) -> None:
    """Raises: NotYourJob (its provider, an admin), JobNotCompleted."""
    if job.customer_id != user_id:
        raise NotYourJob("only the customer of a job rates it")
    if job.status is not JobStatus.COMPLETED:
        raise JobNotCompleted(f"the job is {job.status}", status=str(job.status))


def words_of(comment: str | None) -> str | None:
    """The comment without the space around it; None: it says nothing."""
    return None if comment is None or blank(comment) else comment.strip()
