"""Earnings: what a job, a tip, a bonus or a correction is worth to its provider, paid in the transaction that caused it.

The truth is Postgres (`earnings`, `earning_totals`, and the ledger that each row names its posting in). A completed job has exactly one earning,
however often its completion is asked for; gross is the sum of its parts, net is gross less the fee, and the wallet has grown by it at the commit.
"""

from dispatch.earnings.model import Bonus, Bonuses
from dispatch.earnings.payroll import Payroll

__all__ = ["Bonus", "Bonuses", "Payroll"]
