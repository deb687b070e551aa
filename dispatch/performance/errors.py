"""Failures of performance, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class BadDateRange(DispatchError):
    """The range ends before it begins, or is too long."""

    code = ErrorCode.INVALID_DATE_RANGE
