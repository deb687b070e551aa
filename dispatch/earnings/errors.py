"""Failures of earnings, with their wire codes."""

from dispatch.kit.errors import DispatchError, Missing
from protocol.errors import ErrorCode


class EarningMissing(Missing):
    """There is no such earning, or none that the caller may know of."""


class TipExists(DispatchError):
    """A job is tipped once."""

    code = ErrorCode.TIP_EXISTS
