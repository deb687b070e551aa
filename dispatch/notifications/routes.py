"""HTTP doors of the notification centre, of push devices, and of deliveries for admins."""

from collections.abc import Sequence

import orjson

from dispatch.kit.route import Answered, Call, Route
from dispatch.notifications.service import Centre, DeadLetters
from protocol.errors import ErrorCode
from protocol.notices import Channel, DeliveryStatus
from protocol.resources import Page
from protocol.resources.notices import (
    Delivery,
    Device,
    DeviceRequest,
    Devices,
    Notification,
    ReadAll,
    Requeued,
    UnreadCount,
)

_PAGE = {"limit": "1-100, 50 unless told", "cursor": "next_cursor of the page before"}


def routes(centre: Centre, dead_letters: DeadLetters) -> Sequence[Route]:
    async def page(call: Call) -> Answered:
        unread = call.flag("unread") or False
        return Answered(
            await centre.page(call.actor, unread=unread, limit=call.limit(), cursor=call.query.get("cursor"))
        )

    async def unread_count(call: Call) -> Answered:
        return Answered(orjson.dumps({"unread": await centre.unread(call.actor)}))

    async def read(call: Call) -> Answered:
        return Answered(await centre.read(call.actor, call.id("id")))

    async def read_all(call: Call) -> Answered:
        return Answered(orjson.dumps({"read": await centre.read_all(call.actor)}))

    async def register(call: Call) -> Answered:
        answer = await centre.register(call.actor, call.body, call.key)
        return Answered(answer.body, answer.status)

    async def devices(call: Call) -> Answered:
        return Answered(await centre.devices(call.actor))

    async def drop(call: Call) -> Answered:
        await centre.drop(call.actor, call.id("id"))
        return Answered(b"", 204)

    async def deliveries(call: Call) -> Answered:
        return Answered(
            await dead_letters.page(
                call.actor,
                status=call.one_of("status", DeliveryStatus),
                channel=call.one_of("channel", Channel),
                limit=call.limit(),
                cursor=call.query.get("cursor"),
            )
        )

    async def requeue(call: Call) -> Answered:
        answer = await dead_letters.requeue(call.actor, call.id("id"), call.key)
        return Answered(answer.body, answer.status)

    return [
        Route(
            "GET",
            "/v1/notifications",
            page,
            "The own notifications, newest first",
            Page[Notification],
            query=_PAGE | {"unread": "true: only those not read"},
        ),
        Route(
            "GET", "/v1/notifications/unread_count", unread_count, "How many are unread, up to a thousand", UnreadCount
        ),
        Route(
            "POST",
            "/v1/notifications/{id}/read",
            read,
            "Mark one as read; again changes nothing",
            Notification,
            errors=(ErrorCode.NOTIFICATION_NOT_FOUND,),
        ),
        Route("POST", "/v1/notifications/read-all", read_all, "Mark all as read", ReadAll),
        Route(
            "POST",
            "/v1/devices",
            register,
            "Send pushes to this device; an address belongs to whoever registered it last",
            Device,
            body=DeviceRequest,
            status=201,
            idempotent=True,
        ),
        Route("GET", "/v1/devices", devices, "The own push devices, newest first", Devices),
        Route("DELETE", "/v1/devices/{id}", drop, "No pushes to this device any more", None, status=204),
        Route(
            "GET",
            "/v1/admin/deliveries",
            deliveries,
            "What was to be sent by push, e-mail and SMS, newest first",
            Page[Delivery],
            who="admin",
            query=_PAGE | {"status": "only these; dead: given up", "channel": "only this one"},
        ),
        Route(
            "POST",
            "/v1/admin/deliveries/{id}/requeue",
            requeue,
            "Send a dead or skipped delivery again, from its first try",
            Requeued,
            who="admin",
            errors=(ErrorCode.INVALID_STATUS_TRANSITION,),
            idempotent=True,
        ),
    ]
