"""Account numbers at rest: sealed for their row, readable with every key that is set, and with no other. Rotation drops the old one."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from dispatch.settings import BadSettings, load
from dispatch.wallets import Unreadable, Vault, rotate
from dispatch.wallets.rules import WAIT_S_MAX, wait_s
from tests.support.server import serving, settings_for
from tests.test_cli import command
from tests.wallets.scenes import NUMBER, account, has, rich, until_status

OLD, NEW = "old-key-" + "o" * 32, "new-key-" + "n" * 32
numbers = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=6, max_size=34)


@given(number=numbers, row=st.uuids(), other=st.uuids())
def test_what_is_sealed_opens_for_its_row_and_key_alone(number: str, row: UUID, other: UUID) -> None:
    old, both, new = Vault([OLD]), Vault([NEW, OLD]), Vault([NEW])
    sealed = old.seal(row, number)
    assert number.encode() not in sealed
    assert old.open(row, sealed) == both.open(row, sealed) == number
    with pytest.raises(Unreadable):
        new.open(row, sealed)
    if other != row:
        with pytest.raises(Unreadable):
            old.open(other, sealed)
    spoilt = sealed[:-5] + bytes([sealed[-5] ^ 1]) + sealed[-4:]
    with pytest.raises(Unreadable):
        old.open(row, spoilt)
    assert both.key_id == new.key_id != old.key_id
    assert old.blind(number) == Vault([OLD, NEW]).blind(number) != new.blind(number)


@given(tries=st.integers(1, 200), chance=st.floats(0, 1))
def test_pauses_grow_and_have_an_end(tries: int, chance: float) -> None:
    wait = wait_s(tries, base_s=1.0, chance=chance)
    assert 0.75 * min(WAIT_S_MAX, 2.0 ** (tries - 1)) <= wait <= 1.25 * WAIT_S_MAX


async def test_rotated_and_with_the_old_key_dropped_it_still_pays(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    given = {"data_dir": tmp_path, "jwt_secrets": [SecretStr("j" * 40)]}
    async with serving(database_url, redis_url, bank_keys=[SecretStr(OLD)], **given) as server:
        person, bank = await rich(server, 50_000)
        for number in range(4):
            other = await server.provider()
            await account(server, other, number=f"55555{number}")
        made = (await person.http.wallet.withdraw(20_000, bank))["id"]
        await server.sql("UPDATE bank_accounts SET sealed = 'spoilt' WHERE user_id = $1", other.user_id)
        user = person.user_id
    both = settings_for(database_url, redis_url, bank_keys=[SecretStr(NEW), SecretStr(OLD)], **given)
    done = await rotate(both, batch=2)
    assert (done.sealed, done.unreadable) == (4, 1)
    # The command says the rest, and that it is not all: one of them nobody can read.
    said = await asyncio.to_thread(
        command,
        "rotate-keys",
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        DISPATCH_BANK_KEYS=f'["{NEW}", "{OLD}"]',
        DISPATCH_JWT_SECRETS=f'["{"j" * 40}"]',
    )
    assert said.returncode == 1 and "bank accounts: 0 sealed" in said.stdout and "1 that no key opens" in said.stdout
    assert NEW not in said.stdout + said.stderr
    async with serving(database_url, redis_url, bank_keys=[SecretStr(NEW)], **given) as server:
        person = await server.person(user_id=user)
        admin = await server.admin()
        assert (await admin.http.wallet.file(made))["account_number"] == NUMBER
        await admin.http.wallet.decide(made, "process")
        await until_status(person, made, "completed")
        assert await has(person) == (30_000, 0) and NUMBER in (tmp_path / "payouts" / f"{made}.json").read_text()


async def test_a_payout_whose_key_is_missing_waits_for_it(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Neither released nor sent somewhere else; the key set again, it is paid."""
    given = {"data_dir": tmp_path, "jwt_secrets": [SecretStr("j" * 40)]}
    async with serving(database_url, redis_url, bank_keys=[SecretStr(OLD)], **given) as server:
        person, bank = await rich(server, 50_000)
        made = (await person.http.wallet.withdraw(20_000, bank))["id"]
        user = person.user_id
    async with serving(database_url, redis_url, bank_keys=[SecretStr(NEW)], **given) as server:
        person, admin = await server.person(user_id=user), await server.admin()
        await admin.http.wallet.decide(made, "process")
        await server.app.payouts.pay(UUID(made))
        assert (await person.http.wallet.withdrawal(made))["status"] == "processing" and await has(person) == (
            30_000,
            20_000,
        )
        assert "account_number" not in await admin.http.wallet.file(made)
    async with serving(database_url, redis_url, bank_keys=[SecretStr(NEW), SecretStr(OLD)], **given) as server:
        person = await server.person(user_id=user)
        await server.sql("UPDATE withdrawals SET leased_until = NULL")
        assert await server.app.payouts.pay(UUID(made)) is None
        await until_status(person, made, "completed")


def test_settings_that_cannot_be_are_told(tmp_path: Path) -> None:
    for wrong, says in (
        ({"bank_keys": ["short"]}, "bank_keys"),
        ({"payout_by": "http"}, "payout_url"),
        ({"payout_by": "http", "payout_url": "https://bank.example"}, "payout_secret"),
        ({"payout_by": "http", "payout_url": "https://bank.example", "payout_secret": ""}, "payout_secret"),
        ({"payout_secret": "x"}, "payout_by=http"),
    ):
        with pytest.raises(BadSettings, match=says):
            load({}, **wrong)
    key = "k" * 40
    good = load({}, bank_keys=[key], jwt_secrets=["j" * 40])
    assert good.bank_secrets == [key, "j" * 40] and key not in repr(good)
    row = uuid4()
    assert Vault.of(load({})).open(row, Vault.of(load({})).seal(row, NUMBER)) == NUMBER
