"""Pages of lists: keyset cursors, so that page thousand costs what page one does, and rows made meanwhile move nothing."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from dispatch.kit.errors import Invalid

_AFTER_ALL = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
_BEFORE_ALL = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))

QUERY = {"limit": "1-100, 50 unless told", "cursor": "next_cursor of the page before"}
"""What every list says of its two parameters."""


def page(rows: Sequence[Any], limit: int) -> bytes:
    """A page as wire JSON out of up to `limit` + 1 rows (view json, created_at, id), of which the last only tells that there are more."""
    items = b",".join(row["view"] for row in rows[:limit])
    more = b""
    if len(rows) > limit:
        last = rows[limit - 1]
        cursor = urlsafe_b64encode(f"{last['created_at'].isoformat()} {last['id']}".encode()).decode()
        more = b',"next_cursor":' + orjson.dumps(cursor)
    return b'{"items":[' + items + b"]" + more + b"}"


def read_cursor(cursor: str | None, *, oldest_first: bool = False) -> tuple[datetime, UUID]:
    """(created_at, id) of the last row that the caller has; without a cursor a place before every row, so that one query serves the
    first page and all others by its index. Raises: Invalid for one that is not ours.
    """
    if cursor is None:
        return _AFTER_ALL if oldest_first else _BEFORE_ALL
    try:
        at, _, row_id = urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        before = datetime.fromisoformat(at)
        if before.tzinfo is None or not 1970 <= before.year <= 9998:
            raise ValueError("none of our cursors")
        return before, UUID(row_id)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            "this cursor is none of ours", fields=[{"field": "cursor", "problem": "not a cursor of this list"}]
        ) from error
