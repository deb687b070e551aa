"""Earnings: what a job, a tip, a bonus or a correction is worth to its provider, paid in the transaction that caused it.

The truth is Postgres (`earnings`, `earning_totals`, and the ledger that each row names its posting in). A completed job has exactly one earning,
however often its completion is asked for; gross is the sum of its parts, net is gross less the fee, and the wallet has grown by it at the commit.
"""

from dispatch.earnings.books import (
    EarningUnposted,
    JobUnpaid,
    SumWrong,
    TotalWrong,
    earnings_unposted,
    jobs_unpaid,
    sums_wrong,
    totals_wrong,
)
from dispatch.earnings.corrections import Corrections
from dispatch.earnings.model import Bonus, Bonuses, PaidOut, Payout
from dispatch.earnings.payroll import Payroll
from dispatch.earnings.service import Earnings
from dispatch.earnings.store import last_market
from dispatch.earnings.tips import Tips

__all__ = [
    "Bonus",
    "Bonuses",
    "Corrections",
    "EarningUnposted",
    "Earnings",
    "JobUnpaid",
    "PaidOut",
    "Payout",
    "Payroll",
    "SumWrong",
    "Tips",
    "TotalWrong",
    "earnings_unposted",
    "jobs_unpaid",
    "last_market",
    "sums_wrong",
    "totals_wrong",
]
