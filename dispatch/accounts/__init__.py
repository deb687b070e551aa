"""Who somebody is: tokens, roles, users made at first sight, socket tickets, remembered request ids.

Truth is Postgres (`users`, `idem`); tokens are verified against the configured secrets; tickets live in Redis for 30 s
and fail closed when it is away. Rights that can change are never read from a token.
"""

from dispatch.accounts.errors import TicketsUnavailable
from dispatch.accounts.idempotency import Answer, Idempotency, fingerprint_of
from dispatch.accounts.rules import Claims, mint, verify
from dispatch.accounts.service import Accounts

__all__ = ["Accounts", "Answer", "Claims", "Idempotency", "TicketsUnavailable", "fingerprint_of", "mint", "verify"]
