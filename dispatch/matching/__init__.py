"""Who is asked: rounds of offers, and the shifts that make somebody askable.

The truth is Postgres (`offers`, `jobs.round`, `jobs.offer_deadline`). A search in Redis proposes; the transaction that makes
the offers looks again who is eligible at its commit (I4). Every worker runs every loop; rows are leased, so there is no leader.
"""

from dispatch.matching.errors import JobNotAvailable, OfferMissing
from dispatch.matching.model import Policy, Reach, Search
from dispatch.matching.policies import policy_named
from dispatch.matching.service import Matching
from dispatch.matching.shifts import Shifts

__all__ = ["JobNotAvailable", "Matching", "OfferMissing", "Policy", "Reach", "Search", "Shifts", "policy_named"]
