"""What somebody has and what he has earned. The rules of `protocol.resources` hold here; amounts are minor units of `currency`."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Metres, Reason, Seconds
from protocol.lifecycle import ServiceType
from protocol.resources import Currency, Minor, PaymentMethod

Amount = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""An amount of either sign: a correction takes back."""
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}(?!\n)$", description="a day in the market's time zone")]


class EarningKind(StrEnum):
    """`adjustment` and `reversal` are the office's corrections."""

    JOB = "job"
    TIP = "tip"
    BONUS = "bonus"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"


class Earning(Struct, frozen=True, omit_defaults=True):
    """`gross_minor` is the sum of its parts, `net_minor` is gross less the fee. `regular_minor` is base, distance, time and surge together.

    `paid_out` and `payout_id` only in lists, of what brought money: whether withdrawals have come so far, the oldest earnings first. Marks for
    people, by which no money goes.
    """

    id: UUID
    kind: EarningKind
    currency: Currency
    base_minor: Amount
    distance_minor: Amount
    time_minor: Amount
    surge_minor: Amount
    regular_minor: Amount
    tip_minor: Amount
    bonus_minor: Amount
    adjustment_minor: Amount
    gross_minor: Amount
    platform_fee_minor: Amount
    net_minor: Amount
    day: Day
    earned_at: At
    job_id: UUID | None = None
    service_type: ServiceType | None = None
    payment_method: PaymentMethod | None = None
    incentive_id: UUID | None = None
    reverses_id: UUID | None = None
    reason: str | None = None
    paid_out: bool | None = None
    payout_id: UUID | None = None


class Wallet(Struct, frozen=True):
    """`balance_minor` = `available_minor` + `held_minor`; `debt_minor` is owed beside it and taken from what is earned next."""

    currency: Currency
    balance_minor: Minor
    available_minor: Minor
    held_minor: Minor
    debt_minor: Minor


class Period(StrEnum):
    """A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class FareRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`surge_multiplier` has two decimals at most."""

    job_id: UUID
    distance_m: Metres
    duration_s: Seconds
    surge_multiplier: Annotated[float, Meta(ge=1, le=9.99)]

    def __post_init__(self) -> None:
        if Decimal(str(self.surge_multiplier)) * 100 % 1:
            raise ValueError("surge_multiplier: more than two decimals")


class Calculation(Struct, frozen=True):
    """`total_minor` is the sum of the four parts; the fee is taken from it, the rest is the provider's."""

    currency: Currency
    base_minor: Minor
    distance_minor: Minor
    time_minor: Minor
    surge_minor: Minor
    total_minor: Minor
    platform_fee_minor: Minor
    provider_earnings_minor: Minor


class ServiceEarnings(Struct, frozen=True):
    """Of one service type: its jobs with their tips and corrections."""

    service_type: ServiceType
    jobs: Minor
    regular_minor: Amount
    tip_minor: Amount
    net_minor: Amount


class LifetimeEarnings(Struct, frozen=True):
    """`jobs` is the number of all completed jobs."""

    jobs: Minor
    net_minor: Amount


class EarningsOverview(Struct, frozen=True):
    """Sums of the days from `from_day` to `to_day`, of `time_zone`. What belongs to no service type, such as a bonus, is in the sums alone."""

    currency: Currency
    from_day: Day
    to_day: Day
    time_zone: str
    jobs: Minor
    base_minor: Amount
    distance_minor: Amount
    time_minor: Amount
    surge_minor: Amount
    regular_minor: Amount
    tip_minor: Amount
    bonus_minor: Amount
    adjustment_minor: Amount
    gross_minor: Amount
    platform_fee_minor: Amount
    net_minor: Amount
    by_service_type: list[ServiceEarnings]
    lifetime: LifetimeEarnings


class EarningsPoint(Struct, frozen=True):
    """One day."""

    day: Day
    jobs: Minor
    regular_minor: Amount
    tip_minor: Amount
    bonus_minor: Amount
    adjustment_minor: Amount
    net_minor: Amount


class EarningsChart(Struct, frozen=True):
    """A point for each day from `from_day` to `to_day`, also for those without earnings."""

    currency: Currency
    from_day: Day
    to_day: Day
    time_zone: str
    points: list[EarningsPoint]


class TipRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """100 to 100,000 minor units, which in baht is 1 to 1,000; the same bounds in minor units hold in every currency. `currency`, where given,
    must be the job's.
    """

    amount_minor: Annotated[int, Meta(ge=100, le=100_000)]
    currency: Currency | None = None


class Tip(Struct, frozen=True):
    job_id: UUID
    amount_minor: Minor
    currency: Currency


class AdjustmentRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A positive amount is given, a negative one taken; not 0. The reason is required. `job_id`: a job of this provider that it is about."""

    amount_minor: Annotated[int, Meta(ge=-10_000_000, le=10_000_000)]
    currency: Currency
    reason: Reason | None = None
    job_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.amount_minor == 0:
            raise ValueError("amount_minor: not 0")


class ReversalRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The reason is required."""

    reason: Reason | None = None
