"""Use cases of notifications."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import orjson

from dispatch.inbox import pending
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.notifications.model import Notice
from dispatch.notifications.rules import CHANNELS
from dispatch.notifications.texts import text_of

_Q = Queries(Path(__file__).with_name("queries.sql"))


class Notifications:
    """One per worker."""

    async def write(self, tx: Tx, notices: Sequence[Notice]) -> list[tuple[UUID, str, bytes]]:
        """Store `notices` and their deliveries in the caller's transaction; what is to be told live comes back as facts for `append`.

        A notice whose key was written before is dropped, and tells nothing. Heads are not locked here: call it before `append`.
        """
        if not notices:
            return []
        ids = [new_id() for _ in notices]
        recipients = [notice.recipient_id for notice in notices]
        locales = {row["user_id"]: row["locale"] for row in await tx.fetch(_Q["recipient_locales"], recipients)}
        texts = [text_of(notice.type, locales[notice.recipient_id], notice.data) for notice in notices]
        rows = await tx.fetch(
            _Q["notice_write"],
            ids,
            recipients,
            [str(notice.type) for notice in notices],
            [title for title, _ in texts],
            [body for _, body in texts],
            [orjson.dumps(dict(notice.data)) for notice in notices],
            [notice.key or str(own) for notice, own in zip(notices, ids, strict=True)],
            [" ".join(CHANNELS[notice.type]) for notice in notices],
        )
        return [pending(row["user_id"], "notification.created", row["body"]) for row in rows]
