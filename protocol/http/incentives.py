"""Typed calls: incentive programs."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from protocol.http import Http


class IncentiveCalls:
    """The calls of one `Http`, as its attribute `incentives`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def mine(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of Incentives that run or come, with the own count."""
        return await self._call("GET", "/v1/incentives", params={"limit": limit, "cursor": cursor})

    async def all(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """For admins: a page of all Incentives."""
        return await self._call("GET", "/v1/admin/incentives", params={"limit": limit, "cursor": cursor})

    async def create(self, *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        """For admins: the new Incentive. `fields`: those of IncentiveRequest, in the words of the wire."""
        return await self._call("POST", "/v1/admin/incentives", fields, key=key)

    async def change(self, program_id: UUID | str, **fields: Any) -> dict[str, Any]:
        """For admins: the Incentive with these fields changed."""
        return await self._call("PATCH", f"/v1/admin/incentives/{program_id}", fields)
