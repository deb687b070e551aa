"""What a second hard look found: each was a hole once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dispatch.providers import rules
from protocol.errors import Denied
from protocol.lifecycle import AdminAction, ProviderStatus, ServiceType
from protocol.papers import DocumentType, ReviewAction
from protocol.resources import Role
from protocol.tickets import TicketCategory
from tests.papers.scenes import PDF, a_car, in_days
from tests.support.server import BANGKOK, WITHIN_S, Person, Server, code, serving


@pytest.fixture
async def server(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    asked = {"ride": ["driver_license"], "laundry": ["national_id"]}
    async with serving(database_url, redis_url, required_documents=asked, storage_dir=tmp_path) as running:
        yield running


async def papers(server: Server, person: Person, *kinds: str, days: int = 400) -> None:
    admin = await server.admin()
    for kind in kinds:
        made = await person.http.papers.upload(kind, PDF, expiry_date=in_days(days))
        await admin.http.papers.review_document(made["document_id"], ReviewAction.APPROVE)


async def both(server: Server) -> Person:
    """Rides and launders, approved."""
    person = await server.provider(service_types=["ride", "laundry"], approved=False)
    await papers(server, person, "driver_license", "national_id")
    await server.approve(person)
    return person


async def test_an_admin_who_cancels_or_releases_a_job_is_in_the_log(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url) as server:
        admin, customer = await server.admin(), await server.person()
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            offer = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], offer["offer_id"])
            await admin.http.release(UUID(job["id"]), "wrong side of the river")
            await admin.http.cancel(UUID(job["id"]), "gone")
        entries = (await admin.http.office.audit(subject_id=job["id"]))["items"]
        assert [(entry["action"], entry["reason"]) for entry in entries] == [
            ("cancel", "gone"),
            ("release", "wrong side of the river"),
        ]
        assert entries[1]["before"] == {"status": "accepted", "provider_id": driver.provider_id}


async def test_more_required_counts_from_the_commit_on(server: Server) -> None:
    """Not when the last of a hundred thousand has been judged again."""
    person = await both(server)
    state = await server.app.providers.state(person.user_id)
    assert state is not None and state.cleared_types == ("ride", "laundry")
    await server.app.providers.require(
        {
            ServiceType.RIDE: [DocumentType.DRIVER_LICENSE, DocumentType.CRIMINAL_RECORD],
            ServiceType.LAUNDRY: [DocumentType.NATIONAL_ID],
        },
        [],
    )
    state = await server.app.providers.state(person.user_id)
    assert state is not None and state.cleared_types == ()
    await server.app.providers.judge_again(person.user_id)
    state = await server.app.providers.state(person.user_id)
    assert state is not None and state.cleared_types == ("laundry",)


async def test_a_paper_of_one_type_that_runs_out_costs_no_job_of_another(server: Server) -> None:
    from tests.support.crowd import Racer, lone_job, offer, outcome

    person = await both(server)
    await person.http.set_online(True, *BANGKOK)
    await server.sql("INSERT INTO workers (id, beat_at) VALUES ('crowd', clock_timestamp() + interval '1 day')")
    await server.sql(
        "INSERT INTO sockets (user_id, device, attempt, worker_id, conn_id) VALUES ($1, 'd', 1, 'crowd', gen_random_uuid())",
        person.user_id,
    )
    from dispatch.kit.postgres import Actor

    state = await server.app.providers.state(person.user_id)
    assert state is not None
    racer = Racer(Actor(person.user_id, frozenset({"customer"}), "en"), state)
    job = await lone_job(server)
    await server.sql("UPDATE jobs SET service_type = 'laundry' WHERE id = $1", job)
    held = (await offer(server, job, [racer]))[racer.id]
    await server.sql(
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE document_type = 'driver_license'"
    )
    await server.sql("UPDATE provider_gate SET cleared_until = clock_timestamp()")
    assert await outcome(server.app.claims.accept(racer.actor, job, held, 1, "k")) == "BUSY"
    assert await outcome(server.app.claims.accept(racer.actor, job, held, 1, "k")) == "accepted"


async def test_going_online_judges_what_has_just_run_out(server: Server) -> None:
    person = await both(server)
    await server.sql(
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE document_type = 'driver_license'"
    )
    await server.sql("UPDATE provider_gate SET cleared_until = clock_timestamp()")
    assert (await person.http.set_online(True, *BANGKOK))["is_online"]
    assert (await person.http.provider())["cleared_service_types"] == ["laundry"]


async def test_fewer_required_send_an_application_to_review(server: Server) -> None:
    person = await server.provider(service_types=["ride"], approved=False)
    assert (await person.http.provider())["status"] == "pending"
    await server.app.providers.require({}, [])
    async with asyncio.timeout(WITHIN_S):
        while (await person.http.provider())["status"] != "pending_verification":
            await server.app.providers.rejudge()


async def test_a_suspension_for_papers_ends_when_its_ground_is_gone(server: Server) -> None:
    person = await both(server)
    await server.sql(
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE document_type = 'driver_license'"
    )
    await server.app.expiry.sweep()
    assert (await person.http.provider())["suspension_cause"] == "documents"
    assert (await person.http.patch_provider(service_types=["laundry"]))["status"] == "suspended"
    swept = await server.app.expiry.sweep()
    own = await person.http.provider()
    assert swept.restored == 1 and (own["status"], own["cleared_service_types"]) == ("approved", ["laundry"])


async def test_a_suspension_for_papers_can_be_made_one_for_more(server: Server) -> None:
    person, admin = await both(server), await server.admin()
    provider_id = UUID(str(person.provider_id))
    await server.sql(
        "UPDATE provider_documents SET expiry_date = current_date - 2 WHERE document_type = 'driver_license'"
    )
    await server.app.expiry.sweep()
    await admin.http.provider_action(provider_id, AdminAction.SUSPEND, "forged papers")
    with code("INVALID_STATUS_TRANSITION"):
        await admin.http.provider_action(provider_id, AdminAction.SUSPEND, "again")
    with code("DOCUMENTS_INCOMPLETE"):
        await admin.http.provider_action(provider_id, AdminAction.REACTIVATE)
    await papers(server, person, "driver_license")
    own = await person.http.provider()
    assert (own["status"], own["suspension_cause"], own["suspension_reason"]) == ("suspended", "admin", "forged papers")
    await admin.http.provider_action(provider_id, AdminAction.REACTIVATE)
    assert (await person.http.provider())["cleared_service_types"] == ["ride", "laundry"]


async def test_whom_the_office_suspended_changes_nothing_of_his_record(server: Server) -> None:
    person, admin = await both(server), await server.admin()
    await admin.http.provider_action(UUID(str(person.provider_id)), AdminAction.SUSPEND, "fraud")
    for attempt in (
        person.http.patch_provider(first_name="Another"),
        person.http.papers.add_vehicle(**a_car()),
    ):
        with code("PROVIDER_SUSPENDED"):
            await attempt
    await person.http.support.open(TicketCategory.ACCOUNT, "why", "I did nothing")


async def test_a_vehicle_is_warned_of_before_it_ends(server: Server) -> None:
    person, admin = await both(server), await server.admin()
    car = await person.http.papers.add_vehicle(**a_car(registration_expiry=in_days(20), insurance_expiry=in_days(300)))
    await admin.http.papers.review_vehicle(car["id"], ReviewAction.APPROVE)
    for moved, warned in ((0, 1), (0, 0), (14, 1), (5, 1)):
        await server.sql("UPDATE provider_vehicles SET registration_expiry = registration_expiry - $1::int", moved)
        assert (await server.app.expiry.sweep()).warned == warned, moved
    rows = await server.sql(
        "SELECT data ->> 'days' AS days, data ->> 'document_type' AS paper FROM notifications WHERE type = 'document_expiring' ORDER BY created_at"
    )
    assert [(row["days"], row["paper"]) for row in rows] == [
        ("20", "vehicle_registration"),
        ("6", "vehicle_registration"),
        ("1", "vehicle_registration"),
    ]


async def test_a_held_gate_keeps_nobody_else_from_being_judged(server: Server) -> None:
    people = [await both(server) for _ in range(3)]
    held = people[1].user_id

    async def stale() -> set[UUID]:
        rows = await server.sql("SELECT user_id FROM provider_gate WHERE cleared_by = 'something else'")
        return {row["user_id"] for row in rows}

    holder = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        await server.sql("UPDATE provider_gate SET cleared_by = 'something else'")
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM provider_gate WHERE user_id = $1 FOR UPDATE", held)
            assert held in await stale()
            async with asyncio.timeout(WITHIN_S):
                while await stale() != {held}:
                    await server.app.providers.rejudge()
            assert await server.app.providers.rejudge() == 0, "he is left alone"
        async with asyncio.timeout(WITHIN_S):
            while await stale():
                await server.app.providers.rejudge()
    finally:
        await holder.close()


async def test_the_last_admin_cannot_lock_himself_out(server: Server) -> None:
    admin = await server.admin()
    with code("FORBIDDEN"):
        await admin.http.office.give_roles(admin.user_id, None)


async def test_a_reply_that_nobody_has_taken_up_is_told_to_the_office(server: Server) -> None:
    asker, clerk, admin = await server.person(), await server.person(), await server.admin()
    await clerk.http.me()
    await admin.http.office.give_roles(clerk.user_id, [Role.ADMIN])
    ticket = await asker.http.support.open(TicketCategory.APP, "hello", "anybody?")
    await asker.http.support.reply(ticket["id"], "still nobody?")
    rows = await server.sql("SELECT recipient_id FROM notifications WHERE type = 'support_reply'")
    assert [row["recipient_id"] for row in rows] == [clerk.user_id]


@pytest.mark.parametrize("reason", ["\u200b\u2060", "\u3164", "\u00a0\n", "\ufeff"])
def test_a_reason_has_something_to_read(reason: str) -> None:
    with pytest.raises(Exception, match="reason"):
        rules.judged(ProviderStatus.ACTIVE, AdminAction.SUSPEND, reason)


async def test_names_that_may_be_given_may_be_searched_for(server: Server) -> None:
    admin, person = await server.admin(), await server.person()
    for name in ("👨‍👩‍👧", "می‌خواهم"):
        await person.http.patch_me(first_name=name)
        assert [one["id"] for one in (await admin.http.office.users(search=name))["items"]] == [str(person.user_id)]


async def test_a_history_restored_into_a_younger_server_is_told(server: Server) -> None:
    """Its transactions begin anew, below those that the reader had come to."""
    customer = await server.person()
    await server.sql("UPDATE job_event_readers SET xid = ((pg_current_xact_id()::text::bigint + 1000000)::text)::xid8")
    job = await server.request(customer)
    await (await server.admin()).http.cancel(UUID(job["id"]), "test")

    async def told() -> list[Any]:
        return await server.sql(
            "SELECT 1 FROM notifications WHERE recipient_id = $1 AND type = 'job_cancelled'", customer.user_id
        )

    async with asyncio.timeout(WITHIN_S):
        while not await told():
            await server.app.teller.turn()
    with pytest.raises(Denied):
        await customer.http.cancel(UUID(job["id"]))
