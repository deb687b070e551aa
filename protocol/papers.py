"""Documents and vehicles of providers: their kinds and states. Tables, no decisions."""

from enum import StrEnum


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
