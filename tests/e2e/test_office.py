"""What an office sees and does: lists, files, numbers, the log of its own doings; and how people hear of their jobs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from protocol.lifecycle import AdminAction, ProviderStatus, ServiceType
from protocol.resources import Role
from tests.support.crowd import lone_job
from tests.support.server import WITHIN_S, Server, code, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def told(server: Server, user_id: UUID) -> list[Any]:
    return await server.sql(
        "SELECT type, data ->> 'status' AS status FROM notifications WHERE recipient_id = $1 "
        "AND type <> 'email_verification' ORDER BY created_at",
        user_id,
    )


async def test_lists_filter_and_page(server: Server) -> None:
    admin = await server.admin()
    made = [
        await server.provider(service_types=kinds, approved=n % 2 == 0)
        for n, kinds in enumerate([["ride"], ["laundry"], ["ride", "laundry"]] * 2)
    ]
    office = admin.http.office
    ids = [person.provider_id for person in made]

    async def found(**query: Any) -> list[str]:
        return [one["id"] for one in (await office.providers(**query))["items"]]

    assert await found() == ids[::-1]
    assert await found(status=ProviderStatus.APPROVED) == [ids[4], ids[2], ids[0]]
    assert await found(service_type=ServiceType.LAUNDRY) == [ids[5], ids[4], ids[2], ids[1]]
    assert await found(status=ProviderStatus.APPROVED, service_type=ServiceType.LAUNDRY, search="SOMCHAI") == [
        ids[4],
        ids[2],
    ]
    assert await found(search="000000003") == [ids[2]], "the part of a number that everybody's begins with is left out"
    assert await found(search="0000000003") == [ids[2]], "typed with the 0 that is kept as +66"
    assert await found(online=True) == []
    await made[0].http.set_online(True, 13.75, 100.5)
    assert await found(online=True) == [ids[0]]
    assert len(await found(online=False)) == 5
    assert await found(search="nobody") == []
    file = await office.provider(ids[0])
    assert [step["what"] for step in file["history"]] == ["online", "approved", "pending_verification"]
    with code("PROVIDER_NOT_FOUND"):
        await office.provider(uuid4())


@pytest.mark.parametrize(
    "query",
    [
        "search=",
        "search=%20",
        "search=a%00b",
        "search=" + "x" * 101,
        "status=asleep",
        "online=maybe",
        "limit=0",
        "limit=101",
        "cursor=x",
        "order=up",
        "search=a&search=b",
    ],
)
async def test_a_list_that_cannot_be_made_is_refused(server: Server, query: str) -> None:
    admin = await server.admin()
    with code("VALIDATION_ERROR"):
        await admin.http.call("GET", f"/v1/admin/providers?{query}")


async def test_every_doing_of_an_admin_is_in_the_log_and_stays(server: Server) -> None:
    admin = await server.admin()
    person = await server.provider(approved=False)
    provider_id = UUID(str(person.provider_id))
    await server.sql("INSERT INTO verified_emails VALUES ($1, $2)", person.user_id, f"{person.user_id}@test.invalid")
    await admin.http.provider_action(provider_id, AdminAction.APPROVE)
    await admin.http.provider_action(provider_id, AdminAction.SUSPEND, "complaints")
    entries = (await admin.http.office.audit(subject_id=provider_id))["items"]
    assert [(entry["action"], entry["before"]["status"], entry["after"]["status"]) for entry in entries] == [
        ("suspend", "approved", "suspended"),
        ("approve", "pending_verification", "approved"),
    ]
    assert (
        entries[0]["reason"] == "complaints"
        and entries[0]["actor_id"] == str(admin.user_id)
        and entries[0]["request_id"]
    )
    first = await admin.http.office.audit(actor_id=admin.user_id, limit=1)
    rest = await admin.http.office.audit(actor_id=admin.user_id, limit=1, cursor=first["next_cursor"])
    assert first["items"] + rest["items"] == entries
    for statement in ("UPDATE audit_log SET reason = 'none'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):  # as the database's superuser
            await server.sql(statement)
    with code("FORBIDDEN"):
        await person.http.office.audit()


async def test_a_refused_action_leaves_no_trace(server: Server) -> None:
    admin = await server.admin()
    person = await server.provider()
    with code("INVALID_STATUS_TRANSITION"):
        await admin.http.provider_action(UUID(str(person.provider_id)), AdminAction.APPROVE)
    assert len((await admin.http.office.audit(subject_id=person.provider_id))["items"]) == 1


async def test_two_approvals_at_once_make_one_approval(server: Server) -> None:
    admin = await server.admin()
    person = await server.provider(approved=False)
    await server.sql("INSERT INTO verified_emails VALUES ($1, $2)", person.user_id, f"{person.user_id}@test.invalid")
    provider_id = UUID(str(person.provider_id))
    tries = [admin.http.provider_action(provider_id, AdminAction.APPROVE) for _ in range(8)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert {getattr(answer, "code", "done") for answer in answers} == {"done", "INVALID_STATUS_TRANSITION"}
    assert [one["type"] for one in await told(server, person.user_id)] == ["application_approved"]


async def test_approval_asks_for_a_proved_address_and_papers(database_url: str, redis_url: str) -> None:
    asked = {"ride": ["national_id"]}
    async with serving(database_url, redis_url, required_documents=asked) as server:
        admin = await server.admin()
        person = await server.provider(approved=False)
        provider_id = UUID(str(person.provider_id))
        with code("INVALID_STATUS_TRANSITION"):
            await admin.http.provider_action(provider_id, AdminAction.APPROVE)
        await server.sql("SELECT providers_submit(id) FROM providers")
        await server.sql("UPDATE providers SET status = 'pending_verification'")
        await server.sql("UPDATE provider_gate SET status = 'pending_verification'")
        with code("EMAIL_NOT_VERIFIED"):
            await admin.http.provider_action(provider_id, AdminAction.APPROVE)
        await server.sql(
            "INSERT INTO verified_emails VALUES ($1, $2)", person.user_id, f"{person.user_id}@test.invalid"
        )
        with code("DOCUMENTS_INCOMPLETE"):
            await admin.http.provider_action(provider_id, AdminAction.APPROVE)


async def test_rejected_applies_again(server: Server) -> None:
    admin = await server.admin()
    person = await server.provider(approved=False)
    provider_id = UUID(str(person.provider_id))
    with code("INVALID_STATUS_TRANSITION"):
        await person.http.call("POST", "/v1/providers/me/reapply")
    await admin.http.provider_action(provider_id, AdminAction.REJECT, "unreadable")
    with code("INVALID_STATUS_TRANSITION"):
        await admin.http.provider_action(provider_id, AdminAction.APPROVE)
    again = await person.http.call("POST", "/v1/providers/me/reapply")
    assert again["status"] == "pending_verification" and "rejection_reason" not in again
    history = (await admin.http.office.provider(provider_id))["history"]
    assert [step["what"] for step in history] == ["pending_verification", "pending", "rejected", "pending_verification"]


async def test_numbers_of_a_range(server: Server) -> None:
    admin, customer = await server.admin(), await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"])
        for stage in ("arrived", "in_progress", "completed"):
            done = await phone.advance(job["id"], stage)
    await server.sql("UPDATE providers SET rating = 4.5")
    today = datetime.now(UTC).astimezone().date()
    days = (today - timedelta(days=2), today + timedelta(days=2))
    numbers = await admin.http.office.analytics(*days)
    assert (numbers["total_providers"], numbers["active_providers"], numbers["total_jobs"]) == (1, 1, 1)
    assert numbers["total_earnings_minor"] == done["job"]["actual_earnings_minor"] and numbers["average_rating"] == 4.5
    assert "growth_rate" not in numbers, "nobody was approved in the days before"
    await server.provider()
    other = await server.provider()
    await server.sql(
        "UPDATE providers SET approved_at = approved_at - interval '5 days' WHERE id = $1", UUID(str(other.provider_id))
    )
    assert (await admin.http.office.analytics(*days))["growth_rate"] == 1.0
    assert (await admin.http.office.analytics(*days, service_type=ServiceType.LAUNDRY))["total_jobs"] == 0
    now = await admin.http.office.statistics()
    assert now["providers_online"] == 1 and now["providers"] == {"active": 1, "approved": 2}
    for first, last in ((today, today - timedelta(days=1)), (date(2020, 1, 1), today)):
        with code("INVALID_DATE_RANGE"):
            await admin.http.office.analytics(first, last)
    with code("VALIDATION_ERROR"):
        await admin.http.call("GET", "/v1/admin/analytics?date_from=2026-13-01&date_to=2026-12-01")


async def test_what_happens_to_a_job_is_told_once_and_in_order(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, workers=2) as server:
        customer = await server.person()
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"])
            for stage in ("arrived", "in_progress", "completed"):
                await phone.advance(job["id"], stage)
        await asyncio.gather(*(app.teller.turn() for app in server.apps * 4))
        async with asyncio.timeout(WITHIN_S):
            while len(rows := await told(server, customer.user_id)) < 4:
                await asyncio.sleep(0.05)
        assert [(row["type"], row["status"]) for row in rows] == [
            ("job_accepted", "accepted"),
            ("job_status_changed", "arrived"),
            ("job_status_changed", "in_progress"),
            ("job_status_changed", "completed"),
        ]
        assert await told(server, driver.user_id) == [] or [
            row["type"] for row in await told(server, driver.user_id)
        ] == ["application_approved"]


async def test_who_cancels_is_not_told_of_it_and_the_other_is(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"])
        await customer.http.cancel(UUID(job["id"]))
    async with asyncio.timeout(WITHIN_S):
        while "job_cancelled" not in [row["type"] for row in await told(server, driver.user_id)]:
            await server.app.teller.turn()
    assert [row["type"] for row in await told(server, customer.user_id)] == ["job_accepted"]


async def test_a_change_that_is_not_committed_yet_is_not_overtaken(server: Server) -> None:
    """Else a reader that goes by order would pass it by, and nobody would ever be told."""
    customer = await server.person()
    slow = await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})
    try:
        async with server.working() as (driver, phone):
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            other = await lone_job(server, customer.user_id)
            held = slow.transaction()
            await held.start()
            await slow.execute(
                "INSERT INTO job_events (job_id, version, from_status, to_status, round, actor_role) VALUES ($1, 99, 'accepted', 'arrived', 1, 'provider')",
                other,
            )
            await phone.accept(job["id"], made["offer_id"])
            for _ in range(3):
                await server.app.teller.turn()
            assert await told(server, customer.user_id) == []
            await held.commit()
            async with asyncio.timeout(WITHIN_S):
                while len(await told(server, customer.user_id)) < 2:
                    await server.app.teller.turn()
        assert [row["type"] for row in await told(server, customer.user_id)] == ["job_status_changed", "job_accepted"]
    finally:
        await slow.close()


async def test_users_are_found_given_roles_and_shut_out(server: Server) -> None:
    admin, person = await server.admin(), await server.person()
    office = admin.http.office
    await person.http.patch_me(first_name="มานี", last_name="Rakna", phone_number="0812345678")
    for part in ("มานี", "RAKNA", "0812345678", "234567"):
        assert [one["id"] for one in (await office.users(search=part))["items"]] == [str(person.user_id)], part
    with code("FORBIDDEN"):
        await person.http.office.users()

    await office.give_roles(person.user_id, [Role.ADMIN, Role.CUSTOMER])
    assert [one["id"] for one in (await office.users(role=Role.ADMIN))["items"]] == [str(person.user_id)]
    async with asyncio.timeout(WITHIN_S):  # within a second, though his token says otherwise
        while "admin" not in (await person.http.me())["roles"]:
            await asyncio.sleep(0.05)
    await person.http.office.users()
    await office.give_roles(person.user_id, None)

    async with person.connected() as phone:
        with code("REASON_REQUIRED"):
            await office.block(person.user_id, "  ")
        assert (await office.block(person.user_id, "fraud"))["blocked_reason"] == "fraud"
        async with asyncio.timeout(WITHIN_S):
            await phone.closed.wait()
    with code("FORBIDDEN"):
        await person.http.me()
    assert [one["id"] for one in (await office.users(blocked=True))["items"]] == [str(person.user_id)]
    assert "blocked_at" not in await office.unblock(person.user_id)
    await person.http.me()
    entries = (await office.audit(subject_id=person.user_id))["items"]
    assert [entry["action"] for entry in entries] == ["unblock", "block", "roles", "roles"]
    with code("USER_NOT_FOUND"):
        await office.block(uuid4(), "nobody")
    for own in (office.block(admin.user_id, "myself"), office.give_roles(admin.user_id, [Role.CUSTOMER])):
        with code("FORBIDDEN"):
            await own


async def test_the_health_page_says_who_lives_and_what_waits(server: Server) -> None:
    admin = await server.admin()
    page = await admin.http.office.health()
    assert page["redis_reachable"] and page["database_ms"] > 0 and len(page["workers"]) == 1
    assert page["workers"][0]["id"] == server.app.inbox.worker_id and page["workers"][0]["beat_age_s"] < 10
    assert (page["queue_waiting"], page["deliveries_dead"], page["jobs_overdue"]) == (0, 0, 0)
