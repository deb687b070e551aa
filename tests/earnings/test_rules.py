"""Which legs an amount becomes, which days are asked for, and what counts as paid out. Pure."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.earnings.model import Payout, Row
from dispatch.earnings.rules import (
    adjusting,
    calculated,
    days_of,
    legs_of,
    own,
    payout_of,
    reversing,
)
from dispatch.jobs import Completed
from dispatch.kit.errors import BadDateRange
from dispatch.ledger import Account, Kind, Leg, Purse, charged, credited
from dispatch.markets import FareParts, Markets, Tariff, fare, fee_minor
from protocol.resources.money import AdjustmentRequest, FareRequest, Period, TipRequest

BKK = Markets.load()["bkk"]
HIM = uuid4()
WALLET, DEBT = Account(Kind.WALLET, HIM), Account(Kind.PROVIDER_DEBT, HIM)
amounts = st.integers(0, 10**9)
purses = st.builds(
    lambda wallet, held, owed, room: Purse(HIM, "THB", wallet, held, owed, owed + room),
    amounts,
    amounts,
    amounts,
    amounts,
)
fares = st.builds(
    fare,
    st.builds(Tariff, st.integers(0, 10_000), st.integers(0, 5_000), st.integers(0, 5_000)),
    st.integers(0, 100_000),
    st.integers(0, 100_000),
    st.integers(100, 999),
)


def done(parts: FareParts, fee: int, method: str = "cashless") -> Completed:
    ids = uuid4(), uuid4()
    at = datetime(2026, 11, 20, tzinfo=UTC)
    return Completed(uuid4(), "bkk", "ride", ids[0], HIM, ids[1], 13.7, 100.5, method, "THB", parts, fee, at)


def moved(legs: list[Leg], *, into: Kind) -> int:
    """What an account of the platform has more after `legs`."""
    account = Account(into)
    return sum(leg.amount_minor * ((leg.dst == account) - (leg.src == account)) for leg in legs)


def positive(legs: list[Leg]) -> bool:
    return all(leg.amount_minor > 0 for leg in legs)


@given(purses, amounts)
def test_what_comes_in_repays_the_debt_first(purse: Purse, amount: int) -> None:
    legs = credited(purse, amount, Kind.RIDE_CLEARING)
    after = purse.after(legs)
    assert positive(legs) and own(after) == own(purse) + amount
    assert after.owed_minor == max(0, purse.owed_minor - amount)
    assert after.wallet_minor == purse.wallet_minor + max(0, amount - purse.owed_minor)


@given(purses, amounts)
def test_a_fee_takes_the_wallet_then_the_debt_then_the_platform(purse: Purse, amount: int) -> None:
    legs = charged(purse, amount, Kind.PLATFORM_FEE, rest=Kind.FEE_WRITEOFF)
    after = purse.after(legs)
    assert positive(legs) and moved(legs, into=Kind.PLATFORM_FEE) == amount
    assert after.wallet_minor == max(0, purse.wallet_minor - amount)
    if after.owed_minor > purse.owed_minor:
        assert after.wallet_minor == 0
    lost = -moved(legs, into=Kind.FEE_WRITEOFF)
    assert 0 <= lost <= amount and own(purse) - own(after) == amount - lost
    if lost:
        assert after.owed_minor == after.owed_max_minor
    assert purse.owed_minor <= after.owed_minor <= after.owed_max_minor


@given(purses, fares, st.integers(0, 100), st.sampled_from(["cash", "cashless"]))
def test_a_completed_job_pays_net_and_the_fee_is_part_of_the_fare(
    purse: Purse, parts: FareParts, percent: int, method: str
) -> None:
    fee = fee_minor(parts.total_minor, percent)
    assert 0 <= fee <= parts.total_minor
    legs = legs_of(done(parts, fee, method), purse)
    after = purse.after(legs)
    assert positive(legs) and moved(legs, into=Kind.PLATFORM_FEE) == fee
    if method == "cashless":
        assert own(after) - own(purse) == parts.total_minor - fee
        assert -moved(legs, into=Kind.RIDE_CLEARING) == parts.total_minor
    else:
        assert own(purse) - own(after) == fee + moved(legs, into=Kind.FEE_WRITEOFF)


def row(kind: str = "job", **given: object) -> Row:
    made: Row = Row(uuid4(), uuid4(), HIM, kind, "bkk", "THB", **given)  # type: ignore[arg-type]
    return made


@given(purses, fares, st.integers(0, 100), st.sampled_from(["cash", "cashless"]))
def test_a_reversal_undoes_what_a_job_moved(purse: Purse, parts: FareParts, percent: int, method: str) -> None:
    fee = fee_minor(parts.total_minor, percent)
    legs = legs_of(done(parts, fee, method), purse)
    after = purse.after(legs)
    first = row(
        payment_method=method,
        base_minor=parts.base_minor,
        distance_minor=parts.distance_minor,
        time_minor=parts.time_minor,
        surge_minor=parts.surge_minor,
        platform_fee_minor=fee,
        taken_minor=own(purse) - own(after) if method == "cash" else 0,
    )
    assert first.credited_minor == own(after) - own(purse)
    back = reversing(first, after)
    last = after.after(back)
    taken_back = first.reversed(uuid4(), "x")
    assert positive(back) and own(last) == own(purse) and taken_back.credited_minor == -first.credited_minor
    assert taken_back.net_minor == -first.net_minor and taken_back.reverses_id == first.id
    for kind in (Kind.PLATFORM_FEE, Kind.RIDE_CLEARING, Kind.FEE_WRITEOFF):
        assert moved(legs, into=kind) + moved(back, into=kind) == 0


@given(purses, st.sampled_from(["tip", "bonus", "adjustment"]), st.integers(1, 10**7))
def test_a_reversal_undoes_tips_bonuses_and_corrections(purse: Purse, kind: str, amount: int) -> None:
    part = {"tip": "tip_minor", "bonus": "bonus_minor", "adjustment": "adjustment_minor"}[kind]
    source = {"tip": Kind.RIDE_CLEARING, "bonus": Kind.PROMO_EXPENSE, "adjustment": Kind.ADJUSTMENT_EXPENSE}[kind]
    first = row(kind, **{part: amount})
    legs = reversing(first, purse)
    assert positive(legs) and moved(legs, into=source) == amount
    assert own(purse.after(legs)) == own(purse) - amount


@given(purses, st.integers(-(10**7), 10**7).filter(bool))
def test_a_correction_moves_exactly_its_amount(purse: Purse, amount: int) -> None:
    legs = adjusting(purse, amount)
    assert positive(legs) and own(purse.after(legs)) == own(purse) + amount
    assert moved(legs, into=Kind.ADJUSTMENT_EXPENSE) == -amount


@given(st.lists(st.integers(-1000, 1000), min_size=7, max_size=7), st.integers(0, 1000))
def test_gross_is_the_sum_of_the_parts_and_net_is_gross_less_the_fee(parts: list[int], fee: int) -> None:
    names = ("base", "distance", "time", "surge", "tip", "bonus", "adjustment")
    made = row(platform_fee_minor=fee, **{f"{name}_minor": part for name, part in zip(names, parts, strict=True)})
    assert made.gross_minor == sum(parts) and made.net_minor == sum(parts) - fee


def test_the_examples_of_the_first_design() -> None:
    """5 km, 15 min: 75 gross, 15 fee, 60 net; at 1.5 the surge is 37.50 and gross 112.50."""
    plain = calculated(BKK, 5_000, 900, 1.0)
    assert (plain["total_minor"], plain["platform_fee_minor"], plain["provider_earnings_minor"]) == (
        7_500,
        1_500,
        6_000,
    )
    assert (plain["base_minor"], plain["distance_minor"], plain["time_minor"]) == (3_500, 2_500, 1_500)
    surged = calculated(BKK, 5_000.0, 900.0, 1.5)
    assert (surged["surge_minor"], surged["total_minor"]) == (3_750, 11_250)
    assert surged["platform_fee_minor"] == 2_250


@given(st.floats(0, 40_100_000), st.floats(0, 31_622_400), st.integers(100, 999))
def test_a_calculation_adds_up(metres: float, seconds: float, pct: int) -> None:
    found = calculated(BKK, metres, seconds, pct / 100)
    parts = ("base_minor", "distance_minor", "time_minor", "surge_minor")
    assert sum(found[part] for part in parts) == found["total_minor"]  # type: ignore[misc]
    assert found["platform_fee_minor"] + found["provider_earnings_minor"] == found["total_minor"]  # type: ignore[operator]


@given(st.integers(100, 999))
def test_every_multiplier_of_two_decimals_is_taken_as_it_is_written(pct: int) -> None:
    request = FareRequest(uuid4(), 1000.0, 60.0, pct / 100)
    found = calculated(BKK, request.distance_m, request.duration_s, request.surge_multiplier)
    assert found["surge_minor"] == fare(BKK.tariff, 1000, 60, pct).surge_minor


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (FareRequest, {"surge_multiplier": 1.005}),
        (FareRequest, {"surge_multiplier": 0.99}),
        (FareRequest, {"surge_multiplier": 10}),
        (FareRequest, {"distance_m": -1}),
        (FareRequest, {"duration_s": -0.1}),
        (FareRequest, {"distance_m": None}),
        (FareRequest, {"extra": 1}),
        (TipRequest, {"amount_minor": 99}),
        (TipRequest, {"amount_minor": 100_001}),
        (TipRequest, {"amount_minor": 100.5}),
        (TipRequest, {"currency": "baht"}),
        (AdjustmentRequest, {"amount_minor": 0}),
        (AdjustmentRequest, {"amount_minor": 10_000_001}),
        (AdjustmentRequest, {"currency": None}),
    ],
)
def test_bodies_out_of_bounds_are_refused(shape: type, body: dict[str, object]) -> None:
    good = {
        FareRequest: {"job_id": str(uuid4()), "distance_m": 1, "duration_s": 1, "surge_multiplier": 1},
        TipRequest: {"amount_minor": 100},
        AdjustmentRequest: {"amount_minor": 1, "currency": "THB"},
    }[shape]
    msgspec.convert(good, shape)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(good | body, shape)


TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("period", "day", "expected"),
    [
        (None, None, ("2026-11-20", "2026-11-20")),
        (Period.DAY, date(2026, 1, 31), ("2026-01-31", "2026-01-31")),
        (Period.WEEK, None, ("2026-11-16", "2026-11-22")),
        (Period.WEEK, date(2026, 11, 16), ("2026-11-16", "2026-11-22")),
        (Period.WEEK, date(2026, 11, 22), ("2026-11-16", "2026-11-22")),
        (Period.MONTH, date(2026, 12, 31), ("2026-12-01", "2026-12-31")),
        (Period.MONTH, date(2028, 2, 29), ("2028-02-01", "2028-02-29")),
    ],
)
def test_a_period_is_the_days_around_a_day(period: Period, day: date, expected: tuple[str, str]) -> None:
    first, last = days_of(period, day, None, None, TODAY)
    assert (first.isoformat(), last.isoformat()) == expected


def test_a_range_has_both_ends_and_a_year_at_most() -> None:
    assert days_of(None, None, TODAY, TODAY, TODAY) == (TODAY, TODAY)
    assert days_of(None, None, TODAY, TODAY + timedelta(days=365), TODAY)[1] == TODAY + timedelta(days=365)
    for wrong in (
        (None, None, TODAY, None),
        (None, None, None, TODAY),
        (None, None, TODAY, TODAY - timedelta(days=1)),
        (None, None, TODAY, TODAY + timedelta(days=366)),
        (Period.DAY, None, TODAY, TODAY),
        (None, TODAY, TODAY, TODAY),
        (None, date(1, 1, 1), None, None),
        (Period.MONTH, date(9999, 12, 31), None, None),
        (None, None, date.min, date.max),
    ):
        with pytest.raises(BadDateRange):
            days_of(*wrong, TODAY)


@given(st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=30))
def test_the_oldest_earnings_are_paid_out_first(history: list[tuple[int, bool]]) -> None:
    """Against a walk of the history by hand: earnings queue up, each withdrawal takes from the front of the queue."""
    queue: list[list[int]] = []  # [number, what is left of it]
    payouts: list[Payout] = []
    by: dict[int, UUID] = {}
    upto: list[int] = []
    earned = taken = 0
    for amount, is_payout in history:
        if not is_payout:
            queue.append([len(upto), amount])
            earned += amount
            upto.append(earned)
            continue
        amount = min(amount, earned - taken)
        if amount == 0:
            continue
        taken += amount
        payouts.append(Payout(uuid4(), taken))
        while amount:
            part = min(amount, queue[0][1])
            queue[0][1] -= part
            amount -= part
            if queue[0][1] == 0:
                by[queue.pop(0)[0]] = payouts[-1].id
    assert {n: payout for n, sum_ in enumerate(upto) if (payout := payout_of(sum_, payouts))} == by
    # Marks stay: what comes later changes none.
    more = [*payouts, Payout(uuid4(), taken + 50)]
    assert all(payout_of(upto[n], more) == payout for n, payout in by.items())


def test_a_row_keeps_its_numbers_when_it_is_copied() -> None:
    first = row(base_minor=100, platform_fee_minor=20)
    assert replace(first, base_minor=200).net_minor == 180 and first.net_minor == 80
