"""A sender without a server around it: its tries are made by hand, on real rows."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from dispatch.kit.clock import ManualClock
from dispatch.kit.postgres import Postgres, Tx
from dispatch.notifications import Contact, Notice, Notifications, Plain, Sender
from dispatch.notifications.doors import Recording
from dispatch.notifications.model import Door
from protocol.notices import NoticeType


class Written:
    """`People` with an e-mail address for everybody: that of accounts, until a test has those."""

    def __init__(self, *, email: str | None = "{user}@test.invalid") -> None:
        self.email = email
        self.told: Mapping[str, str] | None = None
        """The secret of every verification."""

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact:
        row = await conn.fetchrow("SELECT phone_number, locale FROM users WHERE id = $1", user_id)
        assert row is not None
        email = None if self.email is None else self.email.format(user=user_id)
        return Contact(email, row["phone_number"], row["locale"])

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, Plain]) -> Mapping[str, str] | None:
        return self.told


@dataclass
class Post:
    pg: Postgres
    sender: Sender
    clock: ManualClock
    people: Written
    doors: dict[str, Any]
    sql: "asyncpg.Connection[Any]"
    notifications: Notifications = field(default_factory=Notifications)

    async def user(self, *, locale: str = "en", phone: str | None = "+66812345678") -> UUID:
        user = uuid4()
        await self.sql.execute("SELECT users_ensure($1, NULL, NULL, $2)", user, phone)
        await self.sql.execute("UPDATE users SET locale = $2 WHERE id = $1", user, locale)
        return user

    async def device(self, user: UUID, address: str) -> UUID:
        made: UUID = await self.sql.fetchval(
            "SELECT device_register(gen_random_uuid(), $1, 'fcm', $2, NULL, NULL, NULL, 10)", user, address
        )
        return made

    async def write(self, user: UUID, kind: NoticeType, data: Mapping[str, Plain] | None = None, **given: Any) -> None:
        async with self.pg.system_tx() as tx:
            await self.notifications.write(tx, [Notice(user, kind, data or {}, **given)])

    async def row(self, user: UUID, channel: str) -> "asyncpg.Record":
        row = await self.sql.fetchrow(
            "SELECT d.* FROM notification_deliveries d JOIN notifications n ON n.id = notification_id "
            "WHERE n.recipient_id = $1 AND channel = $2 ORDER BY n.created_at DESC LIMIT 1",
            user,
            channel,
        )
        assert row is not None
        return row

    async def emailed(self) -> UUID:
        """The delivery of an e-mail that waits to be sent to somebody new."""
        user = await self.user()
        await self.write(user, NoticeType.ACCOUNT_REACTIVATED)
        delivery: UUID = (await self.row(user, "email"))["id"]
        return delivery

    async def state(self, delivery: UUID) -> tuple[str, int, str | None]:
        """(status, attempts, last_error)."""
        row = await self.sql.fetchrow(
            "SELECT status, attempts, last_error FROM notification_deliveries WHERE id = $1", delivery
        )
        assert row is not None
        return row["status"], row["attempts"], row["last_error"]

    async def jobs(self) -> int:
        n: int = await self.sql.fetchval(
            "SELECT count(*) FROM dispatch_queue.pgqueuer WHERE status IN ('queued', 'picked')"
        )
        return n


@asynccontextmanager
async def posting(
    database_url: str, doors: Mapping[str, Door] | None = None, *, timeout_s: float = 5.0
) -> AsyncIterator[Post]:
    """Recording doors for e-mail, SMS and FCM unless told; chance is always the middle."""
    clock, people = ManualClock(), Written()
    given = dict(doors) if doors is not None else {name: Recording() for name in ("email", "sms", "fcm")}
    sql = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        async with Postgres.open(database_url, size=6) as pg:
            sender = Sender(
                pg, given, people, clock, timeout_s=timeout_s, base_s=1.0, jitter=lambda low, high: (low + high) / 2
            )
            yield Post(pg, sender, clock, people, given, sql)
            await sender.close()
    finally:
        await sql.close()
