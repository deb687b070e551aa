"""Typed calls: support tickets."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.tickets import TicketCategory, TicketStatus

if TYPE_CHECKING:
    from protocol.http import Http


class SupportCalls:
    """The calls of one `Http`, as its attribute `support`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def open(
        self,
        category: TicketCategory,
        subject: str,
        body: str,
        *,
        job_id: UUID | str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The new SupportTicket."""
        job = None if job_id is None else str(job_id)
        fields = {"category": category, "subject": subject, "body": body, "job_id": job}
        return await self._call("POST", "/v1/support/tickets", fields, key=key)

    async def ticket(self, ticket_id: UUID | str) -> dict[str, Any]:
        """The SupportTicket with its replies."""
        return await self._call("GET", f"/v1/support/tickets/{ticket_id}")

    async def tickets(
        self, *, status: TicketStatus | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of own tickets."""
        params = {"status": status, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/support/tickets", params=params)

    async def reply(self, ticket_id: UUID | str, body: str, *, key: str | None = None) -> dict[str, Any]:
        return await self._call("POST", f"/v1/support/tickets/{ticket_id}/replies", {"body": body}, key=key)
