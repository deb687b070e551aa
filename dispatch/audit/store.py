"""Rows of the audit log."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from dispatch.kit.ids import new_id
from dispatch.kit.log import request_id
from dispatch.kit.postgres import Actor, Tx
from dispatch.kit.sql import Queries

_Q = Queries.beside(__file__)


async def write(
    tx: Tx,
    actor: Actor,
    action: str,
    subject: tuple[str, UUID],
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Record what an admin is doing in this very transaction. `subject` is (kind of thing, id); `before` and `after` hold the fields that change.

    The acting user of `tx` must be an admin: the row policy refuses anybody else.
    """
    await tx.execute(
        _Q["write"],
        new_id(),
        actor.user_id,
        action,
        *subject,
        None if before is None else orjson.dumps(dict(before), default=str),
        None if after is None else orjson.dumps(dict(after), default=str),
        reason,
        request_id(),
        actor.address or None,
    )
