"""HTTP bodies of performance. The rules of `protocol.resources` hold here, but that a rate of nothing is null and is there: whoever has had
no offer has no acceptance rate, which is not 0.
"""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Count
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.resources import Currency, Job
from protocol.resources.money import Amount, Day

Share = Annotated[float, Meta(ge=0, le=1)]
Stars = Annotated[float, Meta(ge=1, le=5)]


class WarningWord(StrEnum):
    """`low_rating`: below 4.0. `high_cancellation_rate`: above 20 %."""

    LOW_RATING = "low_rating"
    HIGH_CANCELLATION_RATE = "high_cancellation_rate"


class PerformanceWarning(Struct, frozen=True):
    """`message` is for people, in their language."""

    warning: WarningWord
    message: str


class ServiceRating(Struct, frozen=True):
    """The mean of the last 500 of this service type; `ratings_count` is all there ever were."""

    service_type: ServiceType
    rating: Stars
    ratings_count: Count


class Outcomes(Struct, frozen=True):
    """`offered`: offers that the provider decided or let lapse. `cancelled`: by himself, after accepting.
    acceptance = accepted / offered, completion = completed / accepted, cancellation = cancelled / accepted.
    """

    offered: Count
    accepted: Count
    completed: Count
    cancelled: Count
    acceptance_rate: Share | None
    completion_rate: Share | None
    cancellation_rate: Share | None


class Performance(Struct, frozen=True):
    """Counted at `calculated_at`. The three rates and the totals are those of `lifetime`."""

    provider_id: UUID
    rating: Stars | None
    ratings: list[ServiceRating]
    acceptance_rate: Share | None
    completion_rate: Share | None
    cancellation_rate: Share | None
    total_completed_jobs: Count
    total_cancelled_jobs: Count
    lifetime: Outcomes
    last_200: Outcomes
    warnings: list[PerformanceWarning]
    calculated_at: At


class Today(Struct, frozen=True):
    """What `day` has brought so far, tips, bonuses and corrections included."""

    day: Day
    net_minor: Amount
    currency: Currency
    completed_jobs: Count


class Dashboard(Struct, frozen=True, omit_defaults=True):
    """`available_jobs`: how many he may take now, 100 at most; 0 while he is off or on a job."""

    provider_id: UUID
    today: Today
    rating: Stars | None
    acceptance_rate: Share | None
    completion_rate: Share | None
    cancellation_rate: Share | None
    available_jobs: Count
    calculated_at: At
    current_job: Job | None = None


class AcceptanceDay(Struct, frozen=True):
    """Offers of one day, by the day of the offer in the market's time zone, and what has become of them."""

    provider_id: UUID
    service_type: ServiceType
    day: Day
    offered: Count
    accepted: Count
    completed: Count
    cancelled: Count
    acceptance_rate: Share | None
    completion_rate: Share | None
    cancellation_rate: Share | None


class AcceptancePage(Struct, frozen=True, omit_defaults=True):
    """As things stood at `calculated_at`, at most some five minutes ago; without it nothing has been counted yet."""

    items: list[AcceptanceDay]
    next_cursor: str | None = None
    calculated_at: At | None = None


class ProviderPerformance(Struct, frozen=True):
    provider_id: UUID
    first_name: str
    last_name: str
    status: ProviderStatus
    rating: Stars | None
    offered: Count
    accepted: Count
    completed: Count
    cancelled: Count
    acceptance_rate: Share | None
    completion_rate: Share | None
    cancellation_rate: Share | None


class ProviderPerformancePage(Struct, frozen=True, omit_defaults=True):
    """As things stood at `calculated_at`, at most some five minutes ago; names, status and rating are of now."""

    items: list[ProviderPerformance]
    next_cursor: str | None = None
    calculated_at: At | None = None
