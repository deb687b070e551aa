"""Wallets, bank accounts and withdrawals through HTTP. WAL-01 to WAL-14, ADM-11."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import orjson
import pytest

from dispatch.accounts import fingerprint_of
from dispatch.doctor import payout_troubles
from dispatch.kit.postgres import Actor
from dispatch.settings import load
from dispatch.wallets import held_off
from protocol.errors import Denied
from protocol.http import Http
from protocol.http.wallets import WalletCalls
from protocol.lifecycle import AdminAction
from protocol.resources.wallets import WithdrawalAction
from tests.papers.scenes import PDF
from tests.support.bank import Bank, fake_bank
from tests.support.server import Person, Server, code, denied, serving
from tests.wallets.scenes import NUMBER, account, books_are_right, fund, has, paper, reviewed, rich, until_status


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    """With payouts by hand: nothing moves that a test does not move."""
    async with serving(database_url, redis_url, payout_by="manual") as running:
        yield running
        await books_are_right(running)


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    async with fake_bank() as double:
        yield double


async def raw(server: Server, person: Person, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    """One POST as it is: (status, code)."""
    sent = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json", **headers}
    async with aiohttp.ClientSession() as session, session.post(server.url() + path, data=body, headers=sent) as answer:
        return answer.status, (await answer.json()).get("error", {}).get("code", "")


# --- the wallet


async def test_a_wallet_shows_what_is_there_what_is_held_and_what_is_free(server: Server) -> None:
    nobody = await server.person()
    assert await nobody.http.wallet.wallet() == {
        "currency": "THB", "balance_minor": 0, "available_minor": 0, "held_minor": 0, "debt_minor": 0, "currencies": []
    }  # fmt: skip
    person, bank = await rich(server, 100_000)
    await fund(server, person.user_id, 500, "USD")
    await person.http.wallet.withdraw(40_000, bank)
    assert await person.http.wallet.wallet() == {
        "currency": "THB", "balance_minor": 100_000, "available_minor": 60_000, "held_minor": 40_000, "debt_minor": 0, "currencies": ["THB", "USD"]
    }  # fmt: skip
    assert (await person.http.wallet.wallet("USD"))["available_minor"] == 500
    for odd in ("XYZ", "thb", ""):
        with code("VALIDATION_ERROR"):
            await person.http.wallet.wallet(odd)
    assert not await server.sql("SELECT 1 FROM ledger_account WHERE owner_id = $1", nobody.user_id), (
        "looking makes none"
    )


async def test_the_currency_shown_is_the_one_last_earned_in(server: Server) -> None:
    person, _ = await rich(server)
    await server.sql(
        """INSERT INTO earnings (id, provider_id, user_id, kind, market, currency, bonus_minor, gross_minor, net_minor, day,
             credited_minor, credited_sum, credited_upto)
           VALUES (gen_random_uuid(), $1, $2, 'bonus', 'sf', 'USD', 5, 5, 5, current_date, 5, 5, 5)""",
        UUID(str(person.provider_id)),
        person.user_id,
    )
    assert (await person.http.wallet.wallet())["currency"] == "USD"


async def test_entries_are_the_own_wallets_newest_first_and_paged(server: Server) -> None:
    person, bank = await rich(server, 100_000)
    made = await person.http.wallet.withdraw(40_000, bank)
    admin = await server.admin()
    await admin.http.wallet.decide(made["id"], "reject", reason="name differs")
    found, cursor = [], None
    while True:
        page = await person.http.wallet.entries(limit=2, cursor=cursor)
        found += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            break
    assert [(one["kind"], one["amount_minor"], one["balance_before_minor"], one["balance_after_minor"]) for one in found] == [
        ("withdrawal_release", 40_000, 60_000, 100_000), ("withdrawal_hold", -40_000, 100_000, 60_000), ("earning", 100_000, 0, 100_000)
    ]  # fmt: skip
    assert found[0]["ref"] == found[1]["ref"] == f"wd:{made['id']}" and "ref" not in found[2]
    assert set(found[0]) == {"at", "kind", "ref", "amount_minor", "balance_before_minor", "balance_after_minor"}
    other = await server.provider()
    assert (await other.http.wallet.entries())["items"] == []
    # A cursor of another list is a cursor; it leads nowhere else.
    elsewhere = (await person.http.call("GET", "/v1/notifications", params={"limit": 1})).get("next_cursor")
    assert (await person.http.wallet.entries(cursor=elsewhere))["items"]


async def test_a_strangers_entries_are_nobodys(server: Server) -> None:
    """The reader passes row security, so it asks who asks: even a service that forgot to would show nothing."""
    person, _ = await rich(server)
    for roles, rows in ((frozenset[str](), 0), (frozenset({"admin"}), 1)):
        async with server.app.pg.acting(Actor(uuid4(), roles)) as tx:
            assert len(await tx.fetch("SELECT * FROM wallet_entries($1, 'THB', 100, 10)", person.user_id)) == rows


# --- bank accounts


async def test_a_bank_account_from_paper_to_payout(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Uploaded, linked, reviewed beside its number, paid to, by the real doors; a laptop's payout is a file."""
    async with serving(database_url, redis_url, storage_dir=tmp_path / "papers", data_dir=tmp_path) as server:
        person, admin = await server.provider(), await server.admin()
        document = (await person.http.papers.upload("bank_account", PDF))["document_id"]
        made = await person.http.wallet.add_bank_account(
            bank_code="SCB", account_number=NUMBER, account_name="Somchai Jaidee", document_id=document
        )
        assert made["last_four"] == "7890" and made["verified"] is False and NUMBER not in orjson.dumps(made).decode()
        await fund(server, person.user_id, 50_000)
        with code("BANK_ACCOUNT_NOT_VERIFIED"):
            await person.http.wallet.withdraw(20_000, made["id"])
        (beside,) = await admin.http.wallet.bank_accounts_of(str(person.provider_id))
        assert (beside["account_number"], beside["document_id"]) == (NUMBER, document)
        await admin.http.papers.review_document(document, "approve")
        assert (await person.http.wallet.bank_accounts())[0]["verified"] is True
        wanted = await person.http.wallet.withdraw(20_000, made["id"])
        assert wanted["withdrawal_id"] == wanted["id"] and wanted["status"] == "pending"
        assert wanted["estimated_completion_at"] > wanted["requested_at"]
        await admin.http.wallet.decide(wanted["id"], "process")
        done = await until_status(person, wanted["id"], "completed")
        assert done["transaction_id"] == f"folder-{wanted['id']}" and await has(person) == (30_000, 0)
        (file,) = (tmp_path / "payouts").glob("*.json")
        assert orjson.loads(file.read_bytes())["account_number"] == NUMBER and file.stat().st_mode & 0o077 == 0
        await books_are_right(server)


