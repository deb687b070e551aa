"""An offer that a phone has not taken notice of is also pushed: the app may sleep while its line is open."""

from dispatch.inbox import Inbox, append
from dispatch.kit.postgres import Postgres
from dispatch.matching.store import Q
from dispatch.notifications import Notice, Notifications
from protocol.notices import NoticeType

UNHEARD_S = 6.0
"""5 s without an ack, and one in which the workers write down the acks that they have."""
OVER_S = 11.0
"""Older ones were looked at in the turns before; what is pushed later than 10 s after the request comes too late for most."""
BATCH = 500


class Nudges:
    """One per worker."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications

    async def turn(self) -> None:
        """Push what nobody has heard. An offer is pushed once, however many workers look."""
        async with self._pg.system() as conn:
            rows = await conn.fetch(Q["offers_unheard"], UNHEARD_S, OVER_S, BATCH)
        if not rows:
            return
        notices = [
            Notice(
                row["provider_user_id"],
                NoticeType.JOB_AVAILABLE,
                {
                    "job_id": str(row["job_id"]),
                    "offer_id": str(row["offer_id"]),
                    "distance_m": row["pickup_distance_m"],
                    "fare_minor": row["fare_minor"],
                    "currency": row["currency"],
                },
                f"offer:{row['offer_id']}",
            )
            for row in rows
        ]
        async with self._pg.system_tx() as tx:
            facts = await append(tx, await self._notifications.write(tx, notices))
        self._inbox.deliver(facts)
