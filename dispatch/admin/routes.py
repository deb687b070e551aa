"""HTTP door of administration."""

from collections.abc import Sequence

from dispatch.admin.service import Admin
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.resources import AdminActionAnswer, AdminActionRequest


def routes(admin: Admin) -> Sequence[Route]:
    async def act(call: Call) -> Answered:
        body: AdminActionRequest = call.body
        answer = await admin.act(call.actor, call.id("id"), body.action, body.reason, call.key)
        return Answered(answer.body, answer.status)

    return [
        Route(
            "POST",
            "/v1/admin/providers/{id}/actions",
            act,
            "Approve, reject, suspend or reactivate a provider",
            AdminActionAnswer,
            who="admin",
            body=AdminActionRequest,
            errors=(
                ErrorCode.PROVIDER_NOT_FOUND,
                ErrorCode.INVALID_STATUS_TRANSITION,
                ErrorCode.REASON_REQUIRED,
                ErrorCode.EMAIL_NOT_VERIFIED,
                ErrorCode.DOCUMENTS_INCOMPLETE,
            ),
            idempotent=True,
        )
    ]
