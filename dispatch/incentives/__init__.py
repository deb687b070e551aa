"""Incentives: programs whose tiers pay a bonus for completed jobs, once, in the transaction that completes the job.

The truth is Postgres (`incentives`, `incentive_progress`); the bonus itself is an earning and a posting like any other. What was paid stays
paid, whatever becomes of the program.
"""

from dispatch.incentives.counting import Counting
from dispatch.incentives.service import Incentives

__all__ = ["Counting", "Incentives"]
