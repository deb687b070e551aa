"""Typed calls: what admins do."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources import Role
from protocol.tickets import TicketStatus

if TYPE_CHECKING:
    from protocol.http import Http


class OfficeCalls:
    """The calls of one `Http`, as its attribute `office`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def providers(
        self,
        *,
        search: str | None = None,
        status: ProviderStatus | None = None,
        service_type: ServiceType | None = None,
        online: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of Providers, newest first."""
        params = {
            "search": search,
            "status": status,
            "service_type": service_type,
            "online": None if online is None else str(online).lower(),
            "limit": limit,
            "cursor": cursor,
        }
        return await self._call("GET", "/v1/admin/providers", params=params)

    async def provider(self, provider_id: UUID | str) -> dict[str, Any]:
        """{"provider", "history", "active_job_id"?}."""
        return await self._call("GET", f"/v1/admin/providers/{provider_id}")

    async def analytics(
        self,
        first: date,
        last: date,
        *,
        service_type: ServiceType | None = None,
        status: ProviderStatus | None = None,
    ) -> dict[str, Any]:
        """Analytics of the days from `first` to `last`."""
        params = {"date_from": first, "date_to": last, "service_type": service_type, "status": status}
        return await self._call("GET", "/v1/admin/analytics", params=params)

    async def statistics(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/admin/statistics")

    async def audit(
        self,
        *,
        subject_id: UUID | str | None = None,
        actor_id: UUID | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of AuditEntries, newest first."""
        params = {"subject_id": subject_id, "actor_id": actor_id, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/admin/audit", params=params)

    async def users(
        self,
        *,
        search: str | None = None,
        role: Role | None = None,
        blocked: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of OfficeUsers, newest first."""
        flag = None if blocked is None else str(blocked).lower()
        params = {"search": search, "role": role, "blocked": flag, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/admin/users", params=params)

    async def user(self, user_id: UUID | str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/admin/users/{user_id}")

    async def give_roles(self, user_id: UUID | str, roles: Sequence[Role] | None) -> dict[str, Any]:
        """None: as his token says."""
        return await self._call("PUT", f"/v1/admin/users/{user_id}/roles", {"roles": roles})

    async def block(self, user_id: UUID | str, reason: str | None) -> dict[str, Any]:
        return await self._call("POST", f"/v1/admin/users/{user_id}/block", {"reason": reason})

    async def unblock(self, user_id: UUID | str) -> dict[str, Any]:
        return await self._call("POST", f"/v1/admin/users/{user_id}/unblock", {})

    async def health(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/admin/health")

    async def tickets(
        self, *, status: TicketStatus | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of everybody's tickets."""
        params = {"status": status, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/admin/tickets", params=params)

    async def answer(self, ticket_id: UUID | str, body: str, *, key: str | None = None) -> dict[str, Any]:
        """Reply to a ticket as the office."""
        return await self._call("POST", f"/v1/admin/tickets/{ticket_id}/replies", {"body": body}, key=key)

    async def move_ticket(self, ticket_id: UUID | str, status: TicketStatus) -> dict[str, Any]:
        return await self._call("POST", f"/v1/admin/tickets/{ticket_id}/status", {"status": status})
