"""The whole way of a provider, through real sockets, HTTP and a mail server: and what may not be skipped on it."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dispatch.books import reconciled
from dispatch.settings import Settings
from protocol.http import Http
from protocol.lifecycle import AdminAction
from protocol.papers import ReviewAction
from protocol.resources.wallets import WithdrawalAction, WithdrawalStatus
from tests.support.bank import Bank, fake_bank
from tests.support.crowd import lone_job, outcome
from tests.support.mail import MailServer, mail_server, text_of
from tests.support.server import BANGKOK, WITHIN_S, Person, Server, code, serving

PDF = b"%PDF-1.7\n1 0 obj\n"
NEXT_YEAR = str((datetime.now(UTC) + timedelta(days=365)).date())


@pytest.fixture
async def mailbox() -> AsyncIterator[MailServer]:
    async with mail_server() as running:
        yield running


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    async with fake_bank() as running:
        yield running


@pytest.fixture
async def server(
    database_url: str, redis_url: str, mailbox: MailServer, bank: Bank, tmp_path: Path
) -> AsyncIterator[Server]:
    given: dict[str, Any] = {
        "required_documents": Settings().required_documents,
        "vehicle_services": ["ride"],
        "storage_dir": tmp_path / "documents",
        "link_secret": "l" * 40,
        **mailbox.settings(),
        **bank.settings(payout_timeout_s=5),
    }
    async with serving(database_url, redis_url, **given) as running:
        yield running


async def link_in_a_mail(mailbox: MailServer, to: str) -> str:
    """The token of the link that was sent to this address."""
    async with asyncio.timeout(WITHIN_S):
        while not (found := [text_of(mail) for mail in mailbox.mails if to.lower() in str(mail["To"]).lower()]):
            await asyncio.sleep(0.01)
    match = re.search(r"token=([\w.~-]+)", found[0])
    assert match is not None, found[0]
    return match[1]


async def approved_papers(person: Person, admin: Person) -> None:
    for kind in ("national_id", "driver_license", "vehicle_registration"):
        made = await person.http.papers.upload(kind, PDF, expiry_date=NEXT_YEAR)
        await admin.http.papers.review_document(made["document_id"], ReviewAction.APPROVE)


async def test_from_sign_up_to_the_payout_of_the_first_job(server: Server, mailbox: MailServer, bank: Bank) -> None:
    admin, customer = await server.admin(), await server.person()
    email = "Somchai.Jaidee@Example.com"
    async with Http(server.url(), "", locale="th") as anybody:
        signed = await anybody.account.sign_up(email, "ลับมาก-2026", first_name="สมชาย 🚕", last_name="ใจดี")
        await anybody.account.verify_email(await link_in_a_mail(mailbox, email))
        with code("INVALID_TOKEN"):
            await anybody.account.verify_email(await link_in_a_mail(mailbox, email))
        tokens = await anybody.account.sign_in(email.upper(), "ลับมาก-2026")
    async with Http(server.url(), tokens["access_token"], locale="th") as http:
        person = Person(UUID(signed["user"]["id"]), tokens["access_token"], http, server, ["customer"])
        assert (await http.me())["email_verified"]
        made = await http.register(
            first_name="สมชาย 🚕", last_name="ใจดี", email=email, phone_number="0812345678", service_types=["ride"]
        )
        provider_id = UUID(made["provider_id"])
        assert made["status"] == "pending" and made["verification_token"]
        with code("PROVIDER_NOT_APPROVED"):
            await http.set_online(True, *BANGKOK)
        with code("INVALID_STATUS_TRANSITION"):
            await admin.http.provider_action(provider_id, AdminAction.APPROVE)

        await approved_papers(person, admin)
        assert (await http.provider())["status"] == "pending_verification"
        approved = (await admin.http.provider_action(provider_id, AdminAction.APPROVE))["provider"]
        assert approved["provider_uid"] and approved["cleared_service_types"] == [], "a ride needs a vehicle here"
        with code("VEHICLE_REQUIRED"):
            await http.set_online(True, *BANGKOK)
        car = await http.papers.add_vehicle(
            vehicle_type="car", make="Toyota", model="Yaris", year=2020, plate_number="1กก 1234", color="white",
            registration_expiry=NEXT_YEAR, insurance_expiry=NEXT_YEAR,
        )  # fmt: skip
        await admin.http.papers.review_vehicle(car["id"], ReviewAction.APPROVE)
        assert (await http.provider())["cleared_service_types"] == ["ride"]

        async with person.connected() as phone, customer.connected():
            await phone.online(*BANGKOK)
            await server.listed(person)
            job = await server.request(customer)
            offer = (await person.inbox.named("offer.created")).data
            await phone.accept(job["id"], offer["offer_id"])
            card = (await customer.inbox.named("job.accepted")).data["provider"]
            assert card["vehicle"]["plate_number"] == "1กก 1234" and card["first_name"] == "สมชาย 🚕"
            for stage in ("arrived", "in_progress", "completed"):
                await phone.advance(job["id"], stage)
            await customer.inbox.named("job.completed")
        async with asyncio.timeout(WITHIN_S):
            while (n := (await customer.http.call("GET", "/v1/notifications/unread_count"))["unread"]) < 4:
                await asyncio.sleep(0.05)
        assert n == 4, "accepted, arrived, in_progress, completed"
        names = [one["type"] for one in (await http.call("GET", "/v1/notifications"))["items"]]
        assert names[::-1] == [
            "email_verification",
            *["document_approved"] * 3,
            "application_approved",
            "vehicle_approved",
        ]
        await paid_out(server, person, customer, admin, job["id"], bank)


async def paid_out(server: Server, person: Person, customer: Person, admin: Person, job_id: str, bank: Bank) -> None:
    """What the first job brought, with the customer's thanks, on its way to the bank."""
    http = person.http
    assert (await http.wallet.wallet())["available_minor"] == 2_800
    await customer.http.earnings.tip(job_id, 20_000)
    await customer.http.ratings.rate(job_id, 5, "ขอบคุณ")
    with code("TIP_EXISTS"):
        await customer.http.earnings.tip(job_id, 100)
    made = await http.papers.upload("bank_account", PDF)
    account = await http.wallet.add_bank_account(
        bank_code="SCB", account_number="1234567890", account_name="Somchai Jaidee", document_id=made["document_id"]
    )
    with code("BANK_ACCOUNT_NOT_VERIFIED"):
        await http.wallet.withdraw(10_000, account["id"])
    await admin.http.papers.review_document(made["document_id"], ReviewAction.APPROVE)
    with code("INSUFFICIENT_AMOUNT"):
        await http.wallet.withdraw(5_000, account["id"])
    async with person.connected(device="d2"):
        asked = await http.wallet.withdraw(22_000, account["id"])
        assert asked["status"] == "pending"
        wallet = await http.wallet.wallet()
        assert (wallet["available_minor"], wallet["held_minor"], wallet["balance_minor"]) == (800, 22_000, 22_800)
        (queued,) = (await admin.http.wallet.everybodys(status=WithdrawalStatus.PENDING))["items"]
        assert queued["withdrawal"]["id"] == asked["id"]
        await admin.http.wallet.decide(asked["id"], WithdrawalAction.PROCESS)
        told = await person.inbox.until(
            lambda: [
                e
                for e in person.inbox.events
                if e.name == "withdrawal.updated" and e.data["withdrawal"]["status"] == "completed"
            ]
        )
    assert told[0].data["withdrawal"]["transaction_id"].startswith("tx-")
    assert bank.paid == {asked["id"]: 1}
    assert bank.known[asked["id"]]["body"]["account_number"] == "1234567890"
    assert (await http.wallet.wallet())["balance_minor"] == 800
    (*_, first) = (await http.earnings.items())["items"]
    assert (first["kind"], first["paid_out"], first["payout_id"]) == ("job", True, asked["id"])
    board = await http.performance.dashboard()
    assert (board["today"]["net_minor"], board["today"]["completed_jobs"], board["rating"]) == (22_800, 1, 5.0)
    names = {one["type"] for one in (await http.call("GET", "/v1/notifications"))["items"]}
    assert {"tip_received", "rating_received", "withdrawal_completed"} <= names
    assert await reconciled(server.settings.database_url or "", print) == 0


