"""Typed calls: how a provider does."""

from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.lifecycle import ServiceType

if TYPE_CHECKING:
    from protocol.http import Http


class PerformanceCalls:
    """The calls of one `Http`, as its attribute `performance`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def mine(self) -> dict[str, Any]:
        """The caller's Performance, counted now."""
        return await self._call("GET", "/v1/providers/me/performance")

    async def dashboard(self) -> dict[str, Any]:
        return await self._call("GET", "/v1/providers/me/dashboard")

    async def of(self, provider_id: UUID | str) -> dict[str, Any]:
        """Anybody's Performance, counted now, for admins."""
        return await self._call("GET", f"/v1/admin/providers/{provider_id}/performance")

    async def everybodys(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of providers with what their days come to."""
        return await self._call("GET", "/v1/admin/performance", params={"limit": limit, "cursor": cursor})

    async def acceptance(
        self,
        first: date,
        last: date,
        *,
        provider_id: UUID | str | None = None,
        service_type: ServiceType | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of AcceptanceDays from `first` to `last`, newest day first."""
        params = {
            "from": first,
            "to": last,
            "provider_id": provider_id,
            "service_type": service_type,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._call("GET", "/v1/admin/acceptance", params=params)
