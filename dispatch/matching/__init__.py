"""Who is asked: rounds of offers, and the shifts that make somebody askable.

The truth is Postgres (`offers`, `jobs.round`, `jobs.offer_deadline`). A search in Redis proposes; the transaction that makes
the offers looks again who is eligible at its commit (I4). Every worker runs every loop; rows are leased, so there is no leader.
"""

from dispatch.matching.batch import Batch, acceptance_of, window_end_ms
from dispatch.matching.errors import JobNotAvailable, OfferMissing, ServiceMismatch
from dispatch.matching.model import Decision, Policy, Question, Reach, Reason, Search, Standing, Terms, terms_of
from dispatch.matching.nudges import Nudges
from dispatch.matching.policies import decide, policy_named
from dispatch.matching.quotes import Quotes
from dispatch.matching.record import Recorder, replay
from dispatch.matching.service import BEHIND, Matching
from dispatch.matching.shifts import Shifts
from dispatch.matching.store import jobs_locked_of, offers_voided
from dispatch.matching.why import Why

__all__ = [
    "BEHIND",
    "Batch",
    "Decision",
    "JobNotAvailable",
    "Matching",
    "Nudges",
    "OfferMissing",
    "Policy",
    "Question",
    "Quotes",
    "Reach",
    "Reason",
    "Recorder",
    "Search",
    "ServiceMismatch",
    "Shifts",
    "Standing",
    "Terms",
    "Why",
    "acceptance_of",
    "decide",
    "jobs_locked_of",
    "offers_voided",
    "policy_named",
    "replay",
    "terms_of",
    "window_end_ms",
]
