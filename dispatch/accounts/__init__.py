"""Who somebody is: sign-up, sessions, tokens of ours and of outside issuers, roles, proofs of e-mail and phone, socket tickets, request ids.

Truth is Postgres (`users`, `passwords`, `sessions`, `email_tokens`, `phone_codes`, `attempts`, `idem`). A secret that goes out is kept as a
hash or derived from a row's id, never stored. Tries are counted before they are judged, so without Postgres there are none. Tickets live
in Redis for 30 s and fail closed when it is away. Rights that can change are never read from a token alone.
"""

from dispatch.accounts.errors import EmailTaken, TicketsUnavailable, UserMissing
from dispatch.accounts.idempotency import Answer, Idempotency, fingerprint_of, refuse
from dispatch.accounts.model import Access, Contact, OnVerified, Pending, Tell, Voice
from dispatch.accounts.office import first_admin
from dispatch.accounts.rules import Claims, mint, verify
from dispatch.accounts.service import Accounts
from dispatch.accounts.sessions import RESET_JOB

__all__ = [
    "RESET_JOB",
    "Access",
    "Accounts",
    "Answer",
    "Claims",
    "Contact",
    "EmailTaken",
    "Idempotency",
    "OnVerified",
    "Pending",
    "Tell",
    "TicketsUnavailable",
    "UserMissing",
    "Voice",
    "fingerprint_of",
    "first_admin",
    "mint",
    "refuse",
    "verify",
]
