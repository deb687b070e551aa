"""Failures of ratings, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class JobNotCompleted(DispatchError):
    """The job has not ended well, or not yet."""

    code = ErrorCode.JOB_NOT_COMPLETED


class RatingExists(DispatchError):
    """This job has its rating."""

    code = ErrorCode.RATING_EXISTS


class TooLate(DispatchError):
    """The time in which this could be done is over."""

    code = ErrorCode.TOO_LATE
