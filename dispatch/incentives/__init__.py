"""Incentives: programs whose tiers pay a bonus for completed jobs, once, in the transaction that completes the job.

The truth is Postgres (`incentives`, `incentive_progress`); the bonus itself is an earning and a posting like any other.
"""

from dispatch.incentives.counting import Counting

__all__ = ["Counting"]
