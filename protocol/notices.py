"""What people are told besides the app, and by which ways. Tables, no decisions."""

from enum import StrEnum


class NoticeType(StrEnum):
    """Every kind of notification. The eight of the first design come first; a client shows one it does not know by its title and body."""

    JOB_AVAILABLE = "job_available"
    JOB_ACCEPTED = "job_accepted"
    APPLICATION_APPROVED = "application_approved"
    APPLICATION_REJECTED = "application_rejected"
    DOCUMENT_EXPIRING = "document_expiring"
    WITHDRAWAL_COMPLETED = "withdrawal_completed"
    RATING_RECEIVED = "rating_received"
    ACCOUNT_SUSPENDED = "account_suspended"

    EMAIL_VERIFICATION = "email_verification"
    PHONE_VERIFICATION = "phone_verification"
    PASSWORD_RESET = "password_reset"
    JOB_STATUS_CHANGED = "job_status_changed"
    JOB_CANCELLED = "job_cancelled"
    DOCUMENT_APPROVED = "document_approved"
    DOCUMENT_REJECTED = "document_rejected"
    DOCUMENT_EXPIRED = "document_expired"
    ACCOUNT_REACTIVATED = "account_reactivated"
    VEHICLE_APPROVED = "vehicle_approved"
    VEHICLE_REJECTED = "vehicle_rejected"
    VEHICLE_SUSPENDED = "vehicle_suspended"
    WITHDRAWAL_FAILED = "withdrawal_failed"
    WITHDRAWAL_REJECTED = "withdrawal_rejected"
    INCENTIVE_COMPLETED = "incentive_completed"
    TIP_RECEIVED = "tip_received"
    SUPPORT_TICKET_CREATED = "support_ticket_created"
    SUPPORT_REPLY = "support_reply"


class Channel(StrEnum):
    """The ways out of the app."""

    PUSH = "push"
    EMAIL = "email"
    SMS = "sms"


class DeliveryStatus(StrEnum):
    """`skipped`: the person has no address on this channel. `dead`: given up after the last try; an admin may send it again."""

    PENDING = "pending"
    SENT = "sent"
    SKIPPED = "skipped"
    DEAD = "dead"
