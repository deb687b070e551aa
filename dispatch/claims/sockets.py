"""Socket door of claims: accept."""

from collections.abc import Awaitable, Callable
from typing import Any

from dispatch.claims.service import Claims
from protocol.frames import Accept


def requests(claims: Claims) -> dict[type, Callable[[Any, Any], Awaitable[bytes]]]:
    async def accept(line: Any, frame: Accept) -> bytes:
        won = await claims.accept(line.identity.actor, frame.job_id, frame.offer_id, frame.round, str(frame.id))
        return b'{"job":%b,"navigation_url":"%b"}' % (won.job, won.navigation_url.encode())

    return {Accept: accept}