async def test_a_document_is_linked_once_while_it_waits_by_its_owner(server: Server) -> None:
    person, other = await server.provider(), await server.provider()
    document = await paper(server, person)

    async def link(who: Person, which: UUID, number: str = NUMBER) -> dict[str, object]:
        return await who.http.wallet.add_bank_account(
            bank_code="SCB", account_number=number, account_name="x", document_id=which
        )

    with code("DOCUMENT_NOT_FOUND"):
        await link(other, document)
    with code("VALIDATION_ERROR"):
        await link(person, await paper(server, person, "national_id"))
    made = await link(person, document)
    with code("DOCUMENT_ALREADY_VERIFIED"):
        await link(person, document, "9999999999")
    await person.http.wallet.remove_bank_account(str(made["id"]))
    with code("DOCUMENT_ALREADY_VERIFIED"):
        await link(person, document, "9999999999")
    await reviewed(server, document)
    late = await paper(server, other)
    await reviewed(server, late)
    with code("DOCUMENT_ALREADY_VERIFIED"):
        await link(other, late)
    with code("PROVIDER_NOT_FOUND"):
        await link(await server.person(), document)
    assert await person.http.wallet.bank_accounts() == []
    assert len(await server.sql("SELECT 1 FROM bank_accounts WHERE removed_at IS NOT NULL")) == 1, "kept"


