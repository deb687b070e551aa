"""Rows of wallets."""

from collections.abc import Collection
from uuid import UUID

from dispatch.earnings import last_market
from dispatch.kit.errors import Invalid
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.ledger import Purse
from dispatch.markets import Markets
from dispatch.providers import ProviderMissing
from protocol.lifecycle import ProviderStatus

Q = Queries.beside(__file__)


async def gate(tx: Tx, user_id: UUID) -> tuple[UUID, ProviderStatus]:
    """(provider_id, status), held as they are until the transaction ends. Raises: ProviderMissing."""
    row = await tx.fetchrow(Q["gate"], user_id)
    if row is None or row["provider_id"] is None:
        raise ProviderMissing("this user is no provider")
    return row["provider_id"], ProviderStatus(row["status"])


async def purses(tx: Tx, owner_id: UUID) -> dict[str, Purse]:
    """What he has, by currency, as of this statement; nothing is locked, so nothing may be decided by it."""
    rows = await tx.fetch(Q["purses"], owner_id)
    return {row["asset"]: Purse(owner_id, row["asset"], row["wallet"], row["held"], row["owed"], 0) for row in rows}


async def currency_for(tx: Tx, user_id: UUID, asked: str | None, own: Collection[str], markets: Markets) -> str:
    """The currency that is meant: the one asked for, else what he last earned in, else that of the default market.

    `own` are those he has something in. Raises: Invalid for one that is neither among them nor that of a market.
    """
    if asked is None:
        return (await last_market(tx, user_id, markets)).currency
    served = {market.currency for market in markets}
    if asked not in own and asked not in served:
        problem = f"none of {', '.join(sorted({*own, *served}))}"
        raise Invalid("currency", fields=[{"field": "currency", "problem": problem}])
    return asked
