"""Failures of providers, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class ProviderMissing(DispatchError):
    """There is no such provider, or this user is none."""

    code = ErrorCode.PROVIDER_NOT_FOUND


class ProviderExists(DispatchError):
    """This user is a provider already."""

    code = ErrorCode.PROVIDER_EXISTS


class PhoneTaken(DispatchError):
    """Another provider has this phone number."""

    code = ErrorCode.PHONE_TAKEN


class BadReferral(DispatchError):
    """No provider has this uid."""

    code = ErrorCode.INVALID_REFERRAL_CODE


class NotApproved(DispatchError):
    """Only approved and active providers may work."""

    code = ErrorCode.PROVIDER_NOT_APPROVED


class Suspended(DispatchError):
    """This provider is suspended."""

    code = ErrorCode.PROVIDER_SUSPENDED


class DocumentsIncomplete(DispatchError):
    """Papers are missing, run out, or not approved yet."""

    code = ErrorCode.DOCUMENTS_INCOMPLETE


class VehicleRequired(DispatchError):
    """This service type needs an approved vehicle that is in use."""

    code = ErrorCode.VEHICLE_REQUIRED


class EmailNotVerified(DispatchError):
    """Nobody has proved to read this e-mail address."""

    code = ErrorCode.EMAIL_NOT_VERIFIED


class AlreadyBusy(DispatchError):
    """The provider has an active job."""

    code = ErrorCode.PROVIDER_HAS_ACTIVE_JOB
