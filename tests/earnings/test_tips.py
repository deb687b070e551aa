"""Tips: once, by the customer of a completed job, all of it the provider's."""

import asyncio
from uuid import UUID, uuid4

import aiohttp

from protocol.errors import Denied
from tests.earnings.stage import balances, begun, check_books, completed, finished, platform
from tests.support.server import Server, code


async def test_a_tip_is_all_the_providers_and_told_live(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    job = await completed(server, customer, driver)
    async with driver.connected():
        tip = await customer.http.earnings.tip(job, 5_000, currency="THB")
        assert tip == {"job_id": str(job), "amount_minor": 5_000, "currency": "THB"}
        earning = (await driver.inbox.named("earnings.created", nth=1)).data["earning"]
        assert (earning["kind"], earning["tip_minor"], earning["net_minor"], earning["platform_fee_minor"]) == (
            "tip",
            5_000,
            5_000,
            0,
        )
        assert (await driver.inbox.named("wallet.updated")).data["wallet"]["balance_minor"] == 7_800
        told = (await driver.inbox.named("notification.created")).data["notification"]
        assert told["type"] == "tip_received"
        assert told["data"] == {"amount_minor": 5_000, "currency": "THB", "job_id": str(job)}
    assert await balances(server, driver) == {"wallet": 7_800}
    assert (await platform(server))["ride_clearing"] == -3_500 - 5_000
    (posted,) = await server.sql("SELECT idem_key, ref FROM ledger_txn WHERE kind = 'tip'")
    assert (posted["idem_key"], posted["ref"]) == (f"tip:{job}", f"job:{job}")
    await check_books(server)


async def test_a_tip_repays_what_the_provider_owes_first(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    job = await completed(server, customer, driver, cash=True)
    assert await balances(server, driver) == {"provider_debt": -700}
    await customer.http.earnings.tip(job, 1_000)
    assert await balances(server, driver) == {"wallet": 300}
    await check_books(server)


async def test_a_job_is_tipped_once_also_by_many_at_once(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    job = await completed(server, customer, driver)
    answers = await asyncio.gather(
        *(customer.http.earnings.tip(job, 1_000 + n % 2) for n in range(8)), return_exceptions=True
    )
    refused = [one.code for one in answers if isinstance(one, Denied)]
    assert refused == ["TIP_EXISTS"] * 7, answers
    assert (await balances(server, driver))["wallet"] in (3_800, 3_801)
    with code("TIP_EXISTS"):
        await customer.http.earnings.tip(job, 1_000)


async def test_a_tip_asked_again_with_its_key_is_answered_again(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    job, key = await completed(server, customer, driver), str(uuid4())
    first = await customer.http.earnings.tip(job, 1_000, key=key)
    assert await customer.http.earnings.tip(job, 1_000, key=key) == first
    with code("IDEMPOTENCY_KEY_REUSED"):
        await customer.http.earnings.tip(job, 2_000, key=key)
    assert await balances(server, driver) == {"wallet": 3_800}


async def test_who_may_tip_what_and_when(server: Server) -> None:
    customer, driver, stranger, admin = (
        await server.person(), await server.provider(), await server.person(), await server.admin(),
    )  # fmt: skip
    job = await begun(server, customer, driver)
    with code("JOB_NOT_COMPLETED"):
        await customer.http.earnings.tip(job, 1_000)
    await finished(driver, job)
    with code("JOB_NOT_FOUND"):
        await stranger.http.earnings.tip(job, 1_000)
    with code("JOB_NOT_FOUND"):
        await customer.http.earnings.tip(uuid4(), 1_000)
    for other in (driver, admin):
        with code("FORBIDDEN"):
            await other.http.earnings.tip(job, 1_000)
    for wrong in (99, 100_001, 0, -100, 100.5, "100", None):
        with code("VALIDATION_ERROR"):
            await customer.http.call("POST", f"/v1/jobs/{job}/tip", {"amount_minor": wrong})
    with code("VALIDATION_ERROR"):
        await customer.http.earnings.tip(job, 1_000, currency="USD")
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {customer.token}"}) as session,
        session.post(f"{server.url()}/v1/jobs/{job}/tip", json={"amount_minor": 1_000}) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")
    await server.sql("UPDATE jobs SET completed_at = clock_timestamp() - interval '7 days 1 second' WHERE id = $1", job)
    with code("TOO_LATE"):
        await customer.http.earnings.tip(job, 1_000)
    await server.sql("UPDATE jobs SET completed_at = clock_timestamp() - interval '6 days 23 hours' WHERE id = $1", job)
    await customer.http.earnings.tip(job, 100_000)
    assert await balances(server, driver) == {"wallet": 102_800}


async def test_a_job_that_came_to_nothing_is_not_tipped(server: Server) -> None:
    customer = await server.person()
    job = await server.request(customer)
    await customer.http.cancel(UUID(job["id"]))
    with code("JOB_NOT_COMPLETED"):
        await customer.http.earnings.tip(job["id"], 1_000)
