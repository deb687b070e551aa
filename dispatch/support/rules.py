"""What a ticket may become, and who may still write in it."""

from dispatch.kit.errors import IllegalTransition
from protocol.tickets import TICKET_NEXT, TicketStatus


def check_move(start: TicketStatus, end: TicketStatus) -> None:
    """Raises: IllegalTransition."""
    if TICKET_NEXT.get(start) is not end:
        raise IllegalTransition(f"from {start} to {end}", status=start)


def check_reply(status: TicketStatus) -> None:
    """Raises: IllegalTransition: nobody reads a closed ticket any more."""
    if status is TicketStatus.CLOSED:
        raise IllegalTransition("the ticket is closed", status=status)
