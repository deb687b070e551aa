"""HTTP bodies of administration. The rules of `protocol.resources` hold here."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Reason
from protocol.resources import Currency, Locale, Provider, Role


class ProviderHistory(Struct, frozen=True, omit_defaults=True):
    """One change of a provider's status or intent: who may be the provider himself, an admin or the system."""

    at: At
    what: str
    actor_role: str
    actor_id: UUID | None = None
    reason: str | None = None


class ProviderFile(Struct, frozen=True, omit_defaults=True):
    """Everything an office sees of one provider; `history` newest first, 100 at most."""

    provider: Provider
    history: list[ProviderHistory]
    active_job_id: UUID | None = None


class AuditEntry(Struct, frozen=True, omit_defaults=True):
    """One write of an admin. `before` and `after` hold the fields that changed."""

    id: UUID
    at: At
    actor_id: UUID
    action: str
    subject: str
    subject_id: UUID
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str | None = None
    request_id: str | None = None
    address: str | None = None


class Analytics(Struct, frozen=True, omit_defaults=True):
    """Of a range of days. `growth_rate`: providers approved in it against as many days before, minus 1; absent without any before.
    `average_rating` is absent until somebody was rated.
    """

    total_providers: int
    active_providers: int
    pending_verifications: int
    total_jobs: int
    total_earnings_minor: int
    currency: Currency
    calculated_at: At
    average_rating: float | None = None
    growth_rate: float | None = None


class Statistics(Struct, frozen=True):
    """How things stand now: counts by status, and what waits for the office."""

    providers: dict[str, int]
    providers_online: int
    jobs: dict[str, int]
    tickets_open: int
    documents_waiting: int
    vehicles_waiting: int
    sockets: int


class OfficeUser(Struct, frozen=True, omit_defaults=True):
    """A user as admins see him. `roles` is absent where his token says them."""

    id: UUID
    locale: Locale
    email_verified: bool
    phone_verified: bool
    created_at: At
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    phone_number: str | None = None
    roles: list[Role] | None = None
    blocked_at: At | None = None
    blocked_reason: str | None = None
    provider_id: UUID | None = None


class RolesRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without `roles`: as his token says."""

    roles: Annotated[list[Role], Meta(max_length=4)] | None = None


class BlockRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason is required to block."""

    reason: Reason | None = None


class WorkerHealth(Struct, frozen=True):
    """A worker whose beat is older than 10 s is dead."""

    id: str
    started_at: At
    beat_age_s: float


class SystemHealth(Struct, frozen=True):
    """What an operator asks first. `circuits`: of the worker that answered; closed, open or half-open."""

    database_ms: float
    redis_reachable: bool
    circuits: dict[str, str]
    workers: list[WorkerHealth]
    queue_waiting: int
    queue_lag_s: float
    deliveries_dead: int
    gates_stale: int
    jobs_overdue: int
