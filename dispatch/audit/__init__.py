"""Who did what to whom: one row for every write of an admin, in the transaction that did it.

The truth is Postgres (`audit_log`): rows are added, never changed nor removed, by no role; a trigger holds that against the owner too.
"""

from dispatch.audit.store import write

__all__ = ["write"]
