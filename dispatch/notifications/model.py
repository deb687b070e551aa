"""Nouns of notifications."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from dispatch.kit.postgres import Tx
from protocol.notices import NoticeType

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell one person. Text is made of `type` and `data` in the person's language."""

    recipient_id: UUID
    type: NoticeType
    data: Mapping[str, Plain] = field(default_factory=dict)
    """For the text, and for the app that shows it: ids as strings, words of the wire. No secrets: rows are kept.
    `expires_at`, a time of the wire: from then on it is sent no more."""
    key: str | None = None
    """Told once under this key, whoever asks again and how often. None: as often as it is written."""


class Contact(NamedTuple):
    """Where a person can be written to."""

    email: str | None
    phone_number: str | None
    locale: str


class People(Protocol):
    """What the sender asks the slices that know people. Set in app.py."""

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact:
        """His addresses now."""

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, Plain]) -> Mapping[str, str] | None:
        """What is put into the text on its way out and kept nowhere: {"link", "address"} of EMAIL_VERIFICATION and
        PASSWORD_RESET, {"code", "address"} of PHONE_VERIFICATION. `address` is where it goes instead of the contact's. None: it is of no use any more.
        """


class DeviceKind(StrEnum):
    FCM = "fcm"
    WEBPUSH = "webpush"


@dataclass(frozen=True, slots=True)
class Device:
    """Where a push goes."""

    id: UUID
    kind: DeviceKind
    address: str
    """FCM's token or the browser's endpoint."""
    p256dh: str = ""
    auth: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What leaves through a door. `to` is of the door's own kind: an address, a number, a device.

    `id` is the same in every try, so that whoever gets it twice can tell.
    """

    id: UUID
    to: str | Device
    title: str
    body: str
    locale: str
    link: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    urgent: bool = False
    ttl_s: int | None = None
    """How long a service that cannot reach the device now may keep it for him. None: as long as the door thinks right."""


class Door(Protocol):
    """One service that takes messages. One conformance suite serves all of them."""

    async def send(self, message: Message) -> None:
        """Hand the message over; returning means that the service took it. The caller bounds the time.

        Raises: NeverDeliverable (Gone: the address is no more), NotNow, and anything else for trouble on the way.
        """

    async def close(self) -> None:
        """Let go of connections. Idempotent."""


class NeverDeliverable(Exception):
    """Refused for good: another try would be refused too. The text is for operators: no address, no secret."""


class Gone(NeverDeliverable):
    """The device is no more: forget it."""


class NotNow(Exception):
    """The service cannot now. `after_s` is what it asks us to wait; `healthy` that it works and only wants less of us."""

    def __init__(self, why: str, *, after_s: float | None = None, healthy: bool = False) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.healthy = healthy
