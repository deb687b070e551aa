"""Questions of the books' check: is what is held what was asked for, and is anything stuck? For the system role, or whoever sees all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dispatch.kit.postgres import Tx
from dispatch.wallets.store import Q


@dataclass(frozen=True, slots=True)
class HeldOff:
    """`held_minor` lies in payout_pending, `asked_minor` is what pending and processing withdrawals add up to."""

    owner_id: UUID
    currency: str
    held_minor: int
    asked_minor: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """A withdrawal that has been processing for more than 30 minutes."""

    id: UUID
    user_id: UUID
    amount_minor: int
    currency: str
    way: str
    processing_at: datetime
    tries: int
    last_error: str | None


async def held_off(conn: Tx) -> Sequence[HeldOff]:
    """Where the two differ, by owner and currency. None: the books are right."""
    rows = await conn.fetch(Q["held_off"])
    return [HeldOff(row["owner_id"], row["currency"], row["held"], row["asked"]) for row in rows]


async def payouts_stuck(conn: Tx) -> Sequence[Stuck]:
    """Oldest first."""
    return [Stuck(**dict(row)) for row in await conn.fetch(Q["payouts_stuck"])]
