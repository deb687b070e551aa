"""Rows of notifications, and places in their lists."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from dispatch.kit.errors import Invalid
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.notifications.model import Contact, Device, DeviceKind, Plain
from protocol.notices import NoticeType

Q = Queries(Path(__file__).with_name("queries.sql"))


def page_of(rows: Sequence[Any], limit: int) -> bytes:
    """A page as wire JSON, out of one row more than its limit: (id, created_at, view)."""
    items = b",".join(row["view"] for row in rows[:limit])
    more = b""
    if len(rows) > limit:
        last = rows[limit - 1]
        place = urlsafe_b64encode(f"{last['created_at'].isoformat()} {last['id']}".encode()).decode()
        more = b',"next_cursor":' + orjson.dumps(place)
    return b'{"items":[' + items + b"]" + more + b"}"


def place_of(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    """Where a cursor points to. Raises: Invalid for one that is none of ours."""
    if cursor is None:
        return None, None
    try:
        at, _, row_id = urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        before = datetime.fromisoformat(at)
        if before.tzinfo is None or not 1970 <= before.year <= 9998:
            raise ValueError("none of our cursors")
        return before, UUID(row_id)
    except ValueError as error:
        raise Invalid(
            "this cursor is none of ours", fields=[{"field": "cursor", "problem": "not a cursor of this list"}]
        ) from error


async def devices_of(conn: Tx, user_id: UUID) -> list[Device]:
    """Where this person's pushes go."""
    return [
        Device(row["id"], DeviceKind(row["kind"]), row["address"], row["p256dh"] or "", row["auth"] or "")
        for row in await conn.fetch(Q["devices_of"], user_id)
    ]


class OwnRecords:
    """`People` as far as this slice can answer by itself: numbers of its own server's users, no e-mail and nothing hidden."""

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact:
        row = await conn.fetchrow(Q["notice_contact"], user_id)
        return Contact(None, None, "th") if row is None else Contact(None, row["phone_number"], row["locale"])

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, Plain]) -> None:
        return None
