"""Wallets: what somebody has, where it may go, and getting it there exactly once.

The truth is Postgres: the ledger for amounts, `bank_accounts` and `withdrawals` beside it. A withdrawal holds its amount from the request on and is
resolved once, paid out or released, under one business key for both. What a gateway has not clearly answered is asked again and never
guessed: neither paid twice nor released while it may have been paid. Account numbers are encrypted at rest and read by the office only, audited.
"""

from dispatch.wallets.accounts import BankAccounts
from dispatch.wallets.doors import door_of, way_of
from dispatch.wallets.marks import Marks
from dispatch.wallets.model import Payout, PayoutDoor, Said, Unclear
from dispatch.wallets.payouts import Payouts
from dispatch.wallets.reconcile import HeldOff, Stuck, held_off, payouts_stuck
from dispatch.wallets.rotation import Rotated, rotate
from dispatch.wallets.service import Wallets
from dispatch.wallets.vault import Unreadable, Vault
from dispatch.wallets.withdrawals import Withdrawals

__all__ = [
    "BankAccounts",
    "HeldOff",
    "Marks",
    "Payout",
    "PayoutDoor",
    "Payouts",
    "Rotated",
    "Said",
    "Stuck",
    "Unclear",
    "Unreadable",
    "Vault",
    "Wallets",
    "Withdrawals",
    "door_of",
    "held_off",
    "payouts_stuck",
    "rotate",
    "way_of",
]
