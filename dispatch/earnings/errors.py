"""Failures of earnings, with their wire codes."""

from dispatch.kit.errors import DispatchError, Missing
from protocol.errors import ErrorCode


class BadDateRange(DispatchError):
    """The range ends before it begins, is too long, or is none."""

    code = ErrorCode.INVALID_DATE_RANGE


class EarningMissing(Missing):
    """There is no such earning, or none that the caller may know of."""


class JobNotCompleted(DispatchError):
    """Only a completed job can be tipped."""

    code = ErrorCode.JOB_NOT_COMPLETED


class TipExists(DispatchError):
    """A job is tipped once."""

    code = ErrorCode.TIP_EXISTS


class TooLate(DispatchError):
    """The time for this is over."""

    code = ErrorCode.TOO_LATE
