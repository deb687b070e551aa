"""HTTP bodies of administration. The rules of `protocol.resources` hold here."""

from typing import Any
from uuid import UUID

from msgspec import Struct

from protocol.frames import At
from protocol.resources import Currency, Provider


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
