"""What travels in HTTP bodies and event data, as msgspec Structs: validation and the OpenAPI document come from here.

Requests refuse unknown fields. Answers may gain fields, never lose or re-mean one. Optional fields without a value
are absent. Money is integer minor units beside an ISO 4217 `currency`; `_m` metres, `_s` seconds. A rule that spans
fields raises "field: problem" in __post_init__; the codec turns it into details.fields.
"""

from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from protocol.frames import At, Count, Lat, Lng, Metres, Reason, Seconds, ServiceTypes
from protocol.lifecycle import AdminAction, JobStatus, ProviderStatus, ServiceType, Stage

T = TypeVar("T")

# Patterns end in (?!\n)$: in Python a bare $ lets a newline pass at the end. They read the same in JSON Schema.
Name = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"\S")]
Phone = Annotated[str, Meta(pattern=r"^(0|\+66)[0-9]{9}(?!\n)$", description="0 and nine digits, or +66 and nine")]
Email = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+(?!\n)$")]
Address = Annotated[str, Meta(min_length=1, max_length=300)]
Note = Annotated[str, Meta(max_length=500)]
RadiusM = Annotated[int, Meta(ge=1_000, le=50_000)]
Minor = Annotated[int, Meta(ge=0, le=2**53)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Locale = Literal["th", "en", "ar"]


class PaymentMethod(StrEnum):
    CASH = "cash"
    CASHLESS = "cashless"


class CancelledBy(StrEnum):
    """An admin acts as system."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    SYSTEM = "system"


class Role(StrEnum):
    """Roles of a token. Being a provider is no role: it is having a provider record."""

    CUSTOMER = "customer"
    PARTNER = "partner"
    SUPPORT = "support"
    ADMIN = "admin"


# --- shared


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """A point that people can read."""

    lat: Lat
    lng: Lng
    address: Address


class Point(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A point; an address may come along and is not used."""

    lat: Lat
    lng: Lng
    address: Address | None = None


class Fare(Struct, frozen=True):
    """`total_minor` is the sum of the four parts. `estimated` until the job is completed."""

    base_minor: Minor
    distance_minor: Minor
    time_minor: Minor
    surge_minor: Minor
    total_minor: Minor
    currency: Currency
    estimated: bool


class Vehicle(Struct, frozen=True):
    make: str
    model: str
    color: str
    plate_number: str


class LastFix(Struct, frozen=True):
    lat: Lat
    lng: Lng
    at: At


class ProviderCard(Struct, frozen=True, omit_defaults=True):
    """What a customer sees of the provider of his job."""

    id: UUID
    first_name: str
    rating: float | None = None
    vehicle: Vehicle | None = None
    location: LastFix | None = None


class Contact(Struct, frozen=True, omit_defaults=True):
    """The customer, for the assigned provider while the job is active."""

    first_name: str | None = None
    phone_number: str | None = None


class Job(Struct, frozen=True, omit_defaults=True):
    """`round` is the fencing token of the assignment; `version` grows with every change."""

    id: UUID
    market: str
    service_type: ServiceType
    status: JobStatus
    round: Count
    version: Count
    customer_id: UUID
    pickup: Place
    payment_method: PaymentMethod
    surge_multiplier: Annotated[float, Meta(ge=1, le=9.99)]
    fare: Fare
    estimated_earnings_minor: Minor
    created_at: At
    provider: ProviderCard | None = None
    customer: Contact | None = None
    dropoff: Place | None = None
    note: Note | None = None
    distance_m: Metres | None = None
    duration_s: Seconds | None = None
    actual_earnings_minor: Minor | None = None
    accepted_at: At | None = None
    arrived_at: At | None = None
    started_at: At | None = None
    completed_at: At | None = None
    cancelled_at: At | None = None
    cancelled_by: CancelledBy | None = None
    cancellation_reason: str | None = None


class OfferedJob(Struct, frozen=True, omit_defaults=True):
    """The job before acceptance: its places are coarse, a zone's name and a point rounded to about 200 m."""

    id: UUID
    service_type: ServiceType
    pickup: Place
    fare: Fare
    estimated_earnings_minor: Minor
    dropoff: Place | None = None
    distance_m: Metres | None = None


class Offer(Struct, frozen=True, omit_defaults=True):
    """A job offered to one provider. Rows of the open board have neither `offer_id` nor `expires_at`."""

    job: OfferedJob
    pickup_distance_m: Metres
    round: Count
    offer_id: UUID | None = None
    expires_at: At | None = None


class Provider(Struct, frozen=True, omit_defaults=True):
    """A provider's own view of his record."""

    id: UUID
    user_id: UUID
    status: ProviderStatus
    first_name: str
    last_name: str
    email: str
    phone_number: str
    service_types: list[ServiceType]
    service_radius_m: RadiusM
    is_online: bool
    created_at: At
    cleared_service_types: list[ServiceType] = msgspec.field(default_factory=list)
    """Those he may be offered now: with their papers and, where needed, a vehicle in order."""
    provider_uid: str | None = None
    rating: float | None = None
    approved_at: At | None = None
    suspended_at: At | None = None
    suspension_cause: Literal["documents", "admin"] | None = None
    suspension_reason: str | None = None
    rejection_reason: str | None = None


class Me(Struct, frozen=True, omit_defaults=True):
    """`phone_verified` is of this very number, `email_verified` of this address."""

    id: UUID
    locale: Locale
    roles: list[Role]
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone_number: str | None = None
    email_verified: bool | None = None
    phone_verified: bool | None = None


class Page(Struct, Generic[T], frozen=True, omit_defaults=True):
    """One page of a list. Without `next_cursor` it is the last."""

    items: list[T]
    next_cursor: str | None = None


# --- requests and their answers


class MePatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = None
    locale: Locale | None = None


class QuoteRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    service_type: ServiceType
    pickup: Point
    dropoff: Point | None = None


class Quote(Struct, frozen=True, omit_defaults=True):
    market: str
    fare: Fare
    providers_near: Count
    distance_m: Metres | None = None
    duration_s: Seconds | None = None
    pickup_eta_s: Seconds | None = None


class JobRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    service_type: ServiceType
    pickup: Place
    dropoff: Place | None = None
    note: Note | None = None
    payment_method: PaymentMethod | None = None


class CancelRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason is required from a provider and an admin."""

    reason: Reason | None = None


class AcceptRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without `offer_id`: from the open board."""

    offer_id: UUID | None = None
    round: Count | None = None


class AcceptAnswer(Struct, frozen=True):
    """`navigation_url` is a geo: URI of the pickup."""

    success: Literal[True]
    job: Job
    navigation_url: str


class AdvanceRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The two measures are the phone's and come with `completed`."""

    to: Stage
    distance_m: Metres | None = None
    duration_s: Seconds | None = None


def _distinct(kinds: list[ServiceType] | None) -> None:
    if kinds is not None and len(set(kinds)) != len(kinds):
        raise ValueError("service_types: not distinct")


class ProviderRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    first_name: Name
    last_name: Name
    email: Email
    phone_number: Phone
    service_types: ServiceTypes
    referral_code: Annotated[str, Meta(min_length=1, max_length=32)] | None = None

    def __post_init__(self) -> None:
        _distinct(self.service_types)


class ProviderCreated(Struct, frozen=True):
    """`verification_token`: a handle for resending the mail and asking whether it was answered; it proves nothing."""

    provider_id: UUID
    status: ProviderStatus
    verification_token: UUID


class ProviderPatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = None
    service_radius_m: RadiusM | None = None
    service_types: ServiceTypes | None = None
    locale: Locale | None = None

    def __post_init__(self) -> None:
        _distinct(self.service_types)


class OnlineRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without a position the last one is kept."""

    online: bool
    lat: Lat | None = None
    lng: Lng | None = None

    def __post_init__(self) -> None:
        if (self.lat is None) != (self.lng is None):
            raise ValueError(f"{'lat' if self.lat is None else 'lng'}: lat and lng come together")


class OnlineAnswer(Struct, frozen=True):
    """`message` is for people, in their language."""

    success: Literal[True]
    message: str
    provider_id: UUID
    is_online: bool


class AdminActionRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason is required to reject and to suspend."""

    action: AdminAction
    reason: Reason | None = None


class AdminActionAnswer(Struct, frozen=True, omit_defaults=True):
    """`affected_jobs` are the ids of the jobs that the action took from the provider."""

    success: Literal[True]
    provider: Provider
    affected_jobs: list[UUID] | None = None


class ReleaseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Reason


class Ticket(Struct, frozen=True):
    """Good for one socket, once, for `expires_in_s` seconds."""

    ticket: str
    expires_in_s: int


class HttpError(Struct, frozen=True, omit_defaults=True):
    code: str
    message: str
    timestamp: At
    request_id: str
    details: dict[str, Any] | None = None


class ErrorBody(Struct, frozen=True):
    """Every error answer."""

    error: HttpError
