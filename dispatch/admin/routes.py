"""HTTP door of administration."""

import unicodedata
from collections.abc import Sequence
from uuid import UUID

from dispatch.admin.office import Office
from dispatch.admin.service import Admin
from dispatch.kit.errors import Invalid
from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Param, Route
from protocol.errors import ErrorCode
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources import AdminActionAnswer, AdminActionRequest, Page, Provider, Role
from protocol.resources.office import (
    Analytics,
    AuditEntry,
    BlockRequest,
    OfficeUser,
    ProviderFile,
    RolesRequest,
    Statistics,
    SystemHealth,
)

SEARCH_MAX = 100


def _search(call: Call) -> str | None:
    """?search=, trimmed. Raises: Invalid."""
    raw = call.query.get("search")
    if raw is None:
        return None
    part = raw.strip()
    if not 1 <= len(part) <= SEARCH_MAX or any(unicodedata.category(sign) == "Cc" for sign in part):
        problem = f"1 to {SEARCH_MAX} characters, without control characters"
        raise Invalid("search", fields=[{"field": "search", "problem": problem}])
    return part


def routes(admin: Admin, office: Office) -> Sequence[Route]:
    async def providers(call: Call) -> Answered:
        return Answered(
            await office.providers(
                call.actor,
                search=_search(call),
                status=call.one_of("status", ProviderStatus),
                service_type=call.one_of("service_type", ServiceType),
                online=call.flag("online"),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    async def provider(call: Call) -> Answered:
        return Answered(await office.provider(call.actor, call.id("id")))

    async def analytics(call: Call) -> Answered:
        return Answered(
            await office.analytics(
                call.actor,
                first=call.day("date_from"),
                last=call.day("date_to"),
                service_type=call.one_of("service_type", ServiceType),
                status=call.one_of("status", ProviderStatus),
            )
        )

    async def users(call: Call) -> Answered:
        return Answered(
            await office.users(
                call.actor,
                search=_search(call),
                role=call.one_of("role", Role),
                blocked=call.flag("blocked"),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    async def user(call: Call) -> Answered:
        return Answered(await office.user(call.actor, call.id("id")))

    async def roles(call: Call) -> Answered:
        body: RolesRequest = call.body
        return Answered(await office.give_roles(call.actor, call.id("id"), body.roles))

    async def block(call: Call) -> Answered:
        body: BlockRequest = call.body
        return Answered(await office.block(call.actor, call.id("id"), True, body.reason))

    async def unblock(call: Call) -> Answered:
        body: BlockRequest = call.body
        return Answered(await office.block(call.actor, call.id("id"), False, body.reason))

    async def health(call: Call) -> Answered:
        return Answered(await office.health(call.actor))

    async def statistics(call: Call) -> Answered:
        return Answered(await office.statistics(call.actor))

    async def audit(call: Call) -> Answered:
        return Answered(
            await office.audit(
                call.actor,
                subject_id=call.one_of("subject_id", UUID),
                actor_id=call.one_of("actor_id", UUID),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    async def act(call: Call) -> Answered:
        body: AdminActionRequest = call.body
        answer = await admin.act(call.actor, call.id("id"), body.action, body.reason, call.key)
        return Answered(answer.body, answer.status)

    no_user = (ErrorCode.USER_NOT_FOUND,)
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
        ),
        Route(
            "GET",
            "/v1/admin/providers",
            providers,
            "Providers, newest first, by any part of name, phone, e-mail or provider_uid",
            Page[Provider],
            who="admin",
            query={
                "search": "part of name, phone, e-mail or provider_uid, in any case",
                "status": Param("only these", ProviderStatus),
                "service_type": Param("only those who do this", ServiceType),
                "online": "true: only those switched on; false: only the others",
                **QUERY,
            },
        ),
        Route(
            "GET",
            "/v1/admin/providers/{id}",
            provider,
            "One provider's record and history",
            ProviderFile,
            who="admin",
            errors=(ErrorCode.PROVIDER_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/admin/analytics",
            analytics,
            "Numbers of a range of days, in Bangkok's days",
            Analytics,
            who="admin",
            query={
                "date_from": "first day, such as 2026-11-01",
                "date_to": "last day, such as 2026-11-30",
                "service_type": Param("only of this service type", ServiceType),
                "status": Param("only of providers in this status", ProviderStatus),
            },
            errors=(ErrorCode.INVALID_DATE_RANGE,),
        ),
        Route(
            "GET",
            "/v1/admin/users",
            users,
            "Users, newest first, by any part of name, phone or e-mail",
            Page[OfficeUser],
            who="admin",
            query={
                "search": "part of name, phone or e-mail, in any case",
                "role": Param("only those whom an admin gave this role", Role),
                "blocked": "true: only blocked ones; false: only the others",
                **QUERY,
            },
        ),
        Route("GET", "/v1/admin/users/{id}", user, "One user", OfficeUser, who="admin", errors=no_user),
        Route(
            "PUT",
            "/v1/admin/users/{id}/roles",
            roles,
            "Give a user roles, whatever his token says; without any: as it says",
            OfficeUser,
            who="admin",
            body=RolesRequest,
            errors=no_user,
        ),
        Route(
            "POST",
            "/v1/admin/users/{id}/block",
            block,
            "Shut a user out: his sessions end, his sockets close",
            OfficeUser,
            who="admin",
            body=BlockRequest,
            errors=(*no_user, ErrorCode.REASON_REQUIRED),
        ),
        Route(
            "POST",
            "/v1/admin/users/{id}/unblock",
            unblock,
            "Let a user in again",
            OfficeUser,
            who="admin",
            body=BlockRequest,
            errors=no_user,
        ),
        Route("GET", "/v1/admin/health", health, "Who is alive, and what waits", SystemHealth, who="admin"),
        Route("GET", "/v1/admin/statistics", statistics, "How things stand now", Statistics, who="admin"),
        Route(
            "GET",
            "/v1/admin/audit",
            audit,
            "What admins did, newest first",
            Page[AuditEntry],
            who="admin",
            query={"subject_id": "only what was done to this", "actor_id": "only what this one did", **QUERY},
        ),
    ]
