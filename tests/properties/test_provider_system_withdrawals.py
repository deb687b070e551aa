"""Withdrawals: properties 24 to 27. Through HTTP, on real stores; what is processed is paid by the worker through a laptop's door."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties.scenes import PROPERTY, Scene, scene_of
from tests.support.server import Person, denied
from tests.wallets.scenes import account, books_are_right, fund, has, until_status

SATANG = 100
MINIMUM = 100 * SATANG
amounts = st.integers(MINIMUM, 50_000 * SATANG) | st.just(MINIMUM)


class Payee(NamedTuple):
    """An approved provider with a verified bank account, for all examples of a test."""

    scene: Scene
    person: Person
    account: str

    async def top_up(self, to_minor: int) -> None:
        """Until so much is available."""
        missing = to_minor - (await has(self.person))[0]
        if missing > 0:
            await fund(self.scene.server, self.person.user_id, missing)

    async def count(self) -> int:
        """His withdrawals so far."""
        return int(
            await self.scene.judge.fetchval("SELECT count(*) FROM withdrawals WHERE user_id = $1", self.person.user_id)
        )


@pytest.fixture
async def payee(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Payee]:
    async with scene_of(database_url, redis_url, data_dir=tmp_path) as scene:
        person = await scene.driver()
        yield Payee(scene, person, await account(scene.server, person))
        await books_are_right(scene.server)


@PROPERTY
@given(amount=st.integers(1, MINIMUM - 1) | st.just(MINIMUM - 1), above=st.booleans())
async def test_less_than_the_minimum_is_refused(payee: Payee, amount: int, above: bool) -> None:
    """Feature: provider-system-redesign, Property 24: a request for less than 100 THB is rejected with an appropriate error message.

    Whether or not he has so much. Fails when the minimum is off by one satang, or asked after the balance.
    """
    if above:
        await payee.top_up(MINIMUM * 2)
    before = await has(payee.person)
    refusal = await denied(payee.person.http.wallet.withdraw(amount, payee.account))
    assert (refusal.code, refusal.status) == ("INSUFFICIENT_AMOUNT", 400) and "minimum" in refusal.message
    assert refusal.details == {"requested_amount": amount, "minimum_amount": MINIMUM}
    assert await has(payee.person) == before and await payee.count() == 0


@PROPERTY
@given(amount=amounts, beyond=st.integers(0, 1_000) | st.just(0))
async def test_a_valid_request_makes_a_pending_withdrawal(payee: Payee, amount: int, beyond: int) -> None:
    """Feature: provider-system-redesign, Property 25: a valid request (at least 100 THB, balance sufficient) creates a withdrawal record with
    status pending.

    And holds the amount. Fails when the exact balance or the exact minimum is refused, or nothing is held.
    """
    await payee.top_up(amount + beyond)
    available, held = await has(payee.person)
    made = await payee.person.http.wallet.withdraw(amount, payee.account)
    row = await payee.scene.judge.fetchrow("SELECT * FROM withdrawals WHERE id::text = $1", made["withdrawal_id"])
    assert row is not None
    assert (row["status"], row["amount_minor"], row["currency"]) == ("pending", amount, "THB")
    assert made["status"] == "pending" and made["estimated_completion_at"]
    assert await has(payee.person) == (available - amount, held + amount)


@PROPERTY
@given(amount=amounts)
async def test_what_an_admin_processes_is_completed_and_leaves_the_balance(payee: Payee, amount: int) -> None:
    """Feature: provider-system-redesign, Property 26: processed by an admin, the wallet balance decreases by the amount and the status becomes
    completed.

    Fails when the hold is released instead, or nobody pays what was let go.
    """
    await payee.top_up(amount)
    admin = payee.scene.somebody("admin")

    async def balance() -> int:
        found: dict[str, Any] = await payee.person.http.wallet.wallet()
        return int(found["balance_minor"])

    before = await balance()
    made = await payee.person.http.wallet.withdraw(amount, payee.account)
    assert await balance() == before, "what is held is still his"
    await admin.http.wallet.decide(made["id"], "process")
    done = await until_status(payee.person, made["id"], "completed")
    assert await balance() == before - amount and done["transaction_id"] and done["processed_at"]


@PROPERTY
@given(has_minor=st.integers(0, 10_000 * SATANG), more=st.integers(1, 2**40) | st.just(1))
async def test_more_than_the_balance_is_refused(payee: Payee, has_minor: int, more: int) -> None:
    """Feature: provider-system-redesign, Property 27: a request that exceeds the wallet balance is rejected.

    Fails when what is held counts as available, or by one satang.
    """
    await payee.top_up(has_minor)
    available, held = await has(payee.person)
    asked = max(available + more, MINIMUM)
    count = await payee.count()
    refusal = await denied(payee.person.http.wallet.withdraw(asked, payee.account))
    assert (refusal.code, refusal.status) == ("INSUFFICIENT_BALANCE", 422)
    assert refusal.details == {"requested_amount": asked, "current_balance": available, "minimum_balance": 0}
    assert await has(payee.person) == (available, held) and await payee.count() == count
    if available >= MINIMUM:
        # What is held now is not available any more.
        await payee.person.http.wallet.withdraw(available, payee.account)
        refusal = await denied(payee.person.http.wallet.withdraw(MINIMUM, payee.account))
        assert refusal.code == "INSUFFICIENT_BALANCE" and refusal.details["current_balance"] == 0
