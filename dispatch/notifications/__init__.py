"""What a person is told besides the app: written in the transaction that causes it, delivered later, at least once.

The truth is Postgres (`notifications`, `notification_deliveries`). Slices that have something to tell call `write` inside their own
transaction and append the facts that it returns; so whatever a channel does, the business change stands.
"""

from dispatch.notifications.model import Notice
from dispatch.notifications.service import Notifications

__all__ = ["Notice", "Notifications"]
