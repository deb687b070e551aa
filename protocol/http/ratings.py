"""Typed calls: ratings and reviews."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from protocol.http import Http


class RatingCalls:
    """The calls of one `Http`, as its attribute `ratings`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def rate(
        self, job_id: UUID | str, score: int, comment: str | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """The new Rating of an own completed job."""
        return await self._call("POST", f"/v1/jobs/{job_id}/rating", {"score": score, "comment": comment}, key=key)

    async def reviews(self, *, limit: int | None = None, cursor: str | None = None) -> dict[str, Any]:
        """A page of the Reviews of the caller."""
        return await self._call("GET", "/v1/providers/me/reviews", params={"limit": limit, "cursor": cursor})

    async def reviews_of(
        self, provider_id: UUID | str, *, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of anybody's Reviews, for admins."""
        params = {"limit": limit, "cursor": cursor}
        return await self._call("GET", f"/v1/admin/providers/{provider_id}/reviews", params=params)