async def test_an_account_is_good_while_its_paper_is(server: Server) -> None:
    person, first = await rich(server)
    (row,) = await server.sql("SELECT document_id FROM bank_accounts")
    for spoilt, mended in (
        ("status = 'expired'", "status = 'approved'"),
        ("expiry_date = papers_today() - 1", "expiry_date = papers_today()"),
    ):
        await server.sql(f"UPDATE provider_documents SET {spoilt} WHERE id = $1", row["document_id"])
        with code("BANK_ACCOUNT_NOT_VERIFIED"):
            await person.http.wallet.withdraw(10_000, first)
        await server.sql(f"UPDATE provider_documents SET {mended} WHERE id = $1", row["document_id"])
        await person.http.wallet.withdraw(10_000, first)
    # Approved papers replace each other, and so do the accounts behind them.
    await server.sql("UPDATE provider_documents SET status = 'pending' WHERE id = $1", row["document_id"])
    await server.sql("UPDATE provider_documents SET replaced_by = id, status = 'approved'")
    with code("BANK_ACCOUNT_NOT_VERIFIED"):
        await person.http.wallet.withdraw(10_000, first)
    await person.http.wallet.remove_bank_account(first)
    with code("BANK_ACCOUNT_NOT_FOUND"):
        await person.http.wallet.withdraw(10_000, first)
    with code("BANK_ACCOUNT_NOT_FOUND"):
        await person.http.wallet.remove_bank_account(first)


async def test_the_number_is_sealed_at_rest_for_its_own_row_and_every_reading_is_written_down(server: Server) -> None:
    one, bank_one = await rich(server)
    two = await server.provider()
    await account(server, two, number="5555555555")
    admin = await server.admin()
    dump = orjson.dumps([dict(row) for row in await server.sql("SELECT b::text AS b FROM bank_accounts b")])
    dump += orjson.dumps([dict(row) for row in await server.sql("SELECT i::text AS i FROM idem i")])
    assert NUMBER.encode() not in dump and b"5555555555" not in dump
    # Nor in a hash that somebody could find it by, trying ten digits.
    (row,) = await server.sql("SELECT document_id FROM bank_accounts WHERE user_id = $1", one.user_id)
    asked = {
        "bank_code": "KBANK",
        "account_number": NUMBER,
        "account_name": "Somchai Jaidee",
        "document_id": row["document_id"],
    }
    guess = fingerprint_of("bank_accounts.add", asked)
    assert guess not in {row["fingerprint"] for row in await server.sql("SELECT fingerprint FROM idem")}
    made = await one.http.wallet.withdraw(10_000, bank_one)
    for seen in (
        await one.http.wallet.withdrawals(),
        await admin.http.wallet.everybodys(),
        await one.http.wallet.bank_accounts(),
    ):
        assert NUMBER not in orjson.dumps(seen).decode()
    file = await admin.http.wallet.file(made["id"])
    assert file["account_number"] == NUMBER and file["withdrawal"]["id"] == made["id"]
    await admin.http.wallet.bank_accounts_of(str(two.provider_id))
    rows = await server.sql("SELECT action, subject, subject_id FROM audit_log WHERE action LIKE 'read%' ORDER BY at")
    assert [tuple(row) for row in rows] == [
        ("read", "withdrawal", UUID(made["id"])),
        ("read_bank_accounts", "provider", UUID(str(two.provider_id))),
    ]
    # Somebody swaps the ciphertexts of two rows: neither opens.
    await server.sql(
        """UPDATE bank_accounts b SET sealed = o.sealed FROM bank_accounts o WHERE o.id <> b.id AND b.user_id IN ($1, $2) AND o.user_id IN ($1, $2)""",
        one.user_id,
        two.user_id,
    )
    assert "account_number" not in await admin.http.wallet.file(made["id"])
    assert all(
        "account_number" not in found for found in await admin.http.wallet.bank_accounts_of(str(two.provider_id))
    )


