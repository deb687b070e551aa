"""Cash jobs go only to those who can still owe their fee: in the offer, on the board and at the accept alike."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from dispatch.ledger import Account, Kind, Leg, post
from protocol.lifecycle import Stage
from protocol.resources import PaymentMethod
from tests.support.crowd import crowd, lone_job, offer, until_final
from tests.support.server import BANGKOK, Person, Server, denied, serving

LIMIT = 50_000
FAR = (BANGKOK[0] + 0.004, BANGKOK[1])


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def owes(server: Server, user: object, minor: int) -> None:
    async with server.app.pg.system_tx() as tx:
        legs = [Leg(Account(Kind.PROVIDER_DEBT, user), Account(Kind.PLATFORM_FEE), minor)]  # type: ignore[arg-type]
        await post(tx, "cash_fee", str(uuid4()), "THB", legs)


async def offered(server: Server, customer: Person, **given: object) -> tuple[str, set[object]]:
    """A new job's id, and to whom its first round went."""
    job = await server.request(customer, **given)  # type: ignore[arg-type]
    await customer.inbox.status(job["id"], "offered")
    rows = await server.sql("SELECT provider_user_id FROM offers WHERE job_id = $1", job["id"])
    return job["id"], {row["provider_user_id"] for row in rows}


async def test_who_owes_too_much_hears_of_cashless_jobs_only(server: Server) -> None:
    customer = await server.person()
    async with customer.connected(), server.working() as (deep, _phone), server.working(at=FAR) as (clear, _other):
        await owes(server, deep.user_id, LIMIT)
        job_id, told = await offered(server, customer, payment_method=PaymentMethod.CASH)
        assert told == {clear.user_id}, "the nearest owes too much: the next one is asked at once"
        assert [row["job"]["id"] for row in (await deep.http.available())["items"]] == []
        await customer.http.cancel(job_id)
        await server.request(customer)
        assert (await deep.inbox.named("offer.created")).data["round"] >= 1


async def test_who_is_behind_a_dozen_that_owe_too_much_is_asked_in_the_next_search(
    database_url: str, redis_url: str
) -> None:
    """A search asks the judge ten times; the next one began with the same ten."""
    markets = {"bkk": {"policy": "nearest", "open_board": False, "research_s": 0.2}}
    async with serving(database_url, redis_url, markets=markets) as server, AsyncExitStack() as stack:
        customer = await server.person()
        for number in range(12):
            at = (BANGKOK[0] + 0.0002 * number, BANGKOK[1])
            deep, _ = await stack.enter_async_context(server.working(at=at))
            await owes(server, deep.user_id, LIMIT)
        clear, _ = await stack.enter_async_context(server.working(at=FAR))
        await server.request(customer, payment_method=PaymentMethod.CASH)
        await clear.inbox.named("offer.created")


async def test_a_job_whose_fee_does_not_fit_is_not_given_and_a_smaller_one_is(server: Server) -> None:
    customer = await server.person()
    async with customer.connected(), server.working() as (driver, _):
        # The flag-fall of 35 THB alone: a fee of 7 THB.
        await owes(server, driver.user_id, LIMIT - 700)
        small = await server.request(customer, to=None, payment_method=PaymentMethod.CASH)
        await driver.inbox.named("offer.created")
        await customer.http.cancel(small["id"])
        await owes(server, driver.user_id, 1)
        await server.request(customer, to=None, payment_method=PaymentMethod.CASH)
        assert (await driver.http.available())["items"] == []


async def test_an_accept_is_refused_to_who_has_come_to_owe_too_much_since_his_offer(server: Server) -> None:
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    await server.sql("UPDATE jobs SET payment_method = 'cash' WHERE id = $1", job_id)
    offers = await offer(server, job_id, [racer])
    await owes(server, racer.actor.user_id, LIMIT)
    assert await until_final(server, racer, job_id, offers[racer.id]) == "DEBT_LIMIT"


async def test_a_cash_job_with_an_empty_wallet_becomes_a_debt_that_the_next_job_repays(server: Server) -> None:
    customer = await server.person()
    async with customer.connected(), server.working() as (driver, phone):
        for nth, (method, wallet) in enumerate(
            [
                (PaymentMethod.CASH, {"available_minor": 0, "debt_minor": 700}),
                (PaymentMethod.CASHLESS, {"available_minor": 2_100, "debt_minor": 0}),
                (PaymentMethod.CASH, {"available_minor": 1_400, "debt_minor": 0}),
            ],
            1,
        ):
            job = await server.request(customer, payment_method=method)
            made = (await driver.inbox.named("offer.created", nth=nth)).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
            for stage in Stage:
                await phone.advance(job["id"], stage)
            told = (await driver.inbox.named("wallet.updated", nth=nth)).data["wallet"]
            assert {name: told[name] for name in wallet} == wallet
            earning = (await driver.inbox.named("earnings.created", nth=nth)).data["earning"]
            assert (earning["net_minor"], earning["platform_fee_minor"]) == (2_800, 700)


async def test_the_limit_is_told_with_its_code_over_http(server: Server) -> None:
    customer = await server.person()
    async with customer.connected(), server.working() as (driver, _):
        job = await server.request(customer, payment_method=PaymentMethod.CASH)
        made = (await driver.inbox.named("offer.created")).data
        await owes(server, driver.user_id, LIMIT)
        refusal = await denied(driver.http.accept(job["id"], made["offer_id"], made["round"]))
        assert (refusal.code, refusal.status) == ("DEBT_LIMIT", 422)
