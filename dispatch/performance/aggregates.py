"""What the office reads of everybody: days, counted again every few minutes by one worker at a time."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson

from dispatch.kit.days import check_range
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Row, Tx
from dispatch.kit.sql import Queries
from dispatch.markets import Markets
from dispatch.performance.rules import outcomes
from protocol import codec
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources.performance import AcceptanceDay, Outcomes, ProviderPerformance

_Q = Queries.beside(__file__)

REST_S = 240.0
"""After the start of a run. Asked every half minute on every worker, so that days are at most five minutes old even when a worker dies."""
SLICE_S = 600.0
DAYS_PER_STEP = 200


class Aggregates:
    """One per worker."""

    def __init__(self, pg: Postgres, markets: Markets) -> None:
        self._pg = pg
        codes = [market.code for market in markets]
        self._zones = (codes, [str(markets[code].timezone) for code in codes])

    async def run(self, *, rest_s: float = REST_S) -> None:
        """Count every day that may have changed, unless somebody began to less than `rest_s` ago. Each step is a transaction: whoever dies leaves
        the rest to the next.
        """
        while await self._step(rest_s):
            pass

    async def _step(self, rest_s: float) -> bool:
        async with self._pg.system() as conn:
            more: bool = await conn.fetchval(_Q["step"], rest_s, SLICE_S, DAYS_PER_STEP, *self._zones)
        return more

    async def acceptance(
        self,
        actor: Actor,
        *,
        first: date,
        last: date,
        provider_id: UUID | None,
        service_type: ServiceType | None,
        limit: int,
        cursor: str | None,
    ) -> bytes:
        """A page of the days from `first` to `last`, both included, per provider and type, newest first. For admins. Raises: BadDateRange."""
        check_range(first, last)
        asked = (first, last, *read_cursor(cursor), limit + 1)
        kind = None if service_type is None else str(service_type)
        async with self._pg.acting(actor) as tx:
            if provider_id is not None:
                rows = await tx.fetch(_Q["acceptance_of_provider"], *asked, provider_id, kind)
            elif kind is not None:
                rows = await tx.fetch(_Q["acceptance_of_type"], *asked, kind)
            else:
                rows = await tx.fetch(_Q["acceptance_all"], *asked)
            return await _dated(tx, rows, [_day(row) for row in rows], limit)

    async def providers(self, actor: Actor, *, limit: int, cursor: str | None) -> bytes:
        """A page of providers, newest first, with what their days come to. For admins."""
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(_Q["providers_counted"], *read_cursor(cursor), limit + 1)
            return await _dated(tx, rows, [_provider(row) for row in rows], limit)


async def _dated(
    tx: Tx, rows: Sequence[Row], items: Sequence[AcceptanceDay | ProviderPerformance], limit: int
) -> bytes:
    """A page of `items`, made of `rows`, that says of when it is."""
    views: list[dict[str, Any]] = [
        {"view": codec.encode(item), "created_at": row["created_at"], "id": row["id"]}
        for row, item in zip(rows, items, strict=True)
    ]
    at: datetime | None = await tx.fetchval(_Q["calculated_at"])
    dated = b"" if at is None else b',"calculated_at":' + orjson.dumps(codec.wire_time(at))
    return page(views, limit)[:-1] + dated + b"}"


def _sums(row: Row) -> Outcomes:
    return outcomes(int(row["offered"]), int(row["accepted"]), int(row["completed"]), int(row["cancelled"]))


def _day(row: Row) -> AcceptanceDay:
    sums = _sums(row)
    return AcceptanceDay(
        provider_id=row["provider_id"],
        service_type=ServiceType(row["service_type"]),
        day=row["day"].isoformat(),
        offered=sums.offered,
        accepted=sums.accepted,
        completed=sums.completed,
        cancelled=sums.cancelled,
        acceptance_rate=sums.acceptance_rate,
        completion_rate=sums.completion_rate,
        cancellation_rate=sums.cancellation_rate,
    )


def _provider(row: Row) -> ProviderPerformance:
    sums = _sums(row)
    return ProviderPerformance(
        provider_id=row["id"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        status=ProviderStatus(row["status"]),
        rating=row["rating"],
        offered=sums.offered,
        accepted=sums.accepted,
        completed=sums.completed,
        cancelled=sums.cancelled,
        acceptance_rate=sums.acceptance_rate,
        completion_rate=sums.completion_rate,
        cancellation_rate=sums.cancellation_rate,
    )
