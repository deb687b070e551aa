"""What a person is told besides the app: written in the transaction that causes it, delivered later, at least once.

The truth is Postgres (`notifications`, `notification_deliveries`). Slices that have something to tell call `write` inside their own
transaction and append the facts that it returns; so whatever a channel does, the business change stands. Each delivery gets a job of
PgQueuer in the same transaction; a worker that takes the job leases the delivery's row, sends through the channel's door and writes down
what came of it. The job may be lost or come twice: the row says what is left to do, and a loop gives jobs to rows that have none.
"""

from dispatch.notifications.doors import Smtp, doors_of
from dispatch.notifications.model import Contact, Notice, NotNow, People, Plain
from dispatch.notifications.sender import Sender
from dispatch.notifications.service import Centre, DeadLetters, Notifications

__all__ = [
    "Centre",
    "Contact",
    "DeadLetters",
    "NotNow",
    "Notice",
    "Notifications",
    "People",
    "Plain",
    "Sender",
    "Smtp",
    "doors_of",
]