async def working(server: Server, mailbox: MailServer) -> Person:
    """An approved provider with papers and a vehicle, switched on; nobody is connected."""
    admin = await server.admin()
    person = await server.provider(approved=False)
    await approved_papers(person, admin)
    await server.approve(person)
    car = await person.http.papers.add_vehicle(
        vehicle_type="car", make="Toyota", model="Yaris", year=2020, plate_number=f"X {person.user_id.hex[:9]}", color="white",
        registration_expiry=NEXT_YEAR, insurance_expiry=NEXT_YEAR,
    )  # fmt: skip
    await admin.http.papers.review_vehicle(car["id"], ReviewAction.APPROVE)
    await person.http.set_online(True, *BANGKOK)
    return person


LOSSES = {
    "the licence has run out and nobody has swept": (
        ("WITH out AS (UPDATE provider_documents SET expiry_date = current_date - 2 WHERE provider_id = $1 AND document_type = 'driver_license') "
        "UPDATE provider_gate SET cleared_until = clock_timestamp() WHERE provider_id = $1"), "DOCUMENTS_INCOMPLETE", False),
    "the licence has run out and was swept": (
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE provider_id = $1 AND document_type = 'driver_license'",
        "DOCUMENTS_INCOMPLETE", True),
    "the vehicle is suspended": (
        "UPDATE provider_vehicles SET status = 'suspended', is_active = false WHERE provider_id = $1", "VEHICLE_REQUIRED", True),
    "a document is replaced by none": (
        "UPDATE provider_documents SET status = 'rejected', rejection_reason = 'x' WHERE provider_id = $1 AND document_type = 'national_id'",
        "DOCUMENTS_INCOMPLETE", True),
    "a suspension waits for a job to end": (
        "UPDATE provider_gate SET suspend_due = true WHERE provider_id = $1", "DOCUMENTS_INCOMPLETE", False),
}  # fmt: skip


