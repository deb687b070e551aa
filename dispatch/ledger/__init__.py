"""The ledger: every amount that anybody owns, in double entry, and the one way to move it.

The truth is Postgres: `ledger_account`, `ledger_txn`, `ledger_entry`, written by the function `ledger_post` and by nothing else, in the
transaction of what caused it. Every transaction sums to zero, entries are never changed, an owned account never falls below its floor, and a
business key posts once for ever.
"""

from dispatch.ledger.errors import AlreadyReversed, BadLeg, DebtLimit, InsufficientBalance
from dispatch.ledger.model import Account, Kind, Leg, Posted, Purse
from dispatch.ledger.reconcile import (
    CLEARING,
    SHOWN_MAX,
    Difference,
    Export,
    Held,
    clearing,
    counts,
    reconcile,
    statement,
    unsettled,
)
from dispatch.ledger.rules import charged, credited, wallet_of, wallet_told
from dispatch.ledger.store import configure, post, purse

__all__ = [
    "CLEARING",
    "SHOWN_MAX",
    "Account",
    "AlreadyReversed",
    "BadLeg",
    "DebtLimit",
    "Difference",
    "Export",
    "Held",
    "InsufficientBalance",
    "Kind",
    "Leg",
    "Posted",
    "Purse",
    "charged",
    "clearing",
    "configure",
    "counts",
    "credited",
    "post",
    "purse",
    "reconcile",
    "statement",
    "unsettled",
    "wallet_of",
    "wallet_told",
]
