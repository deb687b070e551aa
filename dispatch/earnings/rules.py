"""What moves for whom, which days are asked for, and which earnings count as paid out."""

from bisect import bisect_left
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

from dispatch.earnings.model import Payout, Row
from dispatch.jobs import Completed
from dispatch.kit.days import check_range
from dispatch.kit.errors import BadDateRange
from dispatch.ledger import Account, Kind, Leg, Purse, charged, credited
from dispatch.markets import Market, fare, fee_minor
from protocol.resources import PaymentMethod
from protocol.resources.money import Period

_FIRST_YEAR, _LAST_YEAR = 2000, 2200


def legs_of(done: Completed, before: Purse) -> list[Leg]:
    """What moves for a completed job. Nothing where the fare, or the fee of a cash job, is 0."""
    if done.payment_method == PaymentMethod.CASH:
        return charged(before, done.fee_minor, Kind.PLATFORM_FEE, rest=Kind.FEE_WRITEOFF)
    legs = credited(before, done.fare.total_minor - done.fee_minor, Kind.RIDE_CLEARING)
    if done.fee_minor:
        legs.append(Leg(Account(Kind.RIDE_CLEARING), Account(Kind.PLATFORM_FEE), done.fee_minor))
    return legs


def own(purse: Purse) -> int:
    """What is somebody's own in all: wallet and what is held, less what he owes."""
    return purse.wallet_minor + purse.held_minor - purse.owed_minor


def adjusting(before: Purse, amount_minor: int) -> list[Leg]:
    """A correction of either sign. What the debt cannot hold stays a leg from it, for the floor to refuse."""
    if amount_minor > 0:
        return credited(before, amount_minor, Kind.ADJUSTMENT_EXPENSE)
    return charged(before, -amount_minor, Kind.ADJUSTMENT_EXPENSE)


def reversing(row: Row, before: Purse) -> list[Leg]:
    """What moves to take `row` back: his net comes from wallet, then debt, the fee from the platform, into where it all came from. A cash job
    gives its fee back to him; what of it was written off is the platform's own again.
    """
    if row.payment_method == PaymentMethod.CASH and row.kind == "job":
        legs = credited(before, row.taken_minor, Kind.PLATFORM_FEE)
        if lost := row.platform_fee_minor - row.taken_minor:
            legs.append(Leg(Account(Kind.PLATFORM_FEE), Account(Kind.FEE_WRITEOFF), lost))
        return legs
    if row.kind == "adjustment":
        return adjusting(before, -row.adjustment_minor)
    source = Kind.PROMO_EXPENSE if row.kind == "bonus" else Kind.RIDE_CLEARING
    legs = charged(before, row.net_minor, source)
    if row.platform_fee_minor:
        legs.append(Leg(Account(Kind.PLATFORM_FEE), Account(source), row.platform_fee_minor))
    return legs


def calculated(market: Market, distance_m: float, duration_s: float, multiplier: float) -> dict[str, object]:
    """A fare by the market's tariff and who gets what of it, as the wire shows it. Fractions of a metre and a second are rounded half up."""
    pct = int((Decimal(str(multiplier)) * 100).to_integral_value())
    parts = fare(market.tariff, _whole(distance_m), _whole(duration_s), pct)
    fee = fee_minor(parts.total_minor, market.platform_fee_percent)
    return {
        "currency": market.currency,
        "base_minor": parts.base_minor,
        "distance_minor": parts.distance_minor,
        "time_minor": parts.time_minor,
        "surge_minor": parts.surge_minor,
        "total_minor": parts.total_minor,
        "platform_fee_minor": fee,
        "provider_earnings_minor": parts.total_minor - fee,
    }


def _whole(number: float) -> int:
    return int(Decimal(str(number)).to_integral_value(ROUND_HALF_UP))


def days_of(
    period: Period | None, day: date | None, first: date | None, last: date | None, today: date
) -> tuple[date, date]:
    """The days that are asked for, both inclusive: a period around a day (today unless told), or a range. A week begins on Monday.

    Raises: BadDateRange.
    """
    if first is not None or last is not None:
        if first is None or last is None or period is not None or day is not None:
            raise BadDateRange("from and to come together, and alone")
    else:
        first, last = _around(_bounded(day or today), period or Period.DAY)
    check_range(_bounded(first), _bounded(last))
    return first, last


def _bounded(day: date) -> date:
    if not _FIRST_YEAR <= day.year < _LAST_YEAR:
        raise BadDateRange(f"{day} is no day of ours")
    return day


def _around(day: date, period: Period) -> tuple[date, date]:
    match period:
        case Period.DAY:
            return day, day
        case Period.WEEK:
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=6)
        case Period.MONTH:
            after = (day.replace(day=1) + timedelta(days=31)).replace(day=1)
            return day.replace(day=1), after - timedelta(days=1)


def payout_of(credited_upto_minor: int, payouts: Sequence[Payout]) -> UUID | None:
    """The withdrawal that paid an earning out, the oldest earnings first: the first one with which so much has been paid out in all as had been
    earned up to and with that earning. None: not yet. A mark for people; no money goes by it.
    """
    place = bisect_left(payouts, credited_upto_minor, key=lambda payout: payout.upto_minor)
    return payouts[place].id if place < len(payouts) else None
