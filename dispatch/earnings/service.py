"""Reading what was earned: totals, days, single earnings, and what a trip would bring."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import orjson

from dispatch.earnings import rules, store
from dispatch.earnings.model import PaidOut, Span
from dispatch.jobs import JobMissing, seen
from dispatch.kit.errors import Invalid
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Row, Tx
from dispatch.markets import Market, Markets
from protocol.resources.money import FareRequest, Period


@dataclass(frozen=True, slots=True)
class Asked:
    """Which days, and of which currency, as somebody asks for them: a period around a day, or both ends of a range."""

    period: Period | None = None
    day: date | None = None
    first: date | None = None
    last: date | None = None
    currency: str | None = None


class Earnings:
    """One per worker. An admin names a provider; without one everybody reads his own."""

    def __init__(self, pg: Postgres, markets: Markets, paid_out: PaidOut) -> None:
        self._pg = pg
        self._markets = markets
        self._paid_out = paid_out

    async def calculate(self, actor: Actor, request: FareRequest) -> bytes:
        """What a trip of this job would bring with these measures, by its market's tariff. Raises: JobMissing."""
        async with self._pg.acting(actor) as tx:
            job = await seen(tx, request.job_id)
        if job is None:
            raise JobMissing(f"no job {request.job_id}")
        return orjson.dumps(
            rules.calculated(
                self._markets[job.market], request.distance_m, request.duration_s, request.surge_multiplier
            )
        )

    async def overview(self, actor: Actor, asked: Asked, provider_id: UUID | None = None) -> bytes:
        """Sums of some days, per service type, and of the whole life. Raises: ProviderMissing, BadDateRange, Invalid."""
        async with self._pg.acting(actor) as tx:
            user_id, span = await self._span(tx, actor, asked, provider_id)
            sums: bytes = await tx.fetchval(
                store.Q["overview"], user_id, span.currency, span.first, span.last, span.zone
            )
        return sums

    async def chart(self, actor: Actor, asked: Asked) -> bytes:
        """One point for each day. Raises: ProviderMissing, BadDateRange, Invalid."""
        async with self._pg.acting(actor) as tx:
            user_id, span = await self._span(tx, actor, asked, None)
            points: bytes = await tx.fetchval(
                store.Q["chart"], user_id, span.currency, span.first, span.last, span.zone
            )
        return points

    async def items(
        self, actor: Actor, asked: Asked, *, limit: int, cursor: str | None, provider_id: UUID | None = None
    ) -> bytes:
        """Single earnings, newest first. Raises: ProviderMissing, BadDateRange, Invalid."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            user_id, span = await self._span(tx, actor, asked, provider_id)
            rows = await tx.fetch(store.Q["items"], user_id, span.currency, span.first, span.last, *before, limit + 1)
            marked = await self._marked(tx, user_id, span.currency, rows)
        return page(marked, limit)

    async def _marked(self, tx: Tx, user_id: UUID, currency: str, rows: list[Row]) -> list[dict[str, object]]:
        """The rows, each that brought him money with whether that has been paid out, and by which withdrawal."""
        brought = [row["credited_upto"] for row in rows if row["credited_minor"] > 0]
        payouts = (
            await self._paid_out.payouts(tx, user_id, currency, lowest_minor=min(brought), highest_minor=max(brought))
            if brought
            else ()
        )
        marked = []
        for row in rows:
            view: bytes = row["view"]
            if row["credited_minor"] > 0:
                payout = rules.payout_of(row["credited_upto"], payouts)
                by = b"false" if payout is None else b'true,"payout_id":"' + str(payout).encode() + b'"'
                view = view[:-1] + b',"paid_out":' + by + b"}"
            marked.append({"view": view, "created_at": row["created_at"], "id": row["id"]})
        return marked

    async def _span(self, tx: Tx, actor: Actor, asked: Asked, provider_id: UUID | None) -> tuple[UUID, Span]:
        _, user_id = await store.earner(
            tx, user_id=actor.user_id if provider_id is None else None, provider_id=provider_id
        )
        market = self._market(asked.currency, await store.last_market(tx, user_id, self._markets))
        now: datetime = await tx.fetchval(store.Q["moment"])
        today = now.astimezone(market.timezone).date()
        first, last = rules.days_of(asked.period, asked.day, asked.first, asked.last, today)
        return user_id, Span(first, last, market.currency, str(market.timezone))

    def _market(self, currency: str | None, home: Market) -> Market:
        """Whose days and money are meant: the market that he earned in last, unless another currency is asked for."""
        if currency is None or currency == home.currency:
            return home
        return market_of(self._markets, currency)


def market_of(markets: Markets, currency: str) -> Market:
    """The market that stands for a currency: the default one, else the first by its code. Raises: Invalid."""
    known: tuple[Market, ...] = (markets.default, *markets)
    for market in known:
        if market.currency == currency:
            return market
    raise Invalid("currency", fields=[{"field": "currency", "problem": "no market has this currency"}])
