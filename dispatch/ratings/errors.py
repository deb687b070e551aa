"""Failures of ratings, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class RatingExists(DispatchError):
    """This job has its rating."""

    code = ErrorCode.RATING_EXISTS
