"""Failures of the accept, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class AlreadyBusy(DispatchError):
    """The provider has an active job."""

    code = ErrorCode.PROVIDER_HAS_ACTIVE_JOB
