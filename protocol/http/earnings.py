"""Typed calls: what was earned, tips, and the office's corrections."""

from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.resources.money import Period

if TYPE_CHECKING:
    from protocol.http import Http

MINE = "/v1/providers/me/earnings"


class EarningCalls:
    """The calls of one `Http`, as its attribute `earnings`. Days: a period around a day (today), or both ends of a range."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def calculate(
        self, job_id: UUID | str, *, distance_m: float, duration_s: float, surge_multiplier: float = 1.0
    ) -> dict[str, Any]:
        """The Calculation. Nothing is posted."""
        fields = {
            "job_id": str(job_id),
            "distance_m": distance_m,
            "duration_s": duration_s,
            "surge_multiplier": surge_multiplier,
        }
        return await self._call("POST", "/v1/earnings/calculate", fields)

    async def overview(
        self,
        period: Period | None = None,
        day: date | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
        currency: str | None = None,
        provider_id: UUID | str | None = None,
    ) -> dict[str, Any]:
        """The EarningsOverview; for admins with `provider_id` anybody's."""
        path = MINE if provider_id is None else f"/v1/admin/providers/{provider_id}/earnings"
        return await self._call("GET", path, params=_span(period, day, first, last, currency))

    async def chart(
        self,
        period: Period | None = None,
        day: date | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
        currency: str | None = None,
    ) -> dict[str, Any]:
        """The EarningsChart."""
        return await self._call("GET", f"{MINE}/chart", params=_span(period, day, first, last, currency))

    async def items(
        self,
        period: Period | None = None,
        day: date | None = None,
        *,
        first: date | None = None,
        last: date | None = None,
        currency: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        provider_id: UUID | str | None = None,
    ) -> dict[str, Any]:
        """A page of Earnings, newest first; for admins with `provider_id` anybody's."""
        path = MINE if provider_id is None else f"/v1/admin/providers/{provider_id}/earnings"
        params = _span(period, day, first, last, currency) | {"limit": limit, "cursor": cursor}
        return await self._call("GET", f"{path}/items", params=params)

    async def tip(
        self, job_id: UUID | str, amount_minor: int, *, currency: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """The Tip. For the customer of a completed job, once."""
        fields = {"amount_minor": amount_minor, "currency": currency}
        return await self._call("POST", f"/v1/jobs/{job_id}/tip", fields, key=key)

    async def adjust(
        self,
        provider_id: UUID | str,
        amount_minor: int,
        currency: str,
        reason: str | None,
        *,
        job_id: UUID | str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """For admins: the Earning that corrects."""
        about = None if job_id is None else str(job_id)
        fields = {"amount_minor": amount_minor, "currency": currency, "reason": reason, "job_id": about}
        return await self._call("POST", f"/v1/admin/providers/{provider_id}/adjustments", fields, key=key)

    async def reverse(self, earning_id: UUID | str, reason: str | None, *, key: str | None = None) -> dict[str, Any]:
        """For admins: the Earning that takes another back."""
        return await self._call("POST", f"/v1/admin/earnings/{earning_id}/reverse", {"reason": reason}, key=key)


def _span(
    period: Period | None, day: date | None, first: date | None, last: date | None, currency: str | None
) -> dict[str, object]:
    return {"period": period, "date": day, "from": first, "to": last, "currency": currency}
