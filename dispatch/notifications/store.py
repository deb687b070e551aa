"""Rows of notifications, and whom they are for."""

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from dispatch.accounts import Accounts
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.notifications.model import Contact, Device, DeviceKind, Plain
from protocol.notices import NoticeType

Q = Queries(Path(__file__).with_name("queries.sql"))


async def devices_of(conn: Tx, user_id: UUID) -> list[Device]:
    """Where this person's pushes go."""
    return [
        Device(row["id"], DeviceKind(row["kind"]), row["address"], row["p256dh"] or "", row["auth"] or "")
        for row in await conn.fetch(Q["devices_of"], user_id)
    ]


class OfAccounts:
    """`People` out of the accounts slice: whoever is unknown there has no address, and what cannot be told any more is None."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact:
        found = await self._accounts.contact_of(conn, user_id)
        return Contact(None, None, "th") if found is None else Contact(found.email, found.phone, found.locale)

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, Plain]) -> Mapping[str, str] | None:
        return await self._accounts.secret_of(conn, kind, data) or None
