"""The states of jobs and providers, and which changes are legal. Tables, no decisions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ServiceType(StrEnum):
    RIDE = "ride"
    DELIVERY = "delivery"
    SHOPPING = "shopping"
    MOVING = "moving"
    LAUNDRY = "laundry"


class JobStatus(StrEnum):
    PENDING = "pending"
    OFFERED = "offered"
    ACCEPTED = "accepted"
    ARRIVED = "arrived"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """The statuses that a provider may ask for by `advance`. Equal to the JobStatus of the same word."""

    ARRIVED = "arrived"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class Actor(StrEnum):
    """Who takes an edge. `cancelled_by` knows no admin: he acts as system there."""

    CUSTOMER = "customer"
    PROVIDER = "provider"
    ADMIN = "admin"
    SYSTEM = "system"


OPEN: Final = frozenset({JobStatus.PENDING, JobStatus.OFFERED})
"""Looking for a provider."""
ACTIVE: Final = frozenset({JobStatus.ACCEPTED, JobStatus.ARRIVED, JobStatus.IN_PROGRESS})
"""Assigned and running: a provider has at most one of these."""
FINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.CANCELLED})
"""Over. No edge leaves them."""

_EVERYBODY = frozenset(Actor)
_OPEN_SIDE = frozenset({Actor.CUSTOMER, Actor.ADMIN, Actor.SYSTEM})
_PROVIDER = frozenset({Actor.PROVIDER})
_SYSTEM = frozenset({Actor.SYSTEM})
# A provider's own cancellation releases the job only where the market sets `redispatch`; else it cancels it.
_RELEASE = frozenset({Actor.ADMIN, Actor.SYSTEM, Actor.PROVIDER})

LEGAL: Final[Mapping[tuple[JobStatus, JobStatus], frozenset[Actor]]] = {
    (JobStatus.PENDING, JobStatus.OFFERED): _SYSTEM,
    (JobStatus.PENDING, JobStatus.CANCELLED): _OPEN_SIDE,
    (JobStatus.OFFERED, JobStatus.ACCEPTED): _PROVIDER,
    (JobStatus.OFFERED, JobStatus.CANCELLED): _OPEN_SIDE,
    (JobStatus.ACCEPTED, JobStatus.ARRIVED): _PROVIDER,
    (JobStatus.ACCEPTED, JobStatus.OFFERED): _RELEASE,
    (JobStatus.ACCEPTED, JobStatus.CANCELLED): _EVERYBODY,
    (JobStatus.ARRIVED, JobStatus.IN_PROGRESS): _PROVIDER,
    (JobStatus.ARRIVED, JobStatus.OFFERED): _RELEASE,
    (JobStatus.ARRIVED, JobStatus.CANCELLED): _EVERYBODY,
    (JobStatus.IN_PROGRESS, JobStatus.COMPLETED): _PROVIDER,
    (JobStatus.IN_PROGRESS, JobStatus.CANCELLED): _EVERYBODY,
}
"""(from, to) → who may take it. A new round of an offered job keeps `offered`: that is no edge."""


def may(start: JobStatus, end: JobStatus, by: Actor | None = None) -> bool:
    """Whether a job may go from `start` to `end`, and, when `by` is given, whether he may move it."""
    actors = LEGAL.get((start, end))
    return actors is not None and (by is None or by in actors)


class ProviderStatus(StrEnum):
    PENDING = "pending"
    PENDING_VERIFICATION = "pending_verification"
    APPROVED = "approved"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REJECTED = "rejected"


MAY_WORK: Final = frozenset({ProviderStatus.APPROVED, ProviderStatus.ACTIVE})
"""Both have the same rights; `active` has been online since his approval."""

PROVIDER_LEGAL: Final[Mapping[ProviderStatus, frozenset[ProviderStatus]]] = {
    ProviderStatus.PENDING: frozenset({ProviderStatus.PENDING_VERIFICATION, ProviderStatus.REJECTED}),
    ProviderStatus.PENDING_VERIFICATION: frozenset({ProviderStatus.APPROVED, ProviderStatus.REJECTED}),
    ProviderStatus.APPROVED: frozenset({ProviderStatus.ACTIVE, ProviderStatus.SUSPENDED}),
    ProviderStatus.ACTIVE: frozenset({ProviderStatus.SUSPENDED}),
    ProviderStatus.SUSPENDED: frozenset({ProviderStatus.APPROVED}),
    ProviderStatus.REJECTED: frozenset({ProviderStatus.PENDING}),
}


def provider_may(start: ProviderStatus, end: ProviderStatus) -> bool:
    """Whether a provider may go from `start` to `end`."""
    return end in PROVIDER_LEGAL[start]


class AdminAction(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    SUSPEND = "suspend"
    REACTIVATE = "reactivate"
