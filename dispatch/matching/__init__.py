"""Who is asked: rounds of offers, and the shifts that make somebody askable.

The truth is Postgres (`offers`, `jobs.round`, `jobs.offer_deadline`). A search in Redis proposes; the transaction that makes
the offers looks again who is eligible at its commit (I4). Every worker runs every loop; rows are leased, so there is no leader.
"""

from dispatch.matching.errors import JobNotAvailable, OfferMissing, ServiceMismatch
from dispatch.matching.model import Policy, Reach, Search
from dispatch.matching.nudges import Nudges
from dispatch.matching.policies import policy_named
from dispatch.matching.quotes import Quotes
from dispatch.matching.service import Matching
from dispatch.matching.shifts import Shifts
from dispatch.matching.store import jobs_locked_of, offers_voided

__all__ = [
    "JobNotAvailable",
    "Matching",
    "Nudges",
    "OfferMissing",
    "Policy",
    "Quotes",
    "Reach",
    "Search",
    "ServiceMismatch",
    "Shifts",
    "jobs_locked_of",
    "offers_voided",
    "policy_named",
]
