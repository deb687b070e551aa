"""Offers that a phone did not hear: a socket may look alive for seconds after its phone fell asleep, a push wakes it."""

from dispatch.inbox import Inbox, append
from dispatch.kit.postgres import Postgres
from dispatch.matching.store import Q
from dispatch.notifications import Notice, Notifications
from protocol.codec import wire_time
from protocol.notices import NoticeType

UNHEARD_S = 6.0
"""Five seconds without an ack, and one in which the workers write down the acks that they have. With one turn a second, and the queue's
milliseconds, the push leaves within the ten seconds of the requirement."""
_BATCH = 200


class Nudges:
    """One per worker. All of them look; the key of the notification lets one push through."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications

    async def turn(self, *, after_s: float = UNHEARD_S) -> int:
        """Push, once each, live offers that no device has acked for `after_s`. Returns how many were pushed."""
        async with self._pg.system_tx() as tx:
            rows = await tx.fetch(Q["offers_unheard"], after_s, _BATCH)
            notices = [
                Notice(
                    row["user_id"],
                    NoticeType.JOB_AVAILABLE,
                    {
                        "offer_id": str(row["offer_id"]),
                        "job_id": str(row["job_id"]),
                        "distance_m": row["distance_m"],
                        "fare_minor": row["fare_minor"],
                        "currency": row["currency"],
                        "expires_at": wire_time(row["expires_at"]),
                    },
                    key=f"offer:{row['offer_id']}",
                )
                for row in rows
            ]
            told = await self._notifications.write(tx, notices)
            facts = await append(tx, told)
        self._inbox.deliver(facts)
        return len(told)
