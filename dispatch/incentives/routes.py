"""HTTP door of incentives."""

from collections.abc import Sequence

from dispatch.incentives.service import Incentives
from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.resources import Page
from protocol.resources.incentives import Incentive, IncentivePatch, IncentiveRequest


def routes(incentives: Incentives) -> Sequence[Route]:
    async def mine(call: Call) -> Answered:
        return Answered(await incentives.page(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def everybodys(call: Call) -> Answered:
        return Answered(await incentives.everybodys(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def create(call: Call) -> Answered:
        answer = await incentives.create(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def change(call: Call) -> Answered:
        return Answered(await incentives.change(call.actor, call.id("id"), call.body))

    return [
        Route(
            "GET",
            "/v1/incentives",
            mine,
            "Programs that run or come, with the own count",
            Page[Incentive],
            query=QUERY,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/incentives",
            everybodys,
            "All programs, newest first",
            Page[Incentive],
            who="admin",
            query=QUERY,
        ),
        Route(
            "POST",
            "/v1/admin/incentives",
            create,
            "Make a program whose tiers pay a bonus",
            Incentive,
            who="admin",
            body=IncentiveRequest,
            status=201,
            errors=(ErrorCode.INVALID_DATE_RANGE,),
            idempotent=True,
        ),
        Route(
            "PATCH",
            "/v1/admin/incentives/{id}",
            change,
            "Change a program; after its start only its name and end",
            Incentive,
            who="admin",
            body=IncentivePatch,
            errors=(ErrorCode.NOT_FOUND, ErrorCode.INVALID_DATE_RANGE, ErrorCode.PROGRAM_STARTED),
        ),
    ]
