"""Payouts: a bank that is slow, moody and mute; workers that die; lines that break. Paid once, or released once, never guessed. WAL-06, WAL-09."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from dispatch.kit.postgres import Actor
from dispatch.supervisor import reap_tracker
from dispatch.wallets import Payout, PayoutDoor, Said, Unclear, payouts_stuck
from dispatch.wallets.doors import PayoutFolder, PayoutGateway
from dispatch.wallets.doors.http import said_in
from protocol.errors import Denied
from tests.machines.stage import StillClock
from tests.support.bank import SECRET, Bank, fake_bank
from tests.support.server import WITHIN_S, Person, Server, code, denied, serving, settings_for
from tests.wallets.scenes import NUMBER, books_are_right, has, rich, until_status


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    async with fake_bank() as double:
        yield double


@pytest.fixture
async def server(database_url: str, redis_url: str, bank: Bank) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, **bank.settings()) as running:
        yield running
        await books_are_right(running)


async def processing(server: Server, amount_minor: int = 20_000, *, funds: int = 50_000) -> tuple[Person, str]:
    """A withdrawal that the office has just let go."""
    person, account = await rich(server, funds)
    made = await person.http.wallet.withdraw(amount_minor, account)
    await (await server.admin()).http.wallet.decide(made["id"], "process")
    return person, made["id"]


async def until(there: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not there():
            await asyncio.sleep(0.01)


# --- the doors: one suite for both


@pytest.fixture(params=["folder", "http"])
async def door(request: pytest.FixtureRequest, tmp_path: Path, bank: Bank) -> AsyncIterator[PayoutDoor]:
    opened: PayoutDoor = (
        PayoutFolder(tmp_path / "payouts") if request.param == "folder" else PayoutGateway(bank.url, SECRET)
    )
    yield opened
    await opened.close()
    await opened.close()


def a_payout(**other: Any) -> Payout:
    return Payout(
        **{
            "id": uuid4(),
            "amount_minor": 20_000,
            "currency": "THB",
            "bank_code": "SCB",
            "account_number": NUMBER,
            "account_name": "สมชาย ใจดี",
        }
        | other
    )


async def test_a_door_pays_once_and_knows_what_it_has_paid(door: PayoutDoor) -> None:
    payout = a_payout()
    assert await door.query(payout.id) is None
    first = await door.submit(payout)
    assert first.status == "paid" and first.transaction_id
    assert await door.submit(payout) == first == await door.query(payout.id)
    assert await door.query(uuid4()) is None
    assert NUMBER not in repr(payout) + str(payout)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"status":"paid","transaction_id":"T"}', Said("paid", "T")),
        (b'{"status":"failed","reason":"closed"}', Said("failed", None, "closed")),
        (b'{"status":"failed","reason":7}', Said("failed")),
        (b'{"status":"pending"}', Said("pending")),
        *((content, None) for content in (b"", b"[]", b"null", b'{"status":"paid"}', b'{"status":"paid","transaction_id":""}', rb'{"status":"paid","transaction_id":"\u0000"}',
           b'{"status":"PAID","transaction_id":"T"}', b'{"status":"failed","id":"other"}', b'{"status":["failed"]}', b"\xff", b"{" * 5000)),
    ],
)  # fmt: skip
def test_only_a_clear_answer_is_an_answer(content: bytes, expected: Said | None) -> None:
    if expected is None:
        with pytest.raises(Unclear):
            said_in(content, UUID(int=1))
    else:
        assert said_in(content, UUID(int=1)) == expected


# --- what the bank says


async def test_what_the_bank_pays_is_completed(server: Server, bank: Bank) -> None:
    person, made = await processing(server)
    done = await until_status(person, made, "completed")
    assert done["transaction_id"] == f"tx-{made[-8:]}" and done["processed_at"]
    assert await has(person) == (30_000, 0)
    assert bank.known[made]["body"]["account_number"] == NUMBER and bank.asked == ["submit"]
    assert (await (await server.admin()).http.wallet.file(made))["tries"] == 1
    health = await (await server.admin()).http.call("GET", "/v1/admin/health")
    assert "payout" in str(health)


@pytest.mark.parametrize("mode", ["refuses", "refuses_400"])
async def test_what_the_bank_clearly_refuses_is_released(server: Server, bank: Bank, mode: str) -> None:
    bank.mode = mode
    person, made = await processing(server)
    failed = await until_status(person, made, "failed")
    assert failed["reason"] == "account …7890 closed" and await has(person) == (50_000, 0) and not bank.paid


UNCLEAR = {
    "hangs": False, "pays_hangs": True, "500_before": False, "500_after": True, "drops": True, "denies": False, "unknown": True, "other": True
}  # fmt: skip
"""mode → whether the bank has paid when nobody knows. In an order that opens no circuit."""


async def test_what_is_unclear_stays_processing_until_the_bank_says(server: Server, bank: Bank) -> None:
    """Every way to lose an answer: not released, not paid twice, asked before anything is sent again."""
    for mode, has_paid in UNCLEAR.items():
        bank.script, bank.asked = [mode], []
        bank.questions = ["500", "unknown"]
        person, made = await processing(server)
        async with asyncio.timeout(WITHIN_S):
            while bank.questions:  # the queue's own job comes in between as it likes
                assert await has(person) == (30_000, 20_000), f"{mode}: held while nobody knows"
                await server.app.payouts.pay(UUID(made))
            while (await person.http.wallet.withdrawal(made))["status"] == "processing":
                await server.app.payouts.pay(UUID(made))
        assert await has(person) == (30_000, 0)
        assert bank.asked[:2] == ["submit", "query"] and bank.asked.count("submit") == (1 if has_paid else 2), (
            mode,
            bank.asked,
        )
    assert set(bank.paid.values()) == {1} and len(bank.paid) == len(UNCLEAR)


async def test_what_the_bank_pays_late_is_asked_for_until_it_is(server: Server, bank: Bank) -> None:
    bank.mode = "pays_late"
    person, made = await processing(server)
    await until(lambda: bank.asked.count("query") >= 2)
    assert (await person.http.wallet.withdrawal(made))["status"] == "processing"
    bank.settle()
    await until_status(person, made, "completed")
    assert bank.asked.count("submit") == 1


async def test_pauses_grow_and_an_open_circuit_spares_the_bank(database_url: str, redis_url: str, bank: Bank) -> None:
    bank.mode = "500_before"
    async with serving(database_url, redis_url, **bank.settings(retry_base_s=0.01)) as server:
        person, made = await processing(server)
        waits = []
        async with asyncio.timeout(WITHIN_S):
            while server.app.payouts.circuits()["payout"] != "open":
                waits.append(await server.app.payouts.pay(UUID(made)))
        assert all(wait is not None for wait in waits)
        asked = bank.asked.count("submit")
        (before,) = await server.sql("SELECT tries, due_at FROM withdrawals")
        assert await server.app.payouts.pay(UUID(made)) > 1.0
        (after,) = await server.sql("SELECT tries, due_at, status FROM withdrawals")
        assert bank.asked.count("submit") == asked, "nobody asks while the circuit is open"
        assert after["tries"] == before["tries"] and after["status"] == "processing"
        assert await has(person) == (30_000, 20_000)


# --- the office beside the gateway


async def test_by_hand_only_once_it_is_stuck(server: Server, bank: Bank) -> None:
    bank.mode = "pays_late"
    person, made = await processing(server)
    office = (await server.admin()).http.wallet
    await until(lambda: "query" in bank.asked)
    for action in ("complete", "fail"):
        refusal = await denied(office.decide(made, action, reason="x", transaction_id="T1"))
        assert refusal.code == "INVALID_STATUS_TRANSITION" and "30 minutes" in refusal.details["why"]
    assert (await office.everybodys(stuck=True))["items"] == []
    await server.sql("UPDATE withdrawals SET processing_at = processing_at - interval '31 minutes'")
    (stuck,) = (await office.everybodys(stuck=True))["items"]
    assert stuck["withdrawal"]["id"] == made and stuck["stuck"] and stuck["last_error"] == "pending at the gateway"
    assert (await office.everybodys(stuck=True, status="pending"))["items"] == []
    async with server.app.pg.system() as conn:
        assert [one.id for one in await payouts_stuck(conn)] == [UUID(made)]
    # Not while a worker asks this very moment.
    await server.sql("UPDATE withdrawals SET leased_until = clock_timestamp() + interval '1 hour'")
    refusal = await denied(office.decide(made, "fail", reason="x"))
    assert "right now" in refusal.details["why"]
    await server.sql("UPDATE withdrawals SET leased_until = NULL")
    async with asyncio.timeout(WITHIN_S):
        # The worker asks again and again: somewhere between two of its questions.
        while (await person.http.wallet.withdrawal(made))["status"] == "processing":
            try:
                await office.decide(made, "complete", transaction_id="by hand")
            except Denied as refused:
                assert "right now" in refused.details["why"]
    assert (await person.http.wallet.withdrawal(made))["transaction_id"] == "by hand"
    assert await has(person) == (30_000, 0)
    assert await server.app.payouts.pay(UUID(made)) is None


async def test_what_people_pay_no_gateway_pays_as_well(database_url: str, redis_url: str, bank: Bank) -> None:
    """Who pays is fixed when it is let go: a changed setting does not pay it again."""
    async with serving(database_url, redis_url, payout_by="manual") as server:
        _, made = await processing(server)
        assert await server.app.payouts.pay(UUID(made)) is None and await server.app.payouts.rescue(after_s=-1) == 0
    async with serving(database_url, redis_url, **bank.settings()) as server:
        assert await server.app.payouts.rescue(after_s=-1) == 0
        assert await server.app.payouts.pay(UUID(made)) is None
        admin = await server.admin()
        await admin.http.wallet.decide(made, "complete", transaction_id="T1")
        assert not bank.asked
        await books_are_right(server)


async def test_what_a_gateway_has_got_no_folder_counts_as_paid(
    database_url: str, redis_url: str, bank: Bank, tmp_path: Path
) -> None:
    """A server that starts without its settings writes files by default: whoever waits for the bank goes on waiting."""
    bank.mode = "pays_late"
    async with serving(database_url, redis_url, **bank.settings()) as server:
        person, made = await processing(server)
        await until(lambda: bank.asked)
        user = person.user_id
    async with serving(database_url, redis_url, data_dir=tmp_path) as server:
        assert await server.app.payouts.pay(UUID(made)) is None and await server.app.payouts.rescue(after_s=-1) == 0
        found = await (await server.person(user_id=user)).http.wallet.withdrawal(made)
        assert found["status"] == "processing" and not list(tmp_path.rglob("*.json"))
    bank.settle()
    async with serving(database_url, redis_url, **bank.settings()) as server:
        await server.app.payouts.rescue(after_s=-1)
        await until_status(await server.person(user_id=user), made, "completed")
        assert bank.paid[made] == 1
        await books_are_right(server)


async def test_a_gateway_that_says_paid_after_a_person_said_failed_is_not_believed_in_silence(
    server: Server, bank: Bank, capfd: pytest.CaptureFixture[str]
) -> None:
    bank.mode = "pays_late"
    person, made = await processing(server)
    await until(lambda: "query" in bank.asked)
    await server.sql("UPDATE withdrawals SET processing_at = processing_at - interval '31 min', due_at = 'infinity'")
    office = (await server.admin()).http.wallet
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await office.decide(made, "fail", reason="the bank knows of none")
                break
            except Denied as denial:  # it is being asked at this very moment
                assert denial.code == "INVALID_STATUS_TRANSITION"
    capfd.readouterr()
    await server.app.payouts._settle(UUID(made), uuid4(), Said("paid", "T9"))
    assert "a person decided differently" in "".join(capfd.readouterr())
    assert (await person.http.wallet.withdrawal(made))["status"] == "failed" and await has(person) == (50_000, 0)


async def test_only_who_has_the_lease_is_believed_a_no(server: Server, bank: Bank) -> None:
    bank.mode = "pays_late"
    person, made = await processing(server)
    await until(lambda: "query" in bank.asked)
    await server.app.payouts._settle(UUID(made), uuid4(), Said("failed"))
    assert (await person.http.wallet.withdrawal(made))["status"] == "processing", "a no of somebody without the lease"
    await server.app.payouts._settle(UUID(made), uuid4(), Said("paid", "T9"))
    await server.app.payouts._settle(UUID(made), uuid4(), Said("failed"))
    found = await person.http.wallet.withdrawal(made)
    assert (found["status"], found["transaction_id"]) == ("completed", "T9") and await has(person) == (30_000, 0)


# --- workers that die, jobs that are lost, lines that break


async def test_twenty_payouts_of_two_workers_are_paid_once_each(database_url: str, redis_url: str, bank: Bank) -> None:
    async with serving(database_url, redis_url, workers=2, **bank.settings()) as server:
        person, account = await rich(server, 400_000)
        office = (await server.admin()).http.wallet
        made = [(await person.http.wallet.withdraw(20_000, account))["id"] for _ in range(20)]
        await asyncio.gather(*(office.decide(one, "process") for one in made))
        # Jobs that come twice, and at the same time: one lease.
        await asyncio.gather(*(app.payouts.pay(UUID(one)) for one in made for app in server.apps))
        for one in made:
            await until_status(person, one, "completed")
        assert len(bank.paid) == 20 and await has(person) == (0, 0)
        await books_are_right(server)


async def test_who_asks_holds_a_lease_and_nobody_asks_beside_him(server: Server, bank: Bank) -> None:
    """A second job of the same payout, at the same time, is told how long the first one may take."""
    bank.mode = "hangs"
    person, account = await rich(server)
    made = (await person.http.wallet.withdraw(20_000, account))["id"]
    await server.sql("SELECT withdrawal_process($1, 'gateway', NULL)", UUID(made))
    await until(bank.arrived.is_set)
    wait = await server.app.payouts.pay(UUID(made))
    assert wait is not None and 0 < wait < server.app.payouts.lease_s + 0.5
    assert bank.asked == ["submit"]
    (row,) = await server.sql("SELECT tries FROM withdrawals")
    assert row["tries"] == 1
    bank.mode = "pays"
    bank.release.set()
    await until_status(person, made, "completed")


async def test_a_lost_job_is_made_again(server: Server, bank: Bank) -> None:
    bank.mode = "pays_late"
    person, made = await processing(server)
    await until(lambda: "query" in bank.asked)
    bank.settle()
    async with asyncio.timeout(WITHIN_S):
        while (await person.http.wallet.withdrawal(made))["status"] == "processing":
            await server.sql("DELETE FROM dispatch_queue.pgqueuer WHERE entrypoint = 'payout'")
            await server.app.payouts.rescue(after_s=0)
            await asyncio.sleep(0.05)
    assert bank.paid[made] == 1


async def test_no_job_of_a_process_that_was_rolled_back(server: Server, bank: Bank) -> None:
    person, account = await rich(server)
    made = (await person.http.wallet.withdraw(20_000, account))["id"]
    with pytest.raises(RuntimeError):
        async with server.app.pg.acting(Actor(uuid4(), frozenset({"admin"}))) as tx:
            await tx.fetchval("SELECT withdrawal_process($1, 'gateway', NULL)", UUID(made))
            raise RuntimeError("changed my mind")
    assert not await server.sql("SELECT 1 FROM dispatch_queue.pgqueuer WHERE entrypoint = 'payout'")
    assert await server.app.payouts.pay(UUID(made)) is None and not bank.asked


def _worker(settings: dict[str, Any]) -> None:
    async def main() -> None:
        from dispatch.app import build
        from dispatch.settings import Settings

        async with build(Settings(**settings)):
            await asyncio.Event().wait()

    asyncio.run(main())


async def test_a_worker_killed_in_the_middle_of_a_payout_leaves_it_to_another(
    database_url: str, redis_url: str, bank: Bank
) -> None:
    """The bank has paid and the worker is gone: the next one asks first, within one lease, and pays nothing."""
    bank.script = ["pays_hangs"]
    given = bank.settings(send_timeout_s=0.7)
    async with serving(database_url, redis_url, payout_by="manual") as server:
        person, account = await rich(server, 50_000)
        made = (await person.http.wallet.withdraw(20_000, account))["id"]
    # As the office lets it go, while no server runs.
    judge = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    await judge.execute("SELECT withdrawal_process($1, 'gateway', NULL)", UUID(made))
    settings = settings_for(database_url, redis_url, **given).model_dump()
    process = multiprocessing.get_context("spawn").Process(target=_worker, args=(settings,), daemon=True)
    process.start()
    try:
        async with asyncio.timeout(60):
            await bank.arrived.wait()
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.join)
        reap_tracker()
    assert bank.paid[made] == 1
    row = await judge.fetchrow(
        "SELECT status, submitted_at, leased_until > clock_timestamp() AS leased FROM withdrawals"
    )
    assert row["status"] == "processing" and row["submitted_at"] and row["leased"]
    async with serving(database_url, redis_url, **given) as server, asyncio.timeout(30):
        while not await judge.fetchval("SELECT true FROM withdrawals WHERE status = 'completed'"):
            await asyncio.sleep(0.05)
        assert bank.asked == ["submit", "query"] and bank.paid[made] == 1
        await books_are_right(server)
    await judge.close()


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


async def test_a_request_whose_commit_reply_is_lost_is_answered_by_asking_again(
    line: Proxy, redis_url: str, bank: Bank
) -> None:
    """Executed, and nobody heard: the client asks again under its key, by itself, and holds the amount once."""
    clock = StillClock()
    async with serving(line.url, redis_url, clock=clock, payout_by="manual") as server:
        clock.begun()
        person, account = await rich(server, 50_000)
        trap = line.drop_next_reply(b"COMMIT")
        made = await person.http.wallet.withdraw(30_000, account)
        assert trap.reached.is_set()
        assert [str(row["id"]) for row in await server.sql("SELECT id FROM withdrawals")] == [made["id"]]
        assert await has(person) == (20_000, 30_000)
        trap = line.cut_before(b"COMMIT")
        again = await person.http.wallet.withdraw(10_000, account)
        assert trap.reached.is_set() and again["id"] != made["id"]
        assert await has(person) == (10_000, 40_000), "never executed, asked again, done once"
        trap = line.drop_next_reply(b"COMMIT")
        admin = await server.admin()
        await admin.http.wallet.decide(made["id"], "reject", reason="x")
        assert trap.reached.is_set() and await has(person) == (40_000, 10_000)
        await books_are_right(server)


async def test_a_payout_whose_settlement_is_lost_is_settled_by_the_next_question(
    line: Proxy, redis_url: str, bank: Bank
) -> None:
    async with serving(line.url, redis_url, **bank.settings()) as server:
        person, account = await rich(server, 50_000)
        made = (await person.http.wallet.withdraw(20_000, account))["id"]
        trap = line.cut_before(b"withdrawal_resolve")
        await (await server.admin()).http.wallet.decide(made, "process")
        async with asyncio.timeout(WITHIN_S):
            await trap.reached.wait()
        assert await has(person) == (30_000, 20_000)
        await until_status(person, made, "completed")
        assert bank.asked == ["submit", "query"] and bank.paid[made] == 1
        with code("INVALID_STATUS_TRANSITION"):
            await (await server.admin()).http.wallet.decide(made, "fail", reason="x")
        await books_are_right(server)
