"""Programs: made and changed by the office, counted and paid in the completing transaction."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from bench.faults.proxy import Proxy
from dispatch.incentives import Counting
from dispatch.jobs import Completed
from dispatch.kit.postgres import Actor
from dispatch.markets import FareParts, Markets
from protocol.errors import Denied
from tests.earnings.stage import balances, begun, check_books, completed, finished, platform
from tests.incentives.stage import a_program, at
from tests.support.server import BANGKOK, Person, Server, code, serving

FARE = 2_800
"""What a job of these tests brings its provider."""
MARKETS = Markets.load()


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def make(server: Server, *tiers: tuple[int, int], **changes: Any) -> dict[str, Any]:
    admin = await server.admin()
    return await admin.http.incentives.create(**a_program(*tiers, **changes))


async def mine(driver: Person) -> dict[str, Any]:
    (found,) = (await driver.http.incentives.mine())["items"]
    return dict(found)


async def test_tiers_are_paid_as_they_are_reached_each_once_and_told_live(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    made = await make(server, (1, 500), (3, 2_000))
    async with driver.connected():
        await completed(server, customer, driver)
        bonus = (await driver.inbox.named("earnings.created", nth=2)).data["earning"]
        assert (bonus["kind"], bonus["bonus_minor"], bonus["net_minor"], bonus["incentive_id"]) == (
            "bonus",
            500,
            500,
            made["id"],
        )
        assert "job_id" not in bonus and bonus["regular_minor"] == 0
        assert (await driver.inbox.named("wallet.updated")).data["wallet"]["balance_minor"] == FARE + 500
        told = (await driver.inbox.named("notification.created")).data["notification"]
        assert told["type"] == "incentive_completed" and told["data"]["amount_minor"] == 500
        await completed(server, customer, driver)
        seen = await mine(driver)
        assert seen["count"] == 2 and seen["status"] == "running" and 0 < seen["seconds_left"] <= 24 * 3600
        assert [(tier["target"], tier["paid"]) for tier in seen["tiers"]] == [(1, True), (3, False)]
        for _ in range(3):
            await completed(server, customer, driver)
    assert await balances(server, driver) == {"wallet": 5 * FARE + 2_500}
    assert (await platform(server))["promo_expense"] == -2_500
    keys = await server.sql("SELECT idem_key FROM ledger_txn WHERE kind = 'bonus' ORDER BY id")
    assert [row["idem_key"] for row in keys] == [f"inc:{made['id']}:{driver.provider_id}:{tier}" for tier in (1, 2)]
    seen = await driver.http.earnings.overview()
    assert seen["lifetime"] == {"jobs": 5, "net_minor": 5 * FARE + 2_500}
    await check_books(server)


async def test_each_provider_has_his_own_way_and_nobody_waits(server: Server) -> None:
    customer, drivers = await server.person(), [await server.provider() for _ in range(6)]
    made = await make(server, (2, 700))
    for _ in range(2):
        jobs = [await begun(server, customer, driver) for driver in drivers]
        await asyncio.gather(*(finished(driver, job) for driver, job in zip(drivers, jobs, strict=True)))
    for driver in drivers:
        assert await balances(server, driver) == {"wallet": 2 * FARE + 700}
    rows = await server.sql(
        "SELECT count, tiers_paid FROM incentive_progress WHERE incentive_id = $1", UUID(made["id"])
    )
    assert [tuple(row) for row in rows] == [(2, 1)] * 6
    await check_books(server)


async def test_only_what_fits_counts(server: Server) -> None:
    """By the judge's own function, so that moments and places need no waiting."""
    driver, other_market = await server.provider(), {"market": "sf"}
    now = datetime.now(UTC)
    local = now.astimezone(ZoneInfo("Asia/Bangkok"))

    def around(first_h: float, last_h: float) -> dict[str, str]:
        ends = [f"{local + timedelta(hours=hours):%H:%M}" for hours in (first_h, last_h)]
        return {"from": ends[0], "to": ends[1]}

    near, far = {"lat": 13.76, "lng": 100.50, "radius_m": 3_000}, {"lat": 13.90, "lng": 100.50, "radius_m": 3_000}
    expected = {
        (await make(server, **changes))["id"]: fits
        for changes, fits in [
            ({}, True),
            ({"service_types": ["delivery", "ride"]}, True),
            ({"service_types": ["delivery"]}, False),
            (other_market, False),
            ({"starts_at": at(1), "ends_at": at(2)}, False),
            ({"active": False}, False),
            ({"area": near}, True),
            ({"area": far}, False),
            ({"hours": around(-1, 1)}, True),
            ({"hours": around(1, 3)}, False),
            ({"hours": around(-3, -1)}, False),
            # Across midnight, whatever time it is: all of the day but two hours.
            ({"hours": around(2, 0 - 2)}, False),
            ({"hours": around(-2, -4)}, True),
        ]
    }
    over = await make(server)
    await server.sql(
        "UPDATE incentives SET ends_at = clock_timestamp() - interval '1 s' WHERE id = $1", UUID(over["id"])
    )
    paid = await earned(server, driver, now)
    assert paid == {UUID(program) for program, fits in expected.items() if fits}
    assert await earned(server, driver, now) == set(), "each once"
    await make(server, ends_at=(end := at(30)))
    assert await earned(server, driver, datetime.fromisoformat(end)) == set(), "the end is no more of it"