# --- asking for money


AMOUNTS = {
    "9999": "INSUFFICIENT_AMOUNT",
    "1": "INSUFFICIENT_AMOUNT",
    **dict.fromkeys(("0", "-10000", "10000.5", "10000.0", "NaN", "Infinity", "1e6"), "VALIDATION_ERROR"),
    **dict.fromkeys(("9223372036854775807", "9223372036854775808", '"10000"', "null", "true"), "VALIDATION_ERROR"),
    "9007199254740992": "INSUFFICIENT_BALANCE",
}


async def test_amounts_that_are_refused_change_nothing(server: Server) -> None:
    person, bank = await rich(server, 100_000)
    for amount, refusal in AMOUNTS.items():
        body = f'{{"amount_minor":{amount},"bank_account_id":"{bank}"}}'.encode()
        status, said = await raw(server, person, "/v1/withdrawals", body, **{"Idempotency-Key": str(uuid4())})
        assert (status, said) == (422 if refusal == "INSUFFICIENT_BALANCE" else 400, refusal), amount
    assert await has(person) == (100_000, 0)
    assert not await server.sql("SELECT 1 FROM withdrawals")


async def test_more_than_is_available_is_refused_with_the_numbers(server: Server) -> None:
    person, bank = await rich(server, 35_000)
    refusal = await denied(person.http.wallet.withdraw(50_000, bank))
    assert (refusal.code, refusal.status) == ("INSUFFICIENT_BALANCE", 422)
    assert refusal.details == {"requested_amount": 50_000, "current_balance": 35_000, "minimum_balance": 0}
    await person.http.wallet.withdraw(30_000, bank)
    refusal = await denied(person.http.wallet.withdraw(30_000, bank))
    assert refusal.details["current_balance"] == 5_000, "what is held is not available"
    with code("INSUFFICIENT_BALANCE"):
        await person.http.wallet.withdraw(10_000, bank, currency="USD")
    with code("VALIDATION_ERROR"):
        await person.http.wallet.withdraw(10_000, bank, currency="EUR")


async def test_who_may_not_work_may_not_take_out(server: Server) -> None:
    person, bank = await rich(server)
    other, others_bank = await rich(server)
    admin = await server.admin()
    with code("BANK_ACCOUNT_NOT_FOUND"):
        await person.http.wallet.withdraw(10_000, others_bank)
    with code("PROVIDER_NOT_FOUND"):
        await (await server.person()).http.wallet.withdraw(10_000, bank)
    with code("PROVIDER_NOT_APPROVED"):
        await (await server.provider(approved=False)).http.wallet.withdraw(10_000, bank)
    made = await person.http.wallet.withdraw(10_000, bank)
    await admin.http.provider_action(UUID(str(person.provider_id)), AdminAction.SUSPEND, "fraud")
    with code("PROVIDER_SUSPENDED"):
        await person.http.wallet.withdraw(10_000, bank)
    # What he had asked for stays with the office.
    await admin.http.wallet.decide(made["id"], "process")
    await admin.http.wallet.decide(made["id"], "complete", transaction_id="T1")
    assert (await person.http.wallet.withdrawal(made["id"]))["status"] == "completed"
    with code("NOT_FOUND"):
        await other.http.wallet.withdrawal(made["id"])


async def test_a_key_asks_once_and_for_one_thing(server: Server) -> None:
    person, bank = await rich(server, 100_000)
    key = str(uuid4())
    first = await person.http.wallet.withdraw(30_000, bank, key=key)
    assert await person.http.wallet.withdraw(30_000, bank, key=key) == first
    refusal = await denied(person.http.wallet.withdraw(30_001, bank, key=key))
    assert (refusal.code, refusal.status) == ("IDEMPOTENCY_KEY_REUSED", 409)
    body = orjson.dumps({"amount_minor": 30_000, "bank_account_id": bank})
    assert await raw(server, person, "/v1/withdrawals", body) == (400, "IDEMPOTENCY_KEY_REQUIRED")
    assert await has(person) == (70_000, 30_000)


