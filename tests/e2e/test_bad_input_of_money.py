"""Whatever is asked for wrongly, or twice, or of a bank that hangs: each has its code, and at the end the books add up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from dispatch.books import reconciled
from protocol.errors import Denied
from protocol.resources.wallets import WithdrawalAction
from tests.earnings.stage import begun, completed
from tests.incentives.stage import a_program
from tests.support.bank import Bank, fake_bank
from tests.support.server import Person, Server, code, serving
from tests.wallets.scenes import account, has, until_status

AVAILABLE = 100_000


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    async with fake_bank() as running:
        yield running


@pytest.fixture
async def server(database_url: str, redis_url: str, bank: Bank) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, **bank.settings()) as running:
        yield running
        assert await reconciled(database_url, print) == 0


async def earner(server: Server) -> tuple[Person, str]:
    """Somebody with 1,000 THB, and his bank account."""
    person = await server.provider()
    await (await server.admin()).http.earnings.adjust(person.provider_id, AVAILABLE, "THB", "to begin with")
    return person, await account(server, person)


async def sent(server: Server, person: Person, path: str, body: str, key: str | None) -> tuple[int, str]:
    """(status, code) of a POST whose body is sent letter by letter."""
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            server.url() + path, data=body, headers=headers | ({"Idempotency-Key": key} if key else {})
        ) as answer,
    ):
        told = await answer.json()
        return answer.status, told.get("error", {}).get("code", "")


AMOUNTS = {
    "0": (400, "VALIDATION_ERROR"),
    "-1": (400, "VALIDATION_ERROR"),
    "NaN": (400, "VALIDATION_ERROR"),
    "1e400": (400, "VALIDATION_ERROR"),
    "10000.001": (400, "VALIDATION_ERROR"),
    '"10000"': (400, "VALIDATION_ERROR"),
    "9223372036854775807": (400, "VALIDATION_ERROR"),
    "9223372036854775808": (400, "VALIDATION_ERROR"),
    "9999": (400, "INSUFFICIENT_AMOUNT"),
    "100001": (422, "INSUFFICIENT_BALANCE"),
    "true": (400, "VALIDATION_ERROR"),
    "null": (400, "VALIDATION_ERROR"),
}


async def test_amounts_that_are_none_are_refused_and_move_nothing(server: Server) -> None:
    person, bank_account = await earner(server)
    for amount, refusal in AMOUNTS.items():
        body = f'{{"amount_minor": {amount}, "bank_account_id": "{bank_account}"}}'
        assert await sent(server, person, "/v1/withdrawals", body, str(uuid4())) == refusal, amount
    valid = f'{{"amount_minor": 10000, "bank_account_id": "{bank_account}"'
    for more, key, refusal in (
        (', "currency": "XYZ"}', "k1", (400, "VALIDATION_ERROR")),
        (', "currency": "USD"}', "k2", (422, "INSUFFICIENT_BALANCE")),
        (', "status": "completed"}', "k3", (400, "VALIDATION_ERROR")),
        ("}", None, (400, "IDEMPOTENCY_KEY_REQUIRED")),
    ):
        assert await sent(server, person, "/v1/withdrawals", valid + more, key) == refusal, more
    assert await has(person) == (AVAILABLE, 0)


async def test_somebody_elses_account_and_the_same_key_for_another_amount(server: Server) -> None:
    person, bank_account = await earner(server)
    _, foreign = await earner(server)
    with code("BANK_ACCOUNT_NOT_FOUND"):
        await person.http.wallet.withdraw(10_000, foreign)
    key = str(uuid4())
    first = await person.http.wallet.withdraw(10_000, bank_account, key=key)
    assert await person.http.wallet.withdraw(10_000, bank_account, key=key) == first
    with code("IDEMPOTENCY_KEY_REUSED"):
        await person.http.wallet.withdraw(10_001, bank_account, key=key)
    assert await has(person) == (90_000, 10_000)


async def test_five_at_once_take_what_is_there_and_no_more(server: Server) -> None:
    person, bank_account = await earner(server)
    answers = await asyncio.gather(
        *(person.http.wallet.withdraw(30_000, bank_account) for _ in range(5)), return_exceptions=True
    )
    refused = [one for one in answers if isinstance(one, Denied)]
    assert [one.code for one in refused] == ["INSUFFICIENT_BALANCE"] * 2
    assert all(one.details["requested_amount"] == 30_000 and one.details["minimum_balance"] == 0 for one in refused)
    assert await has(person) == (10_000, 90_000)


async def test_a_trip_of_minus_one_metre_and_one_around_the_world(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    job_id = await begun(server, customer, driver, metres=1_000)
    path = f"/v1/jobs/{job_id}/advance"
    for odd in ("-1", "1000000000", "NaN", '"far"'):
        body = f'{{"to": "completed", "distance_m": {odd}}}'
        assert await sent(server, driver, path, body, None) == (400, "VALIDATION_ERROR"), odd
    done = await driver.http.call("POST", path, {"to": "completed", "distance_m": 40_000_000}, key="once")
    # What the server saw was a kilometre: 1.3 times that and 500 m are believed.
    assert done["distance_m"] == 1_800
    assert await driver.http.call("POST", path, {"to": "completed", "distance_m": 40_000_000}, key="once") == done
    with code("INVALID_STATUS_TRANSITION"):
        await driver.http.advance(job_id, "completed")
    assert (await driver.http.wallet.wallet())["available_minor"] == done["actual_earnings_minor"]


async def test_thanks_are_given_once_and_within_bounds(server: Server) -> None:
    customer, driver, stranger = await server.person(), await server.provider(), await server.person()
    job_id = await completed(server, customer, driver)
    for score in ("0", "6", "4.5", '"5"', "null"):
        assert (await sent(server, customer, f"/v1/jobs/{job_id}/rating", f'{{"score": {score}}}', None))[0] == 400, (
            score
        )
    for amount in ("0", "99", "100001", "-5", "100.5", "9223372036854775807"):
        body = f'{{"amount_minor": {amount}}}'
        assert await sent(server, customer, f"/v1/jobs/{job_id}/tip", body, str(uuid4())) == (
            400,
            "VALIDATION_ERROR",
        ), amount
    with code("VALIDATION_ERROR"):
        await customer.http.earnings.tip(job_id, 500, currency="USD")
    for person, refusal in ((driver, "FORBIDDEN"), (stranger, "JOB_NOT_FOUND")):
        with code(refusal):
            await person.http.earnings.tip(job_id, 500)
        with code(refusal):
            await person.http.ratings.rate(job_id, 5)
    both = await asyncio.gather(*(customer.http.earnings.tip(job_id, 500) for _ in range(4)), return_exceptions=True)
    assert sorted(getattr(one, "code", "given") for one in both) == ["TIP_EXISTS"] * 3 + ["given"]
    await customer.http.ratings.rate(job_id, 5)
    with code("RATING_EXISTS"):
        await customer.http.ratings.rate(job_id, 1)
    assert (await driver.http.wallet.wallet())["available_minor"] == 2_800 + 500


async def test_a_program_that_is_edited_after_it_paid_takes_nothing_back(server: Server) -> None:
    customer, driver, admin = await server.person(), await server.provider(), await server.admin()
    program = await admin.http.incentives.create(**a_program((1, 1_000), (2, 2_000)))
    await completed(server, customer, driver)
    for change in ({"tiers": [{"target": 1, "bonus_minor": 1}]}, {"service_types": ["laundry"]}, {"market": "sf"}):
        with code("PROGRAM_STARTED"):
            await admin.http.incentives.change(program["id"], **change)
    await admin.http.incentives.change(program["id"], active=False)
    await completed(server, customer, driver)
    assert (await driver.http.earnings.overview())["bonus_minor"] == 1_000
    assert (await driver.http.wallet.wallet())["available_minor"] == 2 * 2_800 + 1_000


@pytest.mark.parametrize(
    "script", [["pays_hangs"], ["500_after"], ["500_before"], ["drops"], ["unknown"], ["hangs", "500_after"]]
)
async def test_a_bank_that_hangs_or_fails_after_it_paid_has_paid_once(
    server: Server, bank: Bank, script: list[str]
) -> None:
    person, bank_account = await earner(server)
    asked = await person.http.wallet.withdraw(40_000, bank_account)
    bank.script = list(script)
    admin = await server.admin()
    await admin.http.wallet.decide(asked["id"], WithdrawalAction.PROCESS)
    refusals: list[Any] = []
    for action in (WithdrawalAction.FAIL, WithdrawalAction.REJECT, WithdrawalAction.PROCESS):
        try:
            await admin.http.wallet.decide(asked["id"], action, reason="I guess it failed")
        except Denied as no:
            refusals.append(no.code)
    assert refusals == ["INVALID_STATUS_TRANSITION"] * 3, "nobody guesses while the bank decides"
    await until_status(person, asked["id"], "completed")
    assert bank.paid == {asked["id"]: 1}
    assert await has(person) == (60_000, 0)