async def earned(server: Server, driver: Person, moment: datetime) -> set[UUID]:
    """Programs whose tier a job that is completed at this moment reaches."""
    done = Completed(
        uuid4(), "bkk", "ride", UUID(driver.provider_id), driver.user_id, uuid4(), *BANGKOK, "cashless", "THB",
        FareParts(1, 0, 0, 0, 1), 0, moment,
    )  # fmt: skip
    async with server.app.pg.acting(Actor(driver.user_id)) as tx:
        return {bonus.incentive_id for bonus in await Counting(MARKETS).earned(tx, done)}


HOURS: list[tuple[dict[str, str], str, bool]] = [
    ({"from": "22:00", "to": "06:00"}, "21:59:59", False),
    ({"from": "22:00", "to": "06:00"}, "22:00:00", True),
    ({"from": "22:00", "to": "06:00"}, "23:59:59", True),
    ({"from": "22:00", "to": "06:00"}, "00:00:00", True),
    ({"from": "22:00", "to": "06:00"}, "05:59:59", True),
    ({"from": "22:00", "to": "06:00"}, "06:00:00", False),
    ({"from": "07:00", "to": "09:30"}, "06:59:59", False),
    ({"from": "07:00", "to": "09:30"}, "07:00:00", True),
    ({"from": "07:00", "to": "09:30"}, "09:29:59", True),
    ({"from": "07:00", "to": "09:30"}, "09:30:00", False),
]


async def test_hours_may_cross_midnight_and_their_end_is_no_part_of_them(server: Server) -> None:
    driver = await server.provider()
    today = datetime.now(ZoneInfo("Asia/Bangkok")).date()
    for hours, moment, counts in HOURS:
        made = await make(server, hours=hours, starts_at=at(-48), ends_at=at(48))
        local = datetime.fromisoformat(f"{today}T{moment}").replace(tzinfo=ZoneInfo("Asia/Bangkok"))
        assert (UUID(made["id"]) in await earned(server, driver, local)) is counts, (hours, moment)


