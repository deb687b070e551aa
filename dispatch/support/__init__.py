"""Support: somebody asks for help, the office answers, and each is told of the other's words.

The truth is Postgres (`support_tickets`, `ticket_replies`). A ticket is seen by its owner and by admins, and by nobody else.
"""

from dispatch.support.service import Support

__all__ = ["Support"]
