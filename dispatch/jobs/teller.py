"""What happened to jobs, told to those who may not have the app open: notifications made of the history.

The history (`job_events`) commits with the change itself, so nothing that happened is left out; it is read a moment later, in
order and once, and costs an accept nothing.
"""

from typing import Any

from dispatch.inbox import Inbox, append
from dispatch.kit.postgres import Postgres
from dispatch.kit.sql import Queries
from dispatch.notifications import Notice, Notifications
from protocol.lifecycle import JobStatus
from protocol.notices import NoticeType

_Q = Queries.beside(__file__)
BATCH = 200


class Teller:
    """One per worker; of all of them one reads at a time."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications

    async def turn(self) -> None:
        """Tell what has happened since the last turn, whoever took it."""
        more = True
        while more:
            async with self._pg.system_tx() as tx:
                rows = await tx.fetch(_Q["job_events_next"], "notices", BATCH)
                notices = [notice for row in rows for notice in notices_of(row)]
                facts = await append(tx, await self._notifications.write(tx, notices))
            self._inbox.deliver(facts)
            more = len(rows) == BATCH


def notices_of(row: Any) -> list[Notice]:
    """Whom to tell of one row of the history: never the one who did it."""
    status = JobStatus(row["to_status"])
    data = {"job_id": str(row["job_id"]), "status": str(status), "reason": row["reason"]}
    customer, provider = row["customer_id"], row["provider_user_id"]

    def notice(who: Any, kind: NoticeType) -> Notice:
        return Notice(who, kind, data, f"job:{row['job_id']}:{row['version']}")

    told: list[Notice] = []
    match status:
        case JobStatus.ACCEPTED:
            told.append(notice(customer, NoticeType.JOB_ACCEPTED))
        case JobStatus.ARRIVED | JobStatus.IN_PROGRESS | JobStatus.COMPLETED:
            told.append(notice(customer, NoticeType.JOB_STATUS_CHANGED))
        case JobStatus.OFFERED if row["from_status"] in (JobStatus.ACCEPTED, JobStatus.ARRIVED):
            # Taken from its provider: the customer waits for another, and he is told that it is his no more.
            told.append(notice(customer, NoticeType.JOB_STATUS_CHANGED))
            if provider is not None:
                told.append(notice(provider, NoticeType.JOB_CANCELLED))
        case JobStatus.CANCELLED:
            told.append(notice(customer, NoticeType.JOB_CANCELLED))
            if provider is not None:
                told.append(notice(provider, NoticeType.JOB_CANCELLED))
        case _:
            pass
    return [one for one in told if one.recipient_id != row["actor_id"]]