async def test_five_at_once_are_as_many_as_fit(server: Server) -> None:
    person, bank = await rich(server, 100_000)

    async def ask() -> str:
        try:
            await person.http.wallet.withdraw(30_000, bank)
        except Denied as refusal:
            return refusal.code
        return "yes"

    answers = await asyncio.gather(*(ask() for _ in range(5)))
    assert sorted(answers) == ["INSUFFICIENT_BALANCE"] * 2 + ["yes"] * 3
    assert await has(person) == (10_000, 90_000)


async def test_a_suspension_and_a_request_at_once_come_one_after_the_other(server: Server) -> None:
    """The gate is held: whatever was asked for was asked for before the suspension."""
    admin = await server.admin()
    for _ in range(5):
        person, bank = await rich(server)
        asked, _ = await asyncio.gather(
            person.http.wallet.withdraw(10_000, bank),
            admin.http.provider_action(UUID(str(person.provider_id)), AdminAction.SUSPEND, "x"),
            return_exceptions=True,
        )
        rows = await server.sql(
            """SELECT w.requested_at < p.suspended_at AS before FROM withdrawals w JOIN providers p ON p.id = w.provider_id WHERE w.user_id = $1""",
            person.user_id,
        )
        if isinstance(asked, Denied):
            assert asked.code == "PROVIDER_SUSPENDED" and not rows
        else:
            assert [row["before"] for row in rows] == [True]


async def test_the_owner_is_told_live_and_by_notification(server: Server) -> None:
    person, bank = await rich(server, 100_000)
    admin = await server.admin()
    async with person.connected():
        made = await person.http.wallet.withdraw(40_000, bank)
        event = await person.inbox.named("withdrawal.updated")
        assert event.data["withdrawal"] == {name: value for name, value in made.items() if name != "withdrawal_id"}
        assert (await person.inbox.named("wallet.updated")).data["wallet"]["held_minor"] == 40_000
        await admin.http.wallet.decide(made["id"], "process")
        assert (await person.inbox.named("withdrawal.updated", nth=2)).data["withdrawal"]["status"] == "processing"
        await admin.http.wallet.decide(made["id"], "fail", reason="account closed")
        event = await person.inbox.named("withdrawal.updated", nth=3)
        assert event.data["withdrawal"]["reason"] == "account closed" and "processed_by" not in event.data["withdrawal"]
        assert (await person.inbox.named("wallet.updated", nth=2)).data["wallet"]["available_minor"] == 100_000
        notice = (await person.inbox.named("notification.created")).data["notification"]
        assert notice["type"] == "withdrawal_failed" and "400.00" in notice["body"]
        assert notice["data"]["amount_minor"] == 40_000 and notice["data"]["currency"] == "THB"


async def test_a_released_amount_pays_what_has_come_to_be_owed(server: Server) -> None:
    from dispatch.ledger import charged, post, purse

    person, bank = await rich(server, 30_000)
    made = await person.http.wallet.withdraw(30_000, bank)
    async with server.app.pg.system_tx() as tx:
        from dispatch.ledger import Kind

        before = await purse(tx, person.user_id, "THB")
        await post(tx, "cash_fee", f"test:{uuid4()}", "THB", charged(before, 4_000, Kind.PLATFORM_FEE))
    assert (await person.http.wallet.wallet())["debt_minor"] == 4_000
    await (await server.admin()).http.wallet.decide(made["id"], "reject", reason="x")
    found = await person.http.wallet.wallet()
    assert (found["available_minor"], found["held_minor"], found["debt_minor"]) == (26_000, 0, 0)


# --- the office, by hand


