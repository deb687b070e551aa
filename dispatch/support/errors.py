"""Failures of support, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class TicketMissing(DispatchError):
    """There is no such ticket, or none that the caller may know of."""

    code = ErrorCode.TICKET_NOT_FOUND
