"""Support tickets: their kinds and states. Tables, no decisions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class TicketCategory(StrEnum):
    ACCOUNT = "account"
    DOCUMENTS = "documents"
    JOB = "job"
    PAYMENT = "payment"
    SAFETY = "safety"
    APP = "app"
    OTHER = "other"


class TicketStatus(StrEnum):
    OPEN = "open"
    IN_PROGRESS = "in_progress"
    RESOLVED = "resolved"
    CLOSED = "closed"


TICKET_NEXT: Final[Mapping[TicketStatus, TicketStatus]] = {
    TicketStatus.OPEN: TicketStatus.IN_PROGRESS,
    TicketStatus.IN_PROGRESS: TicketStatus.RESOLVED,
    TicketStatus.RESOLVED: TicketStatus.CLOSED,
}
"""Each status has one successor; nothing else is legal."""
