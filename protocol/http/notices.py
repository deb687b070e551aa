"""Typed calls: the notification centre, push devices, and deliveries for admins."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from protocol.notices import Channel, DeliveryStatus

if TYPE_CHECKING:
    from protocol.http import Http


class NoticeCalls:
    """The calls of one `Http`, as its attribute `notices`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def page(
        self, *, unread: bool | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of own notifications: {"items", "next_cursor"?}."""
        flag = None if unread is None else str(unread).lower()
        return await self._call("GET", "/v1/notifications", params={"unread": flag, "limit": limit, "cursor": cursor})

    async def unread_count(self) -> int:
        return int((await self._call("GET", "/v1/notifications/unread_count"))["unread"])

    async def read(self, notification_id: UUID | str) -> dict[str, Any]:
        """The Notification, read."""
        return await self._call("POST", f"/v1/notifications/{notification_id}/read")

    async def read_all(self) -> int:
        """How many were unread."""
        return int((await self._call("POST", "/v1/notifications/read-all"))["read"])

    async def register_fcm(self, token: str, *, name: str | None = None, key: str | None = None) -> dict[str, Any]:
        """The Device."""
        return await self._call("POST", "/v1/devices", {"kind": "fcm", "token": token, "name": name}, key=key)

    async def register_webpush(
        self, subscription: dict[str, Any], *, name: str | None = None, key: str | None = None
    ) -> dict[str, Any]:
        """The Device. `subscription` is what the browser's toJSON() gives."""
        body = {"kind": "webpush", "subscription": subscription, "name": name}
        return await self._call("POST", "/v1/devices", body, key=key)

    async def devices(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self._call("GET", "/v1/devices"))["items"]
        return items

    async def drop_device(self, device_id: UUID | str) -> None:
        await self._call("DELETE", f"/v1/devices/{device_id}")

    # --- admins

    async def deliveries(
        self,
        *,
        status: DeliveryStatus | None = None,
        channel: Channel | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of Deliveries."""
        params = {"status": status, "channel": channel, "limit": limit, "cursor": cursor}
        return await self._call("GET", "/v1/admin/deliveries", params=params)

    async def requeue(self, delivery_id: UUID | str, *, key: str | None = None) -> dict[str, Any]:
        """Send a dead or skipped one again: {"id", "status"}."""
        return await self._call("POST", f"/v1/admin/deliveries/{delivery_id}/requeue", key=key)
