"""Jobs: the only place a job's status changes, what it costs, and its history.

The truth is Postgres (`jobs`, `job_events`). Every change is a row in `job_events` with actor, time and reason, and an event to
each party, in the same transaction. The accept is the one change made elsewhere (claims), through this slice's row.
"""

from dispatch.jobs.errors import JobMissing, JobNotActive, JobNotCompleted, NotYourJob
from dispatch.jobs.model import Completed, JobRow, Payroll, Trail, TrailBook
from dispatch.jobs.service import Jobs
from dispatch.jobs.store import add_trails, cancelled, cancelled_and_told, counted, locked, released, seen
from dispatch.jobs.teller import Teller

__all__ = [
    "Completed",
    "JobMissing",
    "JobNotActive",
    "JobNotCompleted",
    "JobRow",
    "Jobs",
    "NotYourJob",
    "Payroll",
    "Teller",
    "Trail",
    "TrailBook",
    "add_trails",
    "cancelled",
    "cancelled_and_told",
    "counted",
    "locked",
    "released",
    "seen",
]