async def test_the_office_decides_by_hand(server: Server) -> None:
    person, bank = await rich(server, 100_000)
    admin = await server.admin()
    office = admin.http.wallet
    paid, turned, failed = [await person.http.wallet.withdraw(20_000, bank) for _ in range(3)]
    assert [one["withdrawal"]["id"] for one in (await office.everybodys())["items"]] == [
        one["id"] for one in (paid, turned, failed)
    ], "oldest first"
    first = await office.everybodys(limit=2)
    rest = await office.everybodys(limit=2, cursor=first["next_cursor"])
    assert [one["withdrawal"]["id"] for one in rest["items"]] == [failed["id"]] and "next_cursor" not in rest
    for action, words in (("complete", {"transaction_id": "T1"}), ("fail", {"reason": "x"})):
        with code("INVALID_STATUS_TRANSITION"):
            await office.decide(paid["id"], action, **words)
    for blank in (None, "", "  "):
        with code("REASON_REQUIRED"):
            await office.decide(turned["id"], "reject", reason=blank)
        with code("REASON_REQUIRED"):
            await office.decide(failed["id"], "fail", reason=blank)
    with code("VALIDATION_ERROR"):
        await office.decide(paid["id"], "complete")
    key = str(uuid4())
    for _ in range(2):
        assert (await office.decide(turned["id"], "reject", reason="name differs", key=key))["withdrawal"][
            "status"
        ] == "rejected"
    assert await has(person) == (60_000, 40_000)
    await office.decide(paid["id"], "process")
    await office.decide(failed["id"], "process")
    assert [one["withdrawal"]["id"] for one in (await office.everybodys(status="processing"))["items"]] == [
        paid["id"],
        failed["id"],
    ]
    done = await office.decide(paid["id"], "complete", transaction_id="T1")
    assert done["processed_by"] == str(admin.user_id) and done["paid_by"] == "manual"
    assert done["withdrawal"]["transaction_id"] == "T1" and done["withdrawal"]["processed_at"]
    await office.decide(failed["id"], "fail", reason="account closed")
    assert await has(person) == (80_000, 0)
    for made in (paid, turned, failed):
        for action in ("process", "reject", "complete", "fail"):
            with code("INVALID_STATUS_TRANSITION"):
                await office.decide(made["id"], action, reason="x", transaction_id="T2")
    with code("NOT_FOUND"):
        await office.decide(uuid4(), "process")
    rows = await server.sql("SELECT action, reason FROM audit_log WHERE subject = 'withdrawal' ORDER BY at")
    assert [tuple(row) for row in rows] == [
        ("reject", "name differs"), ("process", None), ("process", None), ("complete", None), ("fail", "account closed")
    ]  # fmt: skip
    told = await server.sql(
        "SELECT type FROM notifications WHERE recipient_id = $1 AND type LIKE 'withdrawal%' ORDER BY created_at",
        person.user_id,
    )
    assert [row["type"] for row in told] == ["withdrawal_rejected", "withdrawal_completed", "withdrawal_failed"]
    assert [one["id"] for one in (await person.http.wallet.withdrawals(limit=2))["items"]] == [
        failed["id"],
        turned["id"],
    ]


async def test_two_who_decide_at_once_are_one_decision(server: Server) -> None:
    # Without patience: a second decision is refused by what it finds under the lock, and never fails.
    async with Http(server.url(), (await server.admin()).token, patience_s=0) as http:
        await decided_at_once(server, http.wallet)


async def decided_at_once(server: Server, office: WalletCalls) -> None:
    for pair in (("process", "process"), ("process", "reject"), ("complete", "fail"), ("complete", "complete")):
        person, bank = await rich(server, 50_000)
        made = await person.http.wallet.withdraw(20_000, bank)
        if pair[0] == "complete":
            await office.decide(made["id"], "process")

        async def decide(action: str, which: str = made["id"]) -> str:
            try:
                await office.decide(which, action, reason="x", transaction_id="T1")
            except Denied as refusal:
                return refusal.code
            return action

        answers = await asyncio.gather(*(decide(action) for action in pair))
        assert sorted(answer == "INVALID_STATUS_TRANSITION" for answer in answers) == [False, True], answers
        (won,) = [answer for answer in answers if answer != "INVALID_STATUS_TRANSITION"]
        expected = {"process": (30_000, 20_000), "reject": (50_000, 0), "complete": (30_000, 0), "fail": (50_000, 0)}
        assert await has(person) == expected[won]


