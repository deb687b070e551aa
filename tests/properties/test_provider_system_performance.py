"""Rates, warnings, ratings and the dashboard: properties 10, 13, 28, 29, 41. Through HTTP, on real stores."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.properties.scenes import PROPERTY, Scene, kinds
from tests.support.ended import ended_job
from tests.support.histories import Deal, counted, counted_days, deal, write
from tests.support.server import Person, code

stars = st.integers(1, 5)


def mean(scores: Sequence[int]) -> Decimal:
    """Two decimals, halves up."""
    return (Decimal(sum(scores)) / len(scores)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def rates(offered: int, accepted: int, completed: int, cancelled: int) -> list[float | None]:
    """Acceptance, completion, cancellation; None: of nothing."""
    return [
        accepted / offered if offered else None,
        completed / accepted if accepted else None,
        cancelled / accepted if accepted else None,
    ]


def shown(outcomes: dict[str, Any]) -> list[float | None]:
    return [outcomes[f"{name}_rate"] for name in ("acceptance", "completion", "cancellation")]


def warned(performance: dict[str, Any]) -> set[str]:
    for one in performance["warnings"]:
        assert one["message"].strip()
    return {one["warning"] for one in performance["warnings"]}


async def rated(scene: Scene, driver: Person, kind: str, score: int) -> None:
    await scene.customer.http.ratings.rate(
        await ended_job(scene.judge, scene.customer, driver, service_type=kind), score
    )


@PROPERTY
@given(
    deals=st.lists(deal(("ride", "delivery"), ("bkk", "sf"), timedelta(minutes=20)), max_size=12),
    older=st.sampled_from([0, 0, 0, 0, 195, 230]),
)
async def test_rates_are_what_was_offered_and_what_happened(scene: Scene, deals: list[Deal], older: int) -> None:
    """Feature: provider-system-redesign, Property 13: For any provider, the acceptance rate should equal (accepted jobs / offered jobs),
    completion rate should equal (completed jobs / accepted jobs), and cancellation rate should equal (cancelled jobs / accepted jobs).

    Lifetime, the newest 200, and the sums of the office's days, all against the same pencil. Fails when what others did is counted, when a
    withdrawn offer is, when a release is looked for in the wrong round, or when the status of now is read.
    """
    driver, rival = await scene.drivers(2)
    deals = [Deal("accepted", "cancelled", "provider", 0, ago=timedelta(minutes=21))] * older + sorted(
        deals, key=lambda one: one.ago, reverse=True
    )
    began: datetime = await scene.judge.fetchval("SELECT clock_timestamp()")
    await write(scene.judge, scene.customer, driver, rival, deals)
    mine = await driver.http.performance.mine()
    sums = counted(deals)
    assert tuple(mine["lifetime"][name] for name in ("offered", "accepted", "completed", "cancelled")) == sums
    assert shown(mine) == shown(mine["lifetime"]) == rates(*sums)
    assert (mine["total_completed_jobs"], mine["total_cancelled_jobs"]) == sums[2:]
    newest = [one for one in deals if one.answer in ("accepted", "declined", "expired")][-200:]
    assert shown(mine["last_200"]) == rates(*counted(newest))
    await counted_days(scene.judge, scene.server.app.aggregates, since=began - timedelta(minutes=30))
    days = await scene.judge.fetchrow(
        """SELECT coalesce(sum(offered), 0) AS offered, coalesce(sum(accepted), 0) AS accepted, coalesce(sum(completed), 0) AS completed,
             coalesce(sum(cancelled), 0) AS cancelled FROM performance_days WHERE provider_id = $1""",
        UUID(driver.provider_id),
    )
    assert days is not None and tuple(int(one) for one in days) == sums
    await scene.clear()


@PROPERTY
@given(scores=st.lists(stars, max_size=6))
async def test_a_rating_below_four_is_warned_of(scene: Scene, scores: list[int]) -> None:
    """Feature: provider-system-redesign, Property 28: For any provider whose rating drops below 4.0, a warning message should be displayed on
    their performance page.

    And nobody else is: not at 4.0, and not whom nobody has rated. Fails when the page compares with <=, or takes no rating for 0.
    """
    driver = await scene.driver()
    for number in range(len(scores) + 1):
        performance = await driver.http.performance.mine()
        if number == 0:
            assert performance["rating"] is None and warned(performance) == set()
        else:
            expected = mean(scores[:number])
            assert performance["rating"] == float(expected)
            assert ("low_rating" in warned(performance)) == (expected < 4)
        if number < len(scores):
            await rated(scene, driver, "ride", scores[number])


@PROPERTY
@given(accepted=st.integers(0, 25), data=st.data(), others=st.integers(0, 5))
async def test_a_cancellation_rate_above_a_fifth_is_warned_of(
    scene: Scene, accepted: int, data: st.DataObject, others: int
) -> None:
    """Feature: provider-system-redesign, Property 29: For any provider whose cancellation rate exceeds 20%, a warning message should be
    displayed on their performance page.

    Strictly: of five jobs one may be cancelled. Fails when the page compares with >=, or counts what customers cancelled.
    """
    edge = accepted // 5
    cancelled = data.draw(st.integers(0, accepted) | st.integers(max(0, edge - 1), min(accepted, edge + 1)))
    driver, rival = await scene.drivers(2)
    customers_part = min(others, accepted - cancelled)
    deals = [Deal("accepted", "cancelled", "provider", 1)] * cancelled
    deals += [Deal("accepted", "cancelled", "customer", 1)] * customers_part
    deals += [Deal("accepted", "completed", stage=2)] * (accepted - cancelled - customers_part)
    await write(scene.judge, scene.customer, driver, rival, deals)
    performance = await driver.http.performance.mine()
    above = accepted > 0 and Fraction(cancelled, accepted) > Fraction(1, 5)
    assert warned(performance) == ({"high_cancellation_rate"} if above else set())


@PROPERTY
@given(types=kinds, data=st.data())
async def test_each_service_type_has_a_rating_of_its_own(scene: Scene, types: list[str], data: st.DataObject) -> None:
    """Feature: provider-system-redesign, Property 41: For any provider with multiple service types, ratings should be calculated and stored
    separately for each service type.

    The overall rating is over all of them. Fails when a rating is written under another type, or a mean mixes types.
    """
    driver = await scene.driver(service_types=types)
    scores = data.draw(st.lists(st.tuples(st.sampled_from(types), stars), max_size=8))
    for kind, score in scores:
        await rated(scene, driver, kind, score)
    by_type = {kind: [score for one, score in scores if one == kind] for kind in types}
    expected = [
        {"service_type": kind, "rating": float(mean(by_type[kind])), "ratings_count": len(by_type[kind])}
        for kind in sorted(types)
        if by_type[kind]
    ]
    performance = await driver.http.performance.mine()
    assert performance["ratings"] == expected
    assert performance["rating"] == (float(mean([score for _, score in scores])) if scores else None)
    stored = await scene.judge.fetch(
        "SELECT service_type, rating FROM provider_ratings WHERE provider_id = $1 ORDER BY service_type",
        UUID(driver.provider_id),
    )
    assert [(row["service_type"], float(row["rating"])) for row in stored] == [
        (one["service_type"], one["rating"]) for one in expected
    ]
    reviews = (await driver.http.ratings.reviews())["items"]
    assert [(one["service_type"], one["score"]) for one in reviews] == scores[::-1]


_EARNING = """INSERT INTO earnings (id, provider_id, user_id, kind, job_id, market, service_type, currency, base_minor, tip_minor, bonus_minor,
    adjustment_minor, gross_minor, platform_fee_minor, net_minor, credited_minor, credited_sum, credited_upto, reason, day, earned_at)
  SELECT $1, $2, $3, $4, $5, $6, 'ride', $7, g.base, g.tip, g.bonus, g.adjustment, $8, $9, $8 - $9, $8 - $9, 0, 0, 'x',
    ((clock_timestamp() AT TIME ZONE $10)::date - $11::int), clock_timestamp() - $12::interval
  FROM (SELECT CASE WHEN $4 = 'job' THEN $8::bigint ELSE 0 END AS base, CASE WHEN $4 = 'tip' THEN $8::bigint ELSE 0 END AS tip,
    CASE WHEN $4 = 'bonus' THEN $8::bigint ELSE 0 END AS bonus, CASE WHEN $4 = 'adjustment' THEN $8::bigint ELSE 0 END AS adjustment) g"""
_ZONES = {"bkk": ("Asia/Bangkok", "THB"), "sf": ("America/Los_Angeles", "USD")}

earned = st.tuples(
    st.sampled_from(["job", "job", "tip", "bonus", "adjustment"]),
    st.sampled_from(["bkk", "bkk", "bkk", "sf"]),
    st.integers(0, 2),  # days ago
    st.integers(0, 100_000),
)


@PROPERTY
@given(
    status=st.sampled_from(
        ["approved", "active", "active", "pending", "pending_verification", "suspended", "rejected"]
    ),
    scores=st.lists(stars, max_size=2),
    history=st.lists(deal(), max_size=4),
    rows=st.lists(earned, max_size=6),
)
async def test_the_dashboard_shows_today_and_how_he_does(
    scene: Scene, status: str, scores: list[int], history: list[Deal], rows: list[tuple[str, str, int, int]]
) -> None:
    """Feature: provider-system-redesign, Property 10: For any provider with status "approved" or "active" accessing the dashboard, the system
    should display their current day's earnings, completed jobs count, and rating.

    The day is that of the market where he earned last. Fails when yesterday, another currency or a tip's job is counted, or for UTC's day.
    """
    driver, rival = await scene.drivers(2)
    for score in scores:
        await rated(scene, driver, "ride", score)
    await write(scene.judge, scene.customer, driver, rival, history)
    for number, (kind, market, days, minor) in enumerate(rows):
        zone, currency = _ZONES[market]
        job = await ended_job(scene.judge, scene.customer, driver) if kind in ("job", "tip") else None
        fee = minor // 5 if kind == "job" else 0
        # The last of the list is the newest.
        ago = timedelta(seconds=len(rows) - number)
        await scene.judge.execute(
            _EARNING,
            uuid4(),
            UUID(driver.provider_id),
            driver.user_id,
            kind,
            job,
            market,
            currency,
            minor,
            fee,
            zone,
            days,
            ago,
        )
    await scene.judge.execute(
        "UPDATE providers SET status = $2, suspension_reason = 'x', rejection_reason = 'x' WHERE id = $1",
        UUID(driver.provider_id),
        status,
    )
    if status not in ("approved", "active"):
        with code("PROVIDER_SUSPENDED" if status == "suspended" else "PROVIDER_NOT_APPROVED"):
            await driver.http.performance.dashboard()
        return
    market = rows[-1][1] if rows else "bkk"
    zone, currency = _ZONES[market]
    before = await local_day(scene, zone)
    board = await driver.http.performance.dashboard()
    assume(await local_day(scene, zone) == before)
    todays = [(kind, minor) for kind, where, days, minor in rows if where == market and days == 0]
    assert board["today"] == {
        "day": before,
        "net_minor": sum(minor - (minor // 5 if kind == "job" else 0) for kind, minor in todays),
        "currency": currency,
        "completed_jobs": sum(kind == "job" for kind, _ in todays),
    }
    assert board["rating"] == (float(mean(scores)) if scores else None)
    assert shown(board) == rates(*counted(history))


async def local_day(scene: Scene, zone: str) -> str:
    day: datetime = await scene.judge.fetchval("SELECT (clock_timestamp() AT TIME ZONE $1)::date", zone)
    return day.isoformat()
