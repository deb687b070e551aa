"""HTTP door of verification."""

from collections.abc import Sequence

from dispatch.kit.route import Answered, Call, Route
from dispatch.providers.review.service import Review
from protocol.errors import ErrorCode
from protocol.resources import Page, papers

_PAGE = {"limit": "1-100, 50 unless told", "cursor": "next_cursor of the page before"}


def routes(review: Review) -> Sequence[Route]:
    async def document(call: Call) -> Answered:
        answer = await review.document(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    async def vehicle(call: Call) -> Answered:
        answer = await review.vehicle(call.actor, call.id("id"), call.body, call.key)
        return Answered(answer.body, answer.status)

    async def queue(call: Call) -> Answered:
        return Answered(await review.queue(call.actor, limit=call.limit(), cursor=call.query.get("cursor")))

    async def onboarding(call: Call) -> Answered:
        return Answered(await review.onboarding(call.actor))

    return [
        Route(
            "GET",
            "/v1/providers/me/onboarding",
            onboarding,
            "Where the own application stands, step by step, and what is missing",
            papers.Onboarding,
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/verification",
            queue,
            "Providers with documents or vehicles to verify, the oldest submission first",
            Page[papers.PendingPapers],
            who="admin",
            query=_PAGE,
        ),
        Route(
            "POST",
            "/v1/admin/documents/{id}/review",
            document,
            "Approve or reject a document that waits",
            papers.Document,
            who="admin",
            body=papers.ReviewRequest,
            errors=(
                ErrorCode.DOCUMENT_NOT_FOUND,
                ErrorCode.REASON_REQUIRED,
                ErrorCode.DOCUMENT_ALREADY_VERIFIED,
                ErrorCode.INVALID_STATUS_TRANSITION,
            ),
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/admin/vehicles/{id}/review",
            vehicle,
            "Approve or reject a vehicle that waits",
            papers.OwnVehicle,
            who="admin",
            body=papers.ReviewRequest,
            errors=(
                ErrorCode.VEHICLE_NOT_FOUND,
                ErrorCode.REASON_REQUIRED,
                ErrorCode.CONCURRENT_MODIFICATION,
                ErrorCode.INVALID_STATUS_TRANSITION,
            ),
            idempotent=True,
        ),
    ]