async def test_complete_against_reject_at_once(server: Server) -> None:
    """From pending only one of them is legal, from processing only the other: never both."""
    person, bank = await rich(server, 100_000)
    office = (await server.admin()).http.wallet
    for _ in range(3):
        made = await person.http.wallet.withdraw(20_000, bank)
        await asyncio.gather(
            office.decide(made["id"], "process"),
            office.decide(made["id"], "reject", reason="x"),
            office.decide(made["id"], "complete", transaction_id="T1"),
            return_exceptions=True,
        )
        txns = await server.sql("SELECT kind FROM ledger_txn WHERE ref = $1", f"wd:{made['id']}")
        assert len(txns) <= 2
    await books_are_right(server)


async def test_numbers_stay_out_of_logs(
    database_url: str, redis_url: str, bank: Bank, capfd: pytest.CaptureFixture[str]
) -> None:
    bank.script = ["500_before", "unknown"]
    async with serving(database_url, redis_url, **bank.settings(log_level="debug")) as server:
        person, account_id = await rich(server, 50_000)
        made = await person.http.wallet.withdraw(20_000, account_id)
        admin = await server.admin()
        await admin.http.wallet.file(made["id"])
        await admin.http.wallet.decide(made["id"], "process")
        await until_status(person, made["id"], "completed")
        rows = await server.sql("SELECT w::text AS w FROM withdrawals w")
        rows += await server.sql("SELECT e::text AS w FROM events e") + await server.sql(
            "SELECT a::text AS w FROM audit_log a"
        )
        rows += await server.sql("SELECT q::text AS w FROM dispatch_queue.pgqueuer_log q")
        assert not any(NUMBER in row["w"] for row in rows)
    out, err = capfd.readouterr()
    assert NUMBER not in out + err


async def test_books_that_are_off_are_found(database_url: str, redis_url: str) -> None:
    """By owner and currency, from either side."""
    async with serving(database_url, redis_url, payout_by="manual") as server:
        (one, bank_one), (two, bank_two) = await rich(server), await rich(server)
        await one.http.wallet.withdraw(20_000, bank_one)
        made = await two.http.wallet.withdraw(30_000, bank_two)
        async with server.app.pg.system() as conn:
            assert list(await held_off(conn)) == []
            await server.sql("UPDATE withdrawals SET amount_minor = 25000 WHERE user_id = $1", one.user_id)
            await server.sql(
                "UPDATE withdrawals SET status = 'rejected', reason = 'x', processed_at = clock_timestamp() WHERE id = $1",
                UUID(made["id"]),
            )
            found = {off.owner_id: (off.currency, off.held_minor, off.asked_minor) for off in await held_off(conn)}
        assert found == {one.user_id: ("THB", 20_000, 25_000), two.user_id: ("THB", 30_000, 0)}


def test_the_operator_is_told_how_accounts_are_kept_and_who_pays(tmp_path: Path) -> None:
    plain = payout_troubles(load({}, data_dir=tmp_path))
    assert "DISPATCH_BANK_KEYS" in plain[0] and "rotate-keys" in plain[0] and "nobody gets money" in plain[1]
    assert str(tmp_path / "payouts") in plain[1]
    good = {"bank_keys": ["k" * 40], "payout_by": "http", "payout_secret": "s"}
    assert payout_troubles(load({}, payout_url="https://bank.example", **good)) == []
    (clear,) = payout_troubles(load({}, payout_url="http://bank.example", **good))
    assert "not https" in clear


async def test_an_admin_does_not_decide_on_his_own_withdrawal(server: Server) -> None:
    person, bank = await rich(server)
    asked = await person.http.wallet.withdraw(20_000, bank)
    hat = await server.person("customer", "admin", user_id=person.user_id)
    for action in WithdrawalAction:
        with code("FORBIDDEN"):
            await hat.http.wallet.decide(asked["id"], action, reason="mine", transaction_id="T")
    assert await has(person) == (80_000, 20_000)
