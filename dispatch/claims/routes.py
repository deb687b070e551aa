"""HTTP door of claims."""

from collections.abc import Sequence

from dispatch.claims.service import Claims
from dispatch.kit.ids import new_id
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.resources import AcceptAnswer, AcceptRequest

_ERRORS = (
    ErrorCode.JOB_NOT_FOUND,
    ErrorCode.OFFER_NOT_FOUND,
    ErrorCode.JOB_NOT_AVAILABLE,
    ErrorCode.PROVIDER_HAS_ACTIVE_JOB,
    ErrorCode.PROVIDER_NOT_APPROVED,
    ErrorCode.PROVIDER_SUSPENDED,
    ErrorCode.PROVIDER_OFFLINE,
    ErrorCode.PROVIDER_NOT_FOUND,
    ErrorCode.SERVICE_TYPE_MISMATCH,
    ErrorCode.DOCUMENTS_INCOMPLETE,
    ErrorCode.VEHICLE_REQUIRED,
    ErrorCode.DEBT_LIMIT,
    ErrorCode.LOCATION_REQUIRED,
    ErrorCode.BUSY,
)


def routes(claims: Claims) -> Sequence[Route]:
    async def accept(call: Call) -> Answered:
        body: AcceptRequest = call.body
        # Without a key nobody can ask again, but the accept itself needs a name.
        key = call.key or str(new_id())
        won = await claims.accept(call.actor, call.id("id"), body.offer_id, body.round, key)
        return Answered(b'{"success":true,"job":%b,"navigation_url":"%b"}' % (won.job, won.navigation_url.encode()))

    return [
        Route(
            "POST",
            "/v1/jobs/{id}/accept",
            accept,
            "Take a job: exactly one of all who try gets it. The same path as the socket's accept",
            AcceptAnswer,
            body=AcceptRequest,
            errors=_ERRORS,
            idempotent=True,
        )
    ]