@pytest.mark.parametrize("change", LOSSES)
async def test_what_is_lost_counts_at_the_next_accept_without_exception(
    server: Server, mailbox: MailServer, change: str
) -> None:
    """An offer that was made before the change is no right any more; nor is the board; nor does the judge offer him another job."""
    person = await working(server, mailbox)
    provider_id = UUID(str(person.provider_id))
    from dispatch.kit.postgres import Actor
    from tests.support.crowd import Racer, offer

    await server.sql("INSERT INTO workers (id, beat_at) VALUES ('crowd', clock_timestamp() + interval '1 day')")
    await server.sql(
        "INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id) VALUES ($1, 'd', 1, 'crowd', gen_random_uuid())",
        person.user_id,
    )
    state = await server.app.providers.state(person.user_id)
    assert state is not None and state.service_types == ("ride",)
    racer = Racer(Actor(person.user_id, frozenset({"customer"}), "en"), state)
    first, second = await lone_job(server), await lone_job(server)
    held = (await offer(server, first, [racer]))[provider_id]

    statement, refusal, judged_again = LOSSES[change]
    await server.sql(statement, provider_id)
    if judged_again:
        await server.sql("SELECT providers_clear($1)", provider_id)
    assert await outcome(server.app.claims.accept(racer.actor, first, held, 1, "k1")) in (
        refusal,
        "DOCUMENTS_INCOMPLETE",
    )
    assert await outcome(server.app.claims.accept(racer.actor, second, None, None, "k2")) != "accepted"
    with pytest.raises(AssertionError, match="nobody"):
        await offer(server, second, [racer])
    assert (await person.http.available())["items"] == []
    await person.http.set_online(False)
    with code(refusal):
        await person.http.set_online(True, *BANGKOK)


async def test_papers_put_right_open_the_gate_again(server: Server, mailbox: MailServer) -> None:
    person, admin = await working(server, mailbox), await server.admin()
    await server.sql(
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE document_type = 'driver_license'"
    )
    await server.app.expiry.sweep()
    own = await person.http.provider()
    assert (own["status"], own["suspension_cause"], own["is_online"]) == ("suspended", "documents", False)
    made = await person.http.papers.upload("driver_license", PDF, expiry_date=NEXT_YEAR)
    await admin.http.papers.review_document(made["document_id"], ReviewAction.APPROVE)
    own = await person.http.provider()
    assert (own["status"], own["cleared_service_types"]) == ("approved", ["ride"])
    assert (await person.http.set_online(True, *BANGKOK))["is_online"]


async def test_other_requirements_judge_everybody_again(database_url: str, redis_url: str) -> None:
    """Settings are read at the start: a server that asks for more shuts out who has less, and one that asks for less lets him in."""
    async with serving(database_url, redis_url) as server:
        person = await server.provider()
        assert (await person.http.provider())["cleared_service_types"] == ["ride"]
    async with serving(database_url, redis_url, required_documents={"ride": ["health_certificate"]}) as server:
        async with asyncio.timeout(WITHIN_S):
            while (await server.sql("SELECT cleared FROM provider_gate"))[0]["cleared"]:
                await server.app.providers.rejudge()
    async with serving(database_url, redis_url) as server:
        async with asyncio.timeout(WITHIN_S):
            while (await server.sql("SELECT cleared FROM provider_gate"))[0]["cleared"] != ["ride"]:
                await server.app.providers.rejudge()


async def test_a_service_type_is_added_when_its_papers_are_there(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    asked = {"laundry": ["health_certificate"]}
    async with serving(database_url, redis_url, required_documents=asked, storage_dir=tmp_path) as server:
        person, admin = await server.provider(), await server.admin()
        with code("DOCUMENTS_INCOMPLETE"):
            await person.http.patch_provider(service_types=["ride", "laundry"])
        made = await person.http.papers.upload("health_certificate", PDF)
        await admin.http.papers.review_document(made["document_id"], ReviewAction.APPROVE)
        both = await person.http.patch_provider(service_types=["ride", "laundry"])
        assert both["cleared_service_types"] == ["ride", "laundry"]
