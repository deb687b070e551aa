"""Nouns of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from dispatch.kit.postgres import Tx
from dispatch.markets import FareParts
from protocol.lifecycle import Actor, JobStatus


@dataclass(frozen=True, slots=True)
class JobRow:
    """What decisions about a job need; its wire form is made in SQL (`job_view`)."""

    id: UUID
    market: str
    service_type: str
    status: JobStatus
    round: int
    version: int
    customer_id: UUID
    provider_id: UUID | None
    provider_user_id: UUID | None
    pickup_lat: float
    pickup_lng: float
    surge_pct: int
    payment_method: str
    currency: str
    trail_m: float
    trail_fixes: int
    started_at: datetime | None
    riding_s: float | None
    """Seconds since the start of the trip by Postgres' clock, at the moment of the lock; None before the start."""

    def role_of(self, user_id: UUID, *, admin: bool) -> Actor | None:
        """As what this user is a party of the job; None: he is none. A party's own side goes before his being admin."""
        if user_id == self.customer_id:
            return Actor.CUSTOMER
        if user_id == self.provider_user_id:
            return Actor.PROVIDER
        return Actor.ADMIN if admin else None


@dataclass(frozen=True, slots=True)
class Trail:
    """What the server itself saw of a trip since it last wrote it down: metres along the fixes, how many, and the last."""

    distance_m: float = 0.0
    fixes: int = 0
    lat: float | None = None
    lng: float | None = None
    at: datetime | None = None


class TrailBook(Protocol):
    """Asked upwards: what this worker has seen of a job's way and not yet written down."""

    def peek(self, job_id: UUID) -> Trail:
        """What there is now; nothing is taken."""

    def taken(self, job_id: UUID, trail: Trail) -> None:
        """`trail`, peeked before, has been committed: subtract it."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A job that has just ended well, as its pay needs it: the fare that was settled, and the platform's share of it."""

    job_id: UUID
    market: str
    service_type: str
    provider_id: UUID
    provider_user_id: UUID
    customer_id: UUID
    pickup_lat: float
    pickup_lng: float
    payment_method: str
    currency: str
    fare: FareParts
    fee_minor: int
    completed_at: datetime


class Payroll(Protocol):
    """Asked upwards, in the completing transaction and before anything is told: pay the provider, or fail the completion."""

    async def pay(self, tx: Tx, done: Completed) -> Sequence[tuple[UUID, str, bytes]]:
        """Facts yet to be numbered. Locks heads of both parties and the ledger, in this order."""
