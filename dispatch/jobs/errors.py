"""Failures of jobs, with their wire codes."""

from dispatch.kit.errors import DispatchError, Forbidden
from protocol.errors import ErrorCode


class JobMissing(DispatchError):
    """There is no such job, or none that the caller may know of."""

    code = ErrorCode.JOB_NOT_FOUND


class NotYourJob(Forbidden):
    """A party of the job who lacks this right."""


class OutsideMarket(DispatchError):
    """No market holds this place."""

    code = ErrorCode.OUTSIDE_MARKET


class JobNotActive(DispatchError):
    """The job has no provider now."""

    code = ErrorCode.JOB_NOT_ACTIVE


class JobNotCompleted(DispatchError):
    """The job has not ended well, or not yet."""

    code = ErrorCode.JOB_NOT_COMPLETED
