"""HTTP door of earnings."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date

from dispatch.earnings.corrections import Corrections
from dispatch.earnings.service import Asked, Earnings
from dispatch.earnings.tips import Tips
from dispatch.kit.errors import BadDateRange, Invalid
from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Param, Route
from protocol.errors import ErrorCode
from protocol.resources import Page
from protocol.resources.money import (
    AdjustmentRequest,
    Calculation,
    Earning,
    EarningsChart,
    EarningsOverview,
    FareRequest,
    Period,
    ReversalRequest,
    Tip,
    TipRequest,
)

_Handler = Callable[[Call], Awaitable[Answered]]
_SPAN: dict[str, str | Param] = {
    "period": Param("a day, a week from Monday on, or a month; day unless told", Period),
    "date": "a day of that period, such as 2026-11-20; today unless told",
    "from": "first day of a range instead, such as 2026-11-01",
    "to": "last day of that range, 366 days at most",
    "currency": "such as THB; that of the market where he earned last unless told",
}


def _day(call: Call, name: str) -> date | None:
    raw = call.query.get(name)
    if raw is None:
        return None
    try:
        day = date.fromisoformat(raw)
        if day.isoformat() != raw:
            raise ValueError("another spelling")
    except ValueError as error:
        raise BadDateRange(
            f"{name}: a day such as 2026-11-20", fields=[{"field": name, "problem": "no day"}]
        ) from error
    return day


def _asked(call: Call) -> Asked:
    currency = call.query.get("currency")
    if currency is not None and not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise Invalid("currency", fields=[{"field": "currency", "problem": "three capitals"}])
    return Asked(
        period=call.one_of("period", Period),
        day=_day(call, "date"),
        first=_day(call, "from"),
        last=_day(call, "to"),
        currency=currency,
    )


def routes(earnings: Earnings, tips: Tips, corrections: Corrections) -> Sequence[Route]:
    async def calculate(call: Call) -> Answered:
        return Answered(await earnings.calculate(call.actor, call.body))

    async def overview(call: Call) -> Answered:
        return Answered(await earnings.overview(call.actor, _asked(call)))

    async def chart(call: Call) -> Answered:
        return Answered(await earnings.chart(call.actor, _asked(call)))

    async def items(call: Call) -> Answered:
        return Answered(
            await earnings.items(call.actor, _asked(call), limit=call.limit(), cursor=call.query.get("cursor"))
        )

    async def overview_of(call: Call) -> Answered:
        return Answered(await earnings.overview(call.actor, _asked(call), call.id("id")))

    async def items_of(call: Call) -> Answered:
        return Answered(
            await earnings.items(
                call.actor,
                _asked(call),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
                provider_id=call.id("id"),
            )
        )

    async def tip(call: Call) -> Answered:
        answer = await tips.give(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    async def adjust(call: Call) -> Answered:
        answer = await corrections.adjust(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    async def reverse(call: Call) -> Answered:
        body: ReversalRequest = call.body
        answer = await corrections.reverse(call.actor, call.id("id"), body.reason, call.key)
        return Answered(answer.body, answer.status)

    return [
        Route(
            "POST",
            "/v1/earnings/calculate",
            calculate,
            "What a trip would bring; nothing is posted",
            Calculation,
            body=FareRequest,
            errors=(ErrorCode.JOB_NOT_FOUND,),
        ),
        *_reading("/v1/providers/me/earnings", overview, chart, items),
        Route(
            "GET",
            "/v1/admin/providers/{id}/earnings",
            overview_of,
            "Sums of a provider's earnings",
            EarningsOverview,
            who="admin",
            query=_SPAN,
            errors=(ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.INVALID_DATE_RANGE),
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}/earnings/items",
            items_of,
            "A provider's single earnings, newest first",
            Page[Earning],
            who="admin",
            query={**_SPAN, **QUERY},
            errors=(ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.INVALID_DATE_RANGE),
        ),
        Route(
            "POST",
            "/v1/jobs/{id}/tip",
            tip,
            "Tip the provider of an own completed job, once, within seven days",
            Tip,
            body=TipRequest,
            status=201,
            errors=(
                ErrorCode.JOB_NOT_FOUND,
                ErrorCode.JOB_NOT_COMPLETED,
                ErrorCode.TOO_LATE,
                ErrorCode.TIP_EXISTS,
            ),
            idempotent=True,
            key_required=True,
        ),
        Route(
            "POST",
            "/v1/admin/providers/{id}/adjustments",
            adjust,
            "Correct what a provider has, up or down; he is told",
            Earning,
            who="admin",
            body=AdjustmentRequest,
            status=201,
            errors=(
                ErrorCode.REASON_REQUIRED,
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.JOB_NOT_FOUND,
                ErrorCode.INSUFFICIENT_BALANCE,
            ),
            idempotent=True,
            key_required=True,
        ),
        Route(
            "POST",
            "/v1/admin/earnings/{id}/reverse",
            reverse,
            "Take an earning back, once; its provider is told",
            Earning,
            who="admin",
            body=ReversalRequest,
            status=201,
            errors=(
                ErrorCode.REASON_REQUIRED,
                ErrorCode.NOT_FOUND,
                ErrorCode.ALREADY_REVERSED,
                ErrorCode.INSUFFICIENT_BALANCE,
            ),
            idempotent=True,
            key_required=True,
        ),
    ]


def _reading(path: str, overview: _Handler, chart: _Handler, items: _Handler) -> list[Route]:
    errors = (ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.INVALID_DATE_RANGE)
    return [
        Route("GET", path, overview, "Sums of the own earnings", EarningsOverview, query=_SPAN, errors=errors),
        Route("GET", f"{path}/chart", chart, "The own earnings day by day", EarningsChart, query=_SPAN, errors=errors),
        Route(
            "GET",
            f"{path}/items",
            items,
            "The own earnings one by one, newest first",
            Page[Earning],
            query={**_SPAN, **QUERY},
            errors=errors,
        ),
    ]