async def test_cancelled_jobs_never_count(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    await make(server, (1, 500))
    job = await begun(server, customer, driver)
    await customer.http.call("GET", f"/v1/jobs/{job}")
    admin = await server.admin()
    await admin.http.cancel(job, "an accident")
    assert (await mine(driver))["count"] == 0 and await balances(server, driver) == {}


async def test_before_its_start_a_program_may_change_in_every_way(server: Server) -> None:
    admin = await server.admin()
    made = await make(server, starts_at=at(1))
    assert made["status"] == "coming"
    hours, area = {"from": "07:00", "to": "09:30"}, {"lat": 37.7, "lng": -122.4, "radius_m": 500.0}
    changed = await admin.http.incentives.change(
        made["id"], market="sf", name="Other", service_types=["moving"], tiers=[{"target": 9, "bonus_minor": 9}],
        starts_at=at(2), ends_at=at(3), hours=hours, area=area,
    )  # fmt: skip
    assert (changed["market"], changed["currency"], changed["name"], changed["tiers"]) == (
        "sf", "USD", "Other", [{"target": 9, "bonus_minor": 9}],
    )  # fmt: skip
    assert changed["hours"] == hours and changed["area"] == area and changed["service_types"] == ["moving"]
    kept = await admin.http.incentives.change(made["id"], name="Third")
    assert kept == {**changed, "name": "Third"}
    for wrong in ({"ends_at": at(1)}, {"ends_at": at(24 * 400)}, {"starts_at": at(-3), "ends_at": at(-2)}):
        with code("INVALID_DATE_RANGE"):
            await admin.http.incentives.change(made["id"], **wrong)
    log = await server.sql("SELECT action FROM audit_log WHERE subject_id = $1 ORDER BY at", UUID(made["id"]))
    assert [row["action"] for row in log] == ["create", "change", "change"]


async def test_a_program_that_runs_keeps_its_terms_and_what_it_has_paid(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    made = await make(server, (1, 500), (2, 900))
    await completed(server, customer, driver)
    for change in (
        {"tiers": [{"target": 5, "bonus_minor": 1}]},
        {"service_types": ["delivery"]},
        {"market": "sf"},
        {"starts_at": at(1)},
        {"hours": {"from": "01:00", "to": "02:00"}},
        {"area": {"lat": 13, "lng": 100, "radius_m": 5}},
        {"active": True},
        {"name": "Fine", "active": True},
    ):
        with code("PROGRAM_STARTED"):
            await admin.http.incentives.change(made["id"], **change)
    longer = await admin.http.incentives.change(made["id"], name="Rush again", ends_at=at(48))
    assert (longer["name"], longer["tiers"]) == ("Rush again", made["tiers"])
    await completed(server, customer, driver)
    assert await balances(server, driver) == {"wallet": 2 * FARE + 1_400}
    ended = await admin.http.incentives.change(made["id"], active=False)
    assert ended["status"] == "ended"
    await completed(server, customer, driver)
    assert await balances(server, driver) == {"wallet": 3 * FARE + 1_400}
    assert (await driver.http.incentives.mine())["items"] == []
    (way,) = await server.sql("SELECT count, tiers_paid FROM incentive_progress")
    assert tuple(way) == (2, 2)
    await check_books(server)


async def test_the_ledger_is_the_last_judge_of_a_bonus(server: Server) -> None:
    """Were the count ever lost, a tier would still not be paid a second time, nor be written down as earned."""
    customer, driver = await server.person(), await server.provider()
    await make(server, (1, 500))
    await completed(server, customer, driver)
    await server.sql("UPDATE incentive_progress SET count = 0, tiers_paid = 0")
    await completed(server, customer, driver)
    assert (await balances(server, driver))["wallet"] == 2 * FARE + 500
    assert len(await server.sql("SELECT 1 FROM earnings WHERE kind = 'bonus'")) == 1
    await check_books(server)


async def test_several_tiers_at_once_are_all_paid(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    made = await make(server, (1, 100), (2, 200), (3, 400))
    await server.sql("UPDATE incentives SET targets = '{1,1,1}' WHERE id = $1", UUID(made["id"]))
    await completed(server, customer, driver)
    assert await balances(server, driver) == {"wallet": FARE + 700}
    await check_books(server)


async def test_a_bonus_repays_what_is_owed_first(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    await make(server, (1, 1_000))
    await completed(server, customer, driver, cash=True)
    assert await balances(server, driver) == {"wallet": 300}
    await check_books(server)


async def test_a_completion_that_was_not_heard_of_pays_its_bonus_once(database_url: str, redis_url: str) -> None:
    async with Proxy(database_url) as line, serving(line.url, redis_url) as server:
        customer, driver = await server.person(), await server.provider()
        await make(server, (1, 500), (2, 900))
        job, key = await begun(server, customer, driver), str(uuid4())
        trap = line.drop_next_reply(b"earnings_add")
        done = await finished(driver, job, key=key)
        assert trap.reached.is_set() and await finished(driver, job, key=key) == done
        assert await balances(server, driver) == {"wallet": FARE + 500}
        assert (await mine(driver))["count"] == 1
        await check_books(server)


async def test_many_askers_complete_a_job_once_and_its_bonus_is_one(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    await make(server, (1, 500))
    job = await begun(server, customer, driver)
    answers = await asyncio.gather(*(finished(driver, job) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(one, Denied) for one in answers) == 5
    assert await balances(server, driver) == {"wallet": FARE + 500}
    await check_books(server)


async def test_providers_see_what_fits_them_in_pages(server: Server) -> None:
    driver, courier, nobody = (
        await server.provider(),
        await server.provider(service_types=["delivery"]),
        await server.person(),
    )
    made = [(await make(server, name=f"nr {n}", starts_at=at(n - 2)))["id"] for n in range(5)]
    await make(server, active=False)
    seen, cursor = [], None
    while True:
        page = await driver.http.incentives.mine(limit=2, cursor=cursor)
        seen += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            break
    assert [one["id"] for one in seen] == made[::-1]
    assert [one["status"] for one in seen] == ["coming", "coming", "running", "running", "running"]
    assert (await courier.http.incentives.mine())["items"] == []
    with code("PROVIDER_NOT_FOUND"):
        await nobody.http.incentives.mine()
    admin = await server.admin()
    assert len((await admin.http.incentives.all())["items"]) == 6
    for refused in (driver, nobody):
        with code("FORBIDDEN"):
            await refused.http.incentives.all()
        with code("FORBIDDEN"):
            await refused.http.incentives.change(made[0], name="mine")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": " "}, "VALIDATION_ERROR"),
    ({"name": "x" * 101}, "VALIDATION_ERROR"),
    ({"service_types": []}, "VALIDATION_ERROR"),
    ({"service_types": ["ride", "ride"]}, "VALIDATION_ERROR"),
    ({"service_types": ["flight"]}, "VALIDATION_ERROR"),
    ({"market": "atlantis"}, "VALIDATION_ERROR"),
    ({"metric": "smiles"}, "VALIDATION_ERROR"),
    ({"tiers": []}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": n, "bonus_minor": 1} for n in range(1, 12)]}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": 2, "bonus_minor": 1}, {"target": 2, "bonus_minor": 2}]}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": 3, "bonus_minor": 1}, {"target": 2, "bonus_minor": 2}]}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": 0, "bonus_minor": 1}]}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": 1, "bonus_minor": 0}]}, "VALIDATION_ERROR"),
    ({"tiers": [{"target": 1, "bonus_minor": 1.5}]}, "VALIDATION_ERROR"),
    ({"hours": {"from": "24:00", "to": "01:00"}}, "VALIDATION_ERROR"),
    ({"hours": {"from": "01:00", "to": "01:00"}}, "VALIDATION_ERROR"),
    ({"hours": {"from": "01:00"}}, "VALIDATION_ERROR"),
    ({"area": {"lat": 13, "lng": 100, "radius_m": 0}}, "VALIDATION_ERROR"),
    ({"area": {"lat": 13, "lng": 100, "radius_m": 100_001}}, "VALIDATION_ERROR"),
    ({"area": {"lat": 91, "lng": 100, "radius_m": 5}}, "INVALID_COORDINATES"),
    ({"starts_at": "tomorrow"}, "VALIDATION_ERROR"),
    ({"starts_at": "2026-11-20T00:00:00"}, "VALIDATION_ERROR"),
    ({"extra": 1}, "VALIDATION_ERROR"),
    ({"starts_at": at(2), "ends_at": at(1)}, "INVALID_DATE_RANGE"),
    ({"starts_at": at(-2), "ends_at": at(-1)}, "INVALID_DATE_RANGE"),
    ({"starts_at": at(0), "ends_at": at(24 * 367)}, "INVALID_DATE_RANGE"),
    ({"starts_at": "0001-01-01T00:00:00Z", "ends_at": "9999-12-31T00:00:00Z"}, "INVALID_DATE_RANGE"),
]


async def test_programs_that_cannot_be_are_refused(server: Server) -> None:
    admin = await server.admin()
    made = await make(server, starts_at=at(1))
    for change, expected in BAD:
        with code(expected):
            await admin.http.incentives.create(**a_program(**change))
        if "metric" not in change and expected != "INVALID_DATE_RANGE":
            with code(expected):
                await admin.http.incentives.change(made["id"], **change)
    with code("NOT_FOUND"):
        await admin.http.incentives.change(uuid4(), name="x")
    key = str(uuid4())
    first = await admin.http.incentives.create(key=key, **(fields := a_program()))
    assert await admin.http.incentives.create(key=key, **fields) == first
    assert len(await server.sql("SELECT 1 FROM incentives")) == 2
