"""What an office does to providers: approve, reject, suspend, reactivate.

Suspension takes the gate FOR UPDATE, then his jobs by id, then cancels and withdraws in the same transaction: no accept of his
commits after it (I7).
"""

from dispatch.admin.expiry import Expiry, Swept
from dispatch.admin.service import Admin

__all__ = ["Admin", "Expiry", "Swept"]
