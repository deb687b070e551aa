"""The load filter in Redis. A word from here is never an answer to a person."""

import asyncio
from typing import Literal

import structlog

from dispatch.claims import keys
from dispatch.claims.model import Ask
from dispatch.kit.redis import CLAIM_TIMEOUT_S, DOWN, Argument, Redis

log = structlog.get_logger("claims")

Word = Literal["first", "yours", "pending", "committed", "stale", "unknown"]
_WORDS: dict[bytes, Word] = {
    b"first": "first",
    b"yours": "yours",
    b"pending": "pending",
    b"committed": "committed",
    b"stale": "stale",
}


async def claim(redis: Redis, ask: Ask, round: int) -> Word:
    """Ask for the claim, once, within 150 ms. «unknown»: no answer; go on to the judge."""
    try:
        async with asyncio.timeout(CLAIM_TIMEOUT_S):
            args: list[Argument] = [round, str(ask.user_id), str(ask.accept_id), keys.PENDING_MS]
            said = await redis.call("claim", [keys.claim(ask.job_id)], args, once=True)
    except DOWN as error:
        log.debug("no claim", job_id=str(ask.job_id), error=repr(error))
        return "unknown"
    return _WORDS.get(said, "unknown") if isinstance(said, bytes) else "unknown"


async def settle(redis: Redis, ask: Ask, round: int, *, committed: bool) -> None:
    """Mark the own claim committed, or free it for others. Best effort: it lapses by itself."""
    try:
        async with asyncio.timeout(CLAIM_TIMEOUT_S):
            args: list[Argument] = [round, str(ask.user_id), str(ask.accept_id), keys.COMMITTED_MS if committed else 0]
            await redis.call("claim_settle", [keys.claim(ask.job_id)], args, once=True)
    except DOWN as error:
        log.debug("claim not settled", job_id=str(ask.job_id), error=repr(error))
