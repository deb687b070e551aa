"""HTTP bodies of documents and vehicles. The rules of `protocol.resources` hold here."""

from datetime import date
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Count, Reason
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.papers import (
    DocumentStatus,
    DocumentType,
    OnboardingState,
    OnboardingStep,
    ReviewAction,
    VehicleStatus,
)

# A blank text is no text, and no text has a control character (a line break in a plate is a mistake).
Word = Annotated[
    str, Meta(min_length=1, max_length=50, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*(?!\n)$")
]
Plate = Annotated[
    str, Meta(min_length=1, max_length=20, pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*(?!\n)$")
]
Year = Annotated[int, Meta(ge=1980, le=2200, description="1980 to next year")]
DaysLeft = Annotated[int, Meta(ge=0, le=30)]


class DocumentForm(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of an upload beside the file. Driver's licence, vehicle registration and insurance need `expiry_date`."""

    document_type: DocumentType
    expiry_date: date | None = None


class DocumentUploaded(Struct, frozen=True):
    document_id: UUID
    storage_path: str
    status: DocumentStatus


class Document(Struct, frozen=True, omit_defaults=True):
    """`expires_in_days` is a warning: it is there when 30 days or fewer are left. `replaced_by` marks history."""

    id: UUID
    document_type: DocumentType
    status: DocumentStatus
    storage_path: str
    content_type: str
    size_bytes: int
    uploaded_at: At
    expiry_date: date | None = None
    expires_in_days: DaysLeft | None = None
    verified_at: At | None = None
    verified_by: UUID | None = None
    """For admins only."""
    rejection_reason: str | None = None
    replaced_by: UUID | None = None


class Documents(Struct, frozen=True):
    """Those that stand first, then history; newest first in both."""

    items: list[Document]


class FileLink(Struct, frozen=True):
    """Whoever has the address can download the file until `expires_at`. It may be relative to this server."""

    url: str
    expires_at: At


class VehicleRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    vehicle_type: Word
    make: Word
    model: Word
    year: Year
    plate_number: Plate
    color: Word
    registration_expiry: date
    insurance_expiry: date
    registration_document_id: UUID | None = None


class VehiclePatch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """With `version`: only if the vehicle is still that one."""

    vehicle_type: Word | None = None
    make: Word | None = None
    model: Word | None = None
    year: Year | None = None
    plate_number: Plate | None = None
    color: Word | None = None
    registration_expiry: date | None = None
    insurance_expiry: date | None = None
    registration_document_id: UUID | None = None
    version: Count | None = None


class OwnVehicle(Struct, frozen=True, omit_defaults=True):
    """`is_active`: the one in use. `expires_in_days` is a warning about the nearer of the two dates."""

    id: UUID
    vehicle_type: str
    make: str
    model: str
    year: int
    plate_number: str
    color: str
    status: VehicleStatus
    is_active: bool
    registration_expiry: date
    insurance_expiry: date
    version: Count
    submitted_at: At
    registration_document_id: UUID | None = None
    expires_in_days: DaysLeft | None = None
    verified_at: At | None = None
    verified_by: UUID | None = None
    """For admins only."""
    rejection_reason: str | None = None


class Vehicles(Struct, frozen=True):
    items: list[OwnVehicle]


class ReviewRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason is required to reject. With `version` (vehicles): only what the reviewer has seen is reviewed."""

    action: ReviewAction
    reason: Reason | None = None
    version: Count | None = None


class PendingPapers(Struct, frozen=True):
    """A provider with something to verify. `submitted_at` is that of his oldest item, by which the queue is ordered."""

    provider_id: UUID
    status: ProviderStatus
    first_name: str
    last_name: str
    service_types: list[ServiceType]
    submitted_at: At
    documents: list[Document]
    vehicles: list[OwnVehicle]


class OnboardingProgress(Struct, frozen=True, omit_defaults=True):
    """`missing` is what the provider himself has to do: `email`, document types, `vehicle`."""

    step: OnboardingStep
    state: OnboardingState
    missing: list[str]
    service_type: ServiceType | None = None
    """Of a step `documents`: there is one for each service type."""
    reason: str | None = None
    """Of a rejection or a suspension."""


class Onboarding(Struct, frozen=True):
    provider_id: UUID
    status: ProviderStatus
    steps: list[OnboardingProgress]
