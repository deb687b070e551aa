"""Nouns of payouts."""

from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Payout:
    """What is to be paid. `id` is the withdrawal's, and the key under which it is paid once; the number shows in no log."""

    id: UUID
    amount_minor: int
    currency: str
    bank_code: str
    account_number: str = field(repr=False)
    account_name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """A clear answer. `paid` has a transaction_id; `failed`: it was not paid and never will be; `pending`: it is with the bank."""

    status: Literal["paid", "failed", "pending"]
    transaction_id: str | None = None
    reason: str | None = None


class Unclear(Exception):
    """No clear answer: it may have been paid, or may yet be. The text is for operators: no number, no secret."""


class PayoutDoor(Protocol):
    """A service that pays. One conformance suite serves all of them."""

    async def submit(self, payout: Payout) -> Said:
        """Pay, once per id however often it is asked. The caller bounds the time. Raises: Unclear, and anything else for trouble on the way."""

    async def query(self, payout_id: UUID) -> Said | None:
        """What has become of it. None: it never arrived, and may be submitted again. Raises as `submit`."""

    async def close(self) -> None:
        """Let go of connections. Idempotent."""
