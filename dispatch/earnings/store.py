"""Rows of earnings."""

from uuid import UUID

from dispatch.earnings.model import Row
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.markets import Market, Markets
from dispatch.providers import ProviderMissing
from protocol.resources import PaymentMethod

Q = Queries.beside(__file__)


async def add(tx: Tx, row: Row, txn_id: int | None, zone: str) -> bytes:
    """Write `row` with its posting, dated in the time zone `zone`; its wire form. The wallet is locked by the caller."""
    view: bytes = await tx.fetchval(
        Q["earnings_add"],
        row.id,
        row.provider_id,
        row.user_id,
        row.kind,
        row.job_id,
        row.market,
        row.service_type,
        row.payment_method,
        row.currency,
        row.base_minor,
        row.distance_minor,
        row.time_minor,
        row.surge_minor,
        row.tip_minor,
        row.bonus_minor,
        row.adjustment_minor,
        row.gross_minor,
        row.platform_fee_minor,
        row.net_minor,
        row.incentive_id,
        row.reverses_id,
        row.reason,
        txn_id,
        zone,
        row.credited_minor,
    )
    return view


async def read(tx: Tx, earning_id: UUID) -> tuple[Row, int | None] | None:
    """A row and its posting. Rows are never changed: what is read is so for ever."""
    found = await tx.fetchrow(Q["earning_row"], earning_id)
    if found is None:
        return None
    fields = dict(found)
    txn: int | None = fields.pop("ledger_txn_id")
    credited: int = fields.pop("credited_minor")
    cash = fields["payment_method"] == PaymentMethod.CASH
    return Row(**fields, taken_minor=-credited if cash else 0), txn


async def earner(tx: Tx, *, user_id: UUID | None = None, provider_id: UUID | None = None) -> tuple[UUID, UUID]:
    """(provider_id, user_id) of a provider. Raises: ProviderMissing."""
    found = await tx.fetchrow(Q["earner"], user_id, provider_id)
    if found is None:
        raise ProviderMissing(f"no provider {provider_id or user_id}")
    return found["id"], found["user_id"]


async def last_market(tx: Tx, user_id: UUID, markets: Markets) -> Market:
    """The market that `user_id` earned in last, whose day and currency are his; the default one while he has earned nothing."""
    currencies = sorted({market.currency for market in markets})
    code: str | None = await tx.fetchval(Q["last_market"], user_id, currencies)
    found = None if code is None else markets.get(code)
    return markets.default if found is None else found
