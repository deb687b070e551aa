"""Rows of earnings."""

from dispatch.earnings.model import Row
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries

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
    )
    return view
