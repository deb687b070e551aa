"""HTTP door of performance."""

from collections.abc import Sequence
from uuid import UUID

from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Param, Route
from dispatch.performance.aggregates import Aggregates
from dispatch.performance.service import Performances
from protocol.errors import ErrorCode
from protocol.lifecycle import ServiceType
from protocol.resources.performance import AcceptancePage, Dashboard, Performance, ProviderPerformancePage


def routes(performances: Performances, aggregates: Aggregates) -> Sequence[Route]:
    async def mine(call: Call) -> Answered:
        return Answered(await performances.mine(call.actor, call.locale))

    async def dashboard(call: Call) -> Answered:
        return Answered(await performances.dashboard(call.actor))

    async def of_provider(call: Call) -> Answered:
        return Answered(await performances.of(call.actor, call.id("id"), call.locale))

    async def everybodys(call: Call) -> Answered:
        return Answered(await aggregates.providers(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def acceptance(call: Call) -> Answered:
        return Answered(
            await aggregates.acceptance(
                call.actor,
                first=call.day("from"),
                last=call.day("to"),
                provider_id=call.one_of("provider_id", UUID),
                service_type=call.one_of("service_type", ServiceType),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    missing = (ErrorCode.PROVIDER_NOT_FOUND,)
    return [
        Route(
            "GET",
            "/v1/providers/me/performance",
            mine,
            "How the caller does as a provider: rates, ratings and warnings, counted now",
            Performance,
            errors=missing,
        ),
        Route(
            "GET",
            "/v1/providers/me/dashboard",
            dashboard,
            "What an approved provider sees first: today's earnings, rates, his job, what there is to take",
            Dashboard,
            errors=(*missing, ErrorCode.PROVIDER_NOT_APPROVED, ErrorCode.PROVIDER_SUSPENDED),
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}/performance",
            of_provider,
            "How a provider does, counted now",
            Performance,
            who="admin",
            errors=missing,
        ),
        Route(
            "GET",
            "/v1/admin/performance",
            everybodys,
            "How every provider does, newest provider first, at most five minutes old",
            ProviderPerformancePage,
            who="admin",
            query=QUERY,
        ),
        Route(
            "GET",
            "/v1/admin/acceptance",
            acceptance,
            "What became of offers, per provider, service type and day of the offer, newest day first, at most five minutes old",
            AcceptancePage,
            who="admin",
            query={
                "from": "the first day, such as 2026-11-20, in the market's time zone",
                "to": "the last day; a range has at most 366",
                "provider_id": "of this provider only",
                "service_type": Param("of this service type only", ServiceType),
                **QUERY,
            },
            errors=(ErrorCode.INVALID_DATE_RANGE,),
        ),
    ]
