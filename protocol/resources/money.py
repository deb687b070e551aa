"""What somebody has and what he has earned. The rules of `protocol.resources` hold here; amounts are minor units of `currency`."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At
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
    """`gross_minor` is the sum of its parts, `net_minor` is gross less the fee. `regular_minor` is base, distance, time and surge together."""

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


class Wallet(Struct, frozen=True):
    """`balance_minor` = `available_minor` + `held_minor`; `debt_minor` is owed beside it and taken from what is earned next."""

    currency: Currency
    balance_minor: Minor
    available_minor: Minor
    held_minor: Minor
    debt_minor: Minor
