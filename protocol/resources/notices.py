"""HTTP bodies of notifications. The rules of `protocol.resources` hold here."""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Count
from protocol.notices import Channel, DeliveryStatus, NoticeType

PushToken = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[!-~]+(?!\n)$")]
Endpoint = Annotated[str, Meta(max_length=2000, pattern=r"^https?://[!-~]+(?!\n)$")]
P256dh = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_-]{87}=?(?!\n)$", description="base64url of the 65 bytes of the key")
]
Auth = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}(==)?(?!\n)$", description="base64url of 16 bytes")]
DeviceName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]


class Sent(Struct, frozen=True, omit_defaults=True):
    """How each way out of the app went. A way that this type does not take is absent."""

    push: DeliveryStatus | None = None
    email: DeliveryStatus | None = None
    sms: DeliveryStatus | None = None


class Notification(Struct, frozen=True, omit_defaults=True):
    """`title` and `body` are in the language that the user had then; `data` is for the app."""

    id: UUID
    type: NoticeType
    title: str
    body: str
    data: dict[str, Any]
    read: bool
    created_at: At
    read_at: At | None = None
    sent: Sent | None = None


class UnreadCount(Struct, frozen=True):
    """A thousand stands for a thousand or more."""

    unread: Count


class ReadAll(Struct, frozen=True):
    """How many were unread until now."""

    read: Count


class SubscriptionKeys(Struct, frozen=True, forbid_unknown_fields=True):
    p256dh: P256dh
    auth: Auth


class Subscription(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"expires": "expirationTime"}
):
    """A browser's PushSubscription as its toJSON() gives it. The endpoint is https on a public host."""

    endpoint: Endpoint
    keys: SubscriptionKeys
    expires: float | None = None


class DeviceRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`token` with fcm, `subscription` with webpush."""

    kind: Literal["fcm", "webpush"]
    token: PushToken | None = None
    subscription: Subscription | None = None
    name: DeviceName | None = None

    def __post_init__(self) -> None:
        wanted, other = ("token", "subscription") if self.kind == "fcm" else ("subscription", "token")
        if getattr(self, wanted) is None:
            raise ValueError(f"{wanted}: needed with {self.kind}")
        if getattr(self, other) is not None:
            raise ValueError(f"{other}: not with {self.kind}")


class Device(Struct, frozen=True, omit_defaults=True):
    """A push device. Its token or endpoint is not told again."""

    id: UUID
    kind: Literal["fcm", "webpush"]
    created_at: At
    registered_at: At
    name: str | None = None


class Devices(Struct, frozen=True):
    """Ten at most."""

    items: list[Device]


class Delivery(Struct, frozen=True, omit_defaults=True):
    """One way out of one notification. `due_at` is its next try."""

    id: UUID
    notification_id: UUID
    recipient_id: UUID
    type: NoticeType
    channel: Channel
    status: DeliveryStatus
    attempts: Count
    created_at: At
    last_error: str | None = None
    due_at: At | None = None
    sent_at: At | None = None


class Requeued(Struct, frozen=True):
    id: UUID
    status: DeliveryStatus
