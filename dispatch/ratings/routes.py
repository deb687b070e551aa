"""HTTP door of ratings."""

from collections.abc import Sequence

from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Route
from dispatch.ratings.service import Ratings
from protocol.errors import ErrorCode
from protocol.resources import Page
from protocol.resources.ratings import Rating, RatingRequest, Review


def routes(ratings: Ratings) -> Sequence[Route]:
    async def rate(call: Call) -> Answered:
        answer = await ratings.rate(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    async def mine(call: Call) -> Answered:
        return Answered(await ratings.mine(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def of_provider(call: Call) -> Answered:
        return Answered(
            await ratings.of(call.actor, call.id("id"), limit=call.limit(), cursor=call.query.get("cursor"))
        )

    return [
        Route(
            "POST",
            "/v1/jobs/{id}/rating",
            rate,
            "Rate an own completed job, once, within 14 days",
            Rating,
            body=RatingRequest,
            status=201,
            errors=(
                ErrorCode.JOB_NOT_FOUND,
                ErrorCode.FORBIDDEN,
                ErrorCode.RATING_EXISTS,
                ErrorCode.JOB_NOT_COMPLETED,
                ErrorCode.TOO_LATE,
            ),
            idempotent=True,
        ),
        Route(
            "GET",
            "/v1/providers/me/reviews",
            mine,
            "What customers said of the caller, newest first",
            Page[Review],
            query=QUERY,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}/reviews",
            of_provider,
            "What customers said of a provider, newest first",
            Page[Review],
            who="admin",
            query=QUERY,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
    ]
