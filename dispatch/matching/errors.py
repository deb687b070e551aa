"""Failures of offers, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class OfferMissing(DispatchError):
    """There is no such offer to this provider."""

    code = ErrorCode.OFFER_NOT_FOUND


class JobNotAvailable(DispatchError):
    """Somebody else's, cancelled, or no longer offered to this provider. `details.status` says which."""

    code = ErrorCode.JOB_NOT_AVAILABLE

    def __init__(self, status: str) -> None:
        super().__init__(f"the job is {status}", status=status)


class ServiceMismatch(DispatchError):
    """Not one of the provider's service types."""

    code = ErrorCode.SERVICE_TYPE_MISMATCH
