"""Failures of notifications, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class NotificationMissing(DispatchError):
    """There is no such notification, or it is another's."""

    code = ErrorCode.NOTIFICATION_NOT_FOUND
