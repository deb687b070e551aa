"""Nouns of earnings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol
from uuid import UUID

from dispatch.jobs import Completed
from dispatch.kit.postgres import Tx
from protocol.resources import PaymentMethod


@dataclass(frozen=True, slots=True)
class Bonus:
    """What an incentive owes somebody for the job that has just been completed."""

    incentive_id: UUID
    tier: int
    amount_minor: int
    name: str


class Bonuses(Protocol):
    """Asked upwards: the incentives that count a job."""

    async def earned(self, tx: Tx, done: Completed) -> Sequence[Bonus]:
        """Count `done` in the running programs; the tiers that it reaches, each once for ever."""


@dataclass(frozen=True, slots=True)
class Payout:
    """A completed withdrawal; `upto_minor` is the sum of all of this owner and currency up to it, itself among them."""

    id: UUID
    upto_minor: int


class PaidOut(Protocol):
    """Asked upwards: what has been paid out to somebody."""

    async def payouts(
        self, tx: Tx, user_id: UUID, currency: str, *, lowest_minor: int, highest_minor: int
    ) -> Sequence[Payout]:
        """His completed withdrawals in the order of their completion: at least those from the first whose `upto_minor` is `lowest_minor`
        or more to the first whose `upto_minor` is `highest_minor` or more. Others may be among them.
        """


@dataclass(frozen=True, slots=True)
class Span:
    """Days, both inclusive, of the time zone `zone`."""

    first: date
    last: date
    currency: str
    zone: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of earnings. Amounts in minor units of `currency`; those of a correction may be negative.

    `credited_minor` is what its posting changes of the provider's own money (wallet less debt): the net, but of a cash job, whose fare he has
    in his hand, what his fee took.
    """

    id: UUID
    provider_id: UUID
    user_id: UUID
    kind: str
    market: str
    currency: str
    job_id: UUID | None = None
    service_type: str | None = None
    payment_method: str | None = None
    base_minor: int = 0
    distance_minor: int = 0
    time_minor: int = 0
    surge_minor: int = 0
    tip_minor: int = 0
    bonus_minor: int = 0
    adjustment_minor: int = 0
    platform_fee_minor: int = 0
    incentive_id: UUID | None = None
    reverses_id: UUID | None = None
    reason: str | None = None
    taken_minor: int = 0
    """Of a cash job: what of its fee came from him; the rest, if any, was written off. Negative where it was given back."""
    gross_minor: int = field(init=False)
    net_minor: int = field(init=False)
    credited_minor: int = field(init=False)

    def __post_init__(self) -> None:
        parts = self.base_minor + self.distance_minor + self.time_minor + self.surge_minor
        gross = parts + self.tip_minor + self.bonus_minor + self.adjustment_minor
        object.__setattr__(self, "gross_minor", gross)
        object.__setattr__(self, "net_minor", gross - self.platform_fee_minor)
        cash = self.payment_method == PaymentMethod.CASH
        object.__setattr__(self, "credited_minor", -self.taken_minor if cash else self.net_minor)

    def reversed(self, new_id: UUID, reason: str) -> "Row":
        """The row that takes this one back."""
        return replace(
            self,
            id=new_id,
            kind="reversal",
            reverses_id=self.id,
            reason=reason,
            base_minor=-self.base_minor,
            distance_minor=-self.distance_minor,
            time_minor=-self.time_minor,
            surge_minor=-self.surge_minor,
            tip_minor=-self.tip_minor,
            bonus_minor=-self.bonus_minor,
            adjustment_minor=-self.adjustment_minor,
            platform_fee_minor=-self.platform_fee_minor,
            taken_minor=-self.taken_minor,
        )
