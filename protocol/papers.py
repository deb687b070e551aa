"""Documents and vehicles of providers: their kinds and states. Tables, no decisions."""

from enum import StrEnum
from typing import Final


class DocumentType(StrEnum):
    NATIONAL_ID = "national_id"
    DRIVER_LICENSE = "driver_license"
    VEHICLE_REGISTRATION = "vehicle_registration"
    VEHICLE_INSURANCE = "vehicle_insurance"
    BANK_ACCOUNT = "bank_account"
    CRIMINAL_RECORD = "criminal_record"
    HEALTH_CERTIFICATE = "health_certificate"


class DocumentStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


class VehicleStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUSPENDED = "suspended"


class ReviewAction(StrEnum):
    """What an admin says to one document or vehicle."""

    APPROVE = "approve"
    REJECT = "reject"


class OnboardingStep(StrEnum):
    EMAIL = "email"
    DOCUMENTS = "documents"
    VEHICLE = "vehicle"
    REVIEW = "review"


class OnboardingState(StrEnum):
    """`open`: the provider's turn. `waiting`: the office's. `optional`: none of his service types asks for it."""

    OPEN = "open"
    WAITING = "waiting"
    DONE = "done"
    OPTIONAL = "optional"
    REJECTED = "rejected"
    SUSPENDED = "suspended"


NEEDS_EXPIRY: Final = frozenset(
    {DocumentType.DRIVER_LICENSE, DocumentType.VEHICLE_REGISTRATION, DocumentType.VEHICLE_INSURANCE}
)
"""Documents that are good until a day, which has to be told with them."""
