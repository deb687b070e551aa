"""What an office sees and does: search, files, numbers; approve, reject, suspend, reactivate. Every write is in the audit log.

Suspension takes the gate FOR UPDATE, then his jobs by id, then cancels and withdraws in the same transaction: no accept of his
commits after it (I7).
"""

from dispatch.admin.expiry import Expiry, Swept
from dispatch.admin.office import Office
from dispatch.admin.service import Admin

__all__ = ["Admin", "Expiry", "Office", "Swept"]
