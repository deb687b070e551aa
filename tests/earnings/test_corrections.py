"""Corrections by the office: new rows and postings, told to the provider, written into the audit log."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson

from protocol.errors import Denied
from tests.earnings.stage import balances, check_books, completed, paid_out, platform
from tests.support.server import Person, Server, code


async def newest(server: Server, person: Person) -> dict[str, Any]:
    (row,) = await server.sql(
        "SELECT * FROM earnings WHERE user_id = $1 ORDER BY earned_at DESC LIMIT 1", person.user_id
    )
    return dict(row)


async def test_a_correction_up_and_down(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    job = await completed(server, customer, driver)
    async with driver.connected():
        given = await admin.http.earnings.adjust(driver.provider_id, 500, "THB", " a detour ", job_id=job)
        assert (given["kind"], given["net_minor"], given["reason"], given["job_id"], given["service_type"]) == (
            "adjustment", 500, "a detour", str(job), "ride",
        )  # fmt: skip
        assert (await driver.inbox.named("earnings.created")).data["earning"] == given
        assert (await driver.inbox.named("wallet.updated")).data["wallet"]["balance_minor"] == 3_300
    assert await balances(server, driver) == {"wallet": 3_300}
    await admin.http.earnings.adjust(driver.provider_id, -4_000, "THB", "a complaint")
    assert await balances(server, driver) == {"provider_debt": -700}
    assert (await platform(server))["adjustment_expense"] == 3_500
    rows = await server.sql(
        "SELECT action, subject_id, after, reason FROM audit_log WHERE action = 'adjust' ORDER BY at"
    )
    assert [(row["reason"], orjson.loads(row["after"])["amount_minor"]) for row in rows] == [
        ("a detour", 500),
        ("a complaint", -4_000),
    ]
    assert str(rows[0]["subject_id"]) == given["id"]
    await check_books(server)


async def test_more_than_wallet_and_debt_hold_cannot_be_taken(server: Server) -> None:
    driver, admin = await server.provider(), await server.admin()
    refusal = None
    try:
        await admin.http.earnings.adjust(driver.provider_id, -50_001, "THB", "too much")
    except Denied as denied:
        refusal = denied
    assert refusal is not None and refusal.code == "INSUFFICIENT_BALANCE"
    assert (refusal.details["requested_amount"], refusal.details["current_balance"]) == (50_001, 50_000)
    assert await balances(server, driver) == {} and not await server.sql("SELECT 1 FROM earnings")
    await admin.http.earnings.adjust(driver.provider_id, -50_000, "THB", "as much as it holds")
    assert await balances(server, driver) == {"provider_debt": -50_000}
    await check_books(server)


async def test_bad_corrections_are_refused(server: Server) -> None:
    customer, driver, other, admin = (
        await server.person(), await server.provider(), await server.provider(), await server.admin(),
    )  # fmt: skip
    job = await completed(server, customer, other)
    for reason in (None, "", " \u200b "):
        with code("REASON_REQUIRED"):
            await admin.http.earnings.adjust(driver.provider_id, 1, "THB", reason)
        with code("REASON_REQUIRED"):
            await admin.http.earnings.reverse(uuid4(), reason)
    for amount in (0, 10_000_001, -10_000_001):
        with code("VALIDATION_ERROR"):
            await admin.http.earnings.adjust(driver.provider_id, amount, "THB", "x")
    for currency in ("thb", "XXX", ""):
        with code("VALIDATION_ERROR"):
            await admin.http.earnings.adjust(driver.provider_id, 1, currency, "x")
    with code("VALIDATION_ERROR"):
        await admin.http.earnings.adjust(other.provider_id, 1, "USD", "x", job_id=job)
    with code("JOB_NOT_FOUND"):
        await admin.http.earnings.adjust(driver.provider_id, 1, "THB", "x", job_id=job)
    with code("PROVIDER_NOT_FOUND"):
        await admin.http.earnings.adjust(uuid4(), 1, "THB", "x")
    with code("NOT_FOUND"):
        await admin.http.earnings.reverse(uuid4(), "x")
    for refused in (driver, customer):
        with code("FORBIDDEN"):
            await refused.http.earnings.adjust(driver.provider_id, 1, "THB", "x")
        with code("FORBIDDEN"):
            await refused.http.earnings.reverse(uuid4(), "x")


async def test_a_reversal_takes_everything_back_once(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    job = await completed(server, customer, driver, metres=5_000, riding_s=900, surge_pct=150)
    first = await newest(server, driver)
    assert (await platform(server)) == {"ride_clearing": -11_250, "platform_fee": 2_250}
    async with driver.connected():
        back = await admin.http.earnings.reverse(first["id"], "it never was")
        assert back["reverses_id"] == str(first["id"]) and back["kind"] == "reversal" and back["job_id"] == str(job)
        for part in ("base", "distance", "time", "surge", "gross", "platform_fee", "net"):
            assert back[f"{part}_minor"] == -first[f"{part}_minor"]
        assert (await driver.inbox.named("earnings.created")).data["earning"] == back
        assert (await driver.inbox.named("wallet.updated")).data["wallet"]["balance_minor"] == 0
    assert await balances(server, driver) == {} and await platform(server) == {}
    (posted,) = await server.sql("SELECT reverses, ref FROM ledger_txn WHERE kind = 'earning_reversal'")
    assert (posted["reverses"], posted["ref"]) == (first["ledger_txn_id"], f"job:{job}")
    with code("ALREADY_REVERSED"):
        await admin.http.earnings.reverse(first["id"], "again")
    with code("ALREADY_REVERSED"):
        await admin.http.earnings.reverse(back["id"], "a reversal of a reversal")
    (log,) = await server.sql("SELECT subject_id, reason FROM audit_log WHERE action = 'reverse'")
    assert (log["subject_id"], log["reason"]) == (first["id"], "it never was")
    seen = await driver.http.earnings.overview()
    assert seen["lifetime"] == {"jobs": 1, "net_minor": 0}
    await check_books(server)


async def test_two_who_reverse_at_once_reverse_once(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    await completed(server, customer, driver)
    await completed(server, customer, driver)
    first = await newest(server, driver)
    answers = await asyncio.gather(
        *(admin.http.earnings.reverse(first["id"], "x") for _ in range(6)), return_exceptions=True
    )
    assert sorted(one.code for one in answers if isinstance(one, Denied)) == ["ALREADY_REVERSED"] * 5, answers
    assert await balances(server, driver) == {"wallet": 2_800}
    await check_books(server)


async def test_a_reversal_after_a_payout_becomes_a_debt_and_the_next_job_repays_it(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    await completed(server, customer, driver)
    first = await newest(server, driver)
    await paid_out(server, driver, 2_800)
    await admin.http.earnings.reverse(first["id"], "a fraud")
    assert await balances(server, driver) == {"provider_debt": -2_800}
    await completed(server, customer, driver, metres=5_000, riding_s=900)
    assert await balances(server, driver) == {"wallet": 3_200}
    await check_books(server)


async def test_each_kind_is_taken_back_into_where_it_came_from(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    job = await completed(server, customer, driver)
    whole = await balances(server, driver), await platform(server)
    await customer.http.earnings.tip(job, 1_000)
    await admin.http.earnings.reverse((await newest(server, driver))["id"], "x")
    assert (await balances(server, driver), await platform(server)) == whole
    for amount in (700, -700):
        made = await admin.http.earnings.adjust(driver.provider_id, amount, "THB", "x")
        await admin.http.earnings.reverse(made["id"], "x")
        assert (await balances(server, driver), await platform(server)) == whole
    with code("TIP_EXISTS"):
        await customer.http.earnings.tip(job, 1_000)
    await check_books(server)


async def test_a_correction_asked_again_with_its_key_is_made_once(server: Server) -> None:
    driver, admin, key = await server.provider(), await server.admin(), str(uuid4())
    made = await admin.http.earnings.adjust(driver.provider_id, 500, "THB", "x", key=key)
    assert await admin.http.earnings.adjust(driver.provider_id, 500, "THB", "x", key=key) == made
    back, key = await admin.http.earnings.reverse(made["id"], "x", key=key + "r"), key + "r"
    assert await admin.http.earnings.reverse(made["id"], "x", key=key) == back
    assert await balances(server, driver) == {}
    assert len(await server.sql("SELECT 1 FROM earnings")) == 2
