"""What completed jobs and reached targets are worth: properties 21 to 23, 40, 42 and 43. Through HTTP, on real stores."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.earnings.stage import BEGIN
from tests.incentives.stage import a_program
from tests.properties.scenes import PROPERTY, Scene, kind
from tests.support.server import Person

trips = st.fixed_dictionaries(
    {
        "metres": st.integers(0, 50_000),
        "riding_s": st.integers(0, 7_200),
        "surge_pct": st.integers(100, 999),
        "kind": kind,
    }
)
tips = st.none() | st.integers(100, 100_000)


async def done(
    scene: Scene, driver: Person, *, metres: int = 0, riding_s: int = 0, surge_pct: int = 100, kind: str = "ride"
) -> UUID:
    """A job that this driver has completed after such a trip."""
    job = UUID((await scene.far_job(kind))["id"])
    await scene.judge.execute(
        BEGIN,
        job,
        UUID(driver.provider_id),
        driver.user_id,
        riding_s - 3600.0 * (riding_s == 0),
        float(metres),
        surge_pct,
        "cashless",
    )
    await driver.http.advance(job, "completed", distance_m=metres)
    return job


async def wallet(scene: Scene, driver: Person) -> int:
    found = await scene.judge.fetchval(
        "SELECT balance FROM ledger_account WHERE owner_id = $1 AND kind = 'wallet'", driver.user_id
    )
    return int(found or 0)


async def overview(driver: Person) -> dict[str, Any]:
    return await driver.http.call("GET", "/v1/providers/me/earnings", params=days())


def days() -> dict[str, str]:
    """Those around now, whatever the time zone."""
    today = datetime.now(UTC).date()
    return {"from": str(today - timedelta(days=1)), "to": str(today + timedelta(days=1))}


@PROPERTY
@given(trip=trips, tip=tips)
async def test_a_completed_job_pays_at_once_and_its_parts_add_up(
    scene: Scene, trip: dict[str, Any], tip: int | None
) -> None:
    """Feature: provider-system-redesign, Property 21: a completed job raises the wallet by its net earnings and the jobs count by 1.
    Feature: provider-system-redesign, Property 22: for any completed job the earnings are in the wallet within 1 second.
    Feature: provider-system-redesign, Property 23: base + distance + time + tip + bonus (+ surge) is gross, and gross - platform_fee is net.

    In the wallet before the answer is out: one transaction. Fails when the fee is taken of the tip, the surge is left out, or nothing is paid.
    """
    driver = await scene.driver(service_types=[trip["kind"]])
    job = await done(scene, driver, **trip)
    paid = await wallet(scene, driver)
    (item,) = (await driver.http.call("GET", "/v1/providers/me/earnings/items", params=days()))["items"]
    assert paid == item["net_minor"] == (await driver.http.job(job))["actual_earnings_minor"]
    if tip is not None:
        await scene.customer.http.earnings.tip(job, tip)
    for one in (await driver.http.call("GET", "/v1/providers/me/earnings/items", params=days()))["items"]:
        parts = sum(
            one[f"{part}_minor"] for part in ("base", "distance", "time", "surge", "tip", "bonus", "adjustment")
        )
        assert parts == one["gross_minor"] and one["gross_minor"] - one["platform_fee_minor"] == one["net_minor"]
    seen = await overview(driver)
    assert await wallet(scene, driver) == paid + (tip or 0) == seen["net_minor"] == seen["lifetime"]["net_minor"]
    assert seen["jobs"] == seen["lifetime"]["jobs"] == 1
    regular = item["base_minor"] + item["distance_minor"] + item["time_minor"] + item["surge_minor"]
    assert seen["platform_fee_minor"] == (regular * 20 * 2 + 100) // 200


@PROPERTY
@given(kinds=st.lists(kind, min_size=1, max_size=4))
async def test_each_service_type_has_its_own_totals(scene: Scene, kinds: list[str]) -> None:
    """Feature: provider-system-redesign, Property 40: for a provider of several service types there are separate totals for each.

    Fails when types are added up together, or a tip goes to another type than its job.
    """
    driver = await scene.driver(service_types=sorted(set(kinds)))
    expected: dict[str, list[int]] = {}
    for n, one in enumerate(kinds):
        job = await done(scene, driver, kind=one, metres=1_000 * n)
        if n == 0:
            await scene.customer.http.earnings.tip(job, 1_000)
        net = await scene.judge.fetchval("SELECT sum(net_minor)::bigint FROM earnings WHERE job_id = $1", job)
        sums = expected.setdefault(one, [0, 0])
        sums[0] += 1
        sums[1] += net
    seen = await overview(driver)
    assert {one["service_type"]: [one["jobs"], one["net_minor"]] for one in seen["by_service_type"]} == expected
    assert sum(net for _, net in expected.values()) == seen["net_minor"]


@PROPERTY
@given(
    steps=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 100_000)), min_size=1, max_size=2),
    extra=st.integers(0, 1),
)
async def test_a_reached_target_pays_its_bonus_apart_from_the_regular_pay(
    scene: Scene, steps: list[tuple[int, int]], extra: int
) -> None:
    """Feature: provider-system-redesign, Property 42: for a provider who completes a program's requirements its bonus is added to his wallet.
    Feature: provider-system-redesign, Property 43: displays show bonus amounts apart from the regular ones.

    Fails when a tier is missed, paid twice, or shown among the fares.
    """
    admin, driver = scene.somebody("admin"), await scene.driver(service_types=["ride"])
    targets = [sum(step for step, _ in steps[: n + 1]) for n in range(len(steps))]
    tiers = [(target, bonus) for target, (_, bonus) in zip(targets, steps, strict=True)]
    program = await admin.http.incentives.create(**a_program(*tiers))
    jobs = targets[-1] + extra
    for n in range(1, jobs + 1):
        await done(scene, driver)
        due = sum(bonus for target, bonus in tiers if target <= n)
        assert await wallet(scene, driver) == 2_800 * n + due
    bonus = sum(bonus for _, bonus in tiers)
    seen = await overview(driver)
    assert (seen["bonus_minor"], seen["regular_minor"], seen["net_minor"]) == (
        bonus,
        3_500 * jobs,
        2_800 * jobs + bonus,
    )
    chart = await driver.http.call("GET", "/v1/providers/me/earnings/chart", params=days())
    assert sum(one["bonus_minor"] for one in chart["points"]) == bonus
    assert sum(one["regular_minor"] for one in chart["points"]) == 3_500 * jobs
    rows = await scene.judge.fetch(
        "SELECT body FROM events WHERE user_id = $1 AND name = 'earnings.created' ORDER BY seq", driver.user_id
    )
    told = [orjson.loads(row["body"])["earning"] for row in rows]
    assert [one["bonus_minor"] for one in told if one["kind"] == "bonus"] == [bonus for _, bonus in tiers]
    assert all(one["regular_minor"] == 0 for one in told if one["kind"] == "bonus")
    assert all(one["bonus_minor"] == 0 for one in told if one["kind"] == "job")
    await admin.http.incentives.change(program["id"], active=False)
