"""Row security: the application role sees what its person may see, and nothing when nobody acts. I12, AUT-05 to AUT-08."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.kit.postgres import Actor, Postgres
from tests.support.server import Server, serving

TABLES = [
    "users", "idem", "sockets", "inbox_head", "inbox_marks", "events", "providers", "provider_gate", "provider_log", "jobs", "job_events", "offers",
    "workers", "history",
    "notifications", "notification_deliveries", "verified_emails",
    "service_requirements", "provider_documents", "provider_uploads", "provider_vehicles",
]  # fmt: skip


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_every_table_has_row_security_and_forces_it(server: Server) -> None:
    rows = await server.sql(
        """SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner) AS owner FROM pg_class c
           WHERE c.relnamespace = 'dispatch'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname NOT LIKE '%migration%'"""
    )
    assert {row["relname"] for row in rows} == set(TABLES), "a new table belongs into TABLES, with its policies"
    for row in rows:
        assert row["relrowsecurity"] and row["relforcerowsecurity"], row["relname"]
        assert row["owner"] == "dispatch_owner", row["relname"]


async def test_no_role_of_ours_can_log_in_rule_or_bypass(server: Server) -> None:
    rows = await server.sql(
        "SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole FROM pg_roles WHERE rolname LIKE 'dispatch_%'"
    )
    assert {row["rolname"] for row in rows} == {"dispatch_owner", "dispatch_app", "dispatch_system"}
    for row in rows:
        assert not any((row["rolsuper"], row["rolbypassrls"], row["rolcanlogin"], row["rolcreaterole"])), row["rolname"]


async def test_no_policy_of_the_application_lets_everything_through(server: Server) -> None:
    rows = await server.sql(
        "SELECT tablename, policyname, roles, qual, with_check FROM pg_policies WHERE schemaname = 'dispatch'"
    )
    for row in rows:
        assert set(row["roles"]) <= {"dispatch_app", "dispatch_system", "dispatch_owner"}, (
            f"{row['policyname']} is for PUBLIC"
        )
        if "dispatch_app" in row["roles"] and row["tablename"] != "history":
            assert row["qual"] != "true" and row["with_check"] != "true", row["policyname"]


async def test_every_definer_function_pins_its_path_and_is_closed_to_the_public(server: Server) -> None:
    rows = await server.sql(
        """SELECT p.proname, p.prosecdef, p.proconfig, pg_get_userbyid(p.proowner) AS owner, p.proacl::text[] AS acl FROM pg_proc p
           WHERE p.pronamespace = 'dispatch'::regnamespace"""
    )
    for row in rows:
        if row["prosecdef"]:
            assert row["owner"] == "dispatch_system", row["proname"]
            assert any(setting.startswith("search_path=dispatch, pg_temp") for setting in row["proconfig"] or []), row[
                "proname"
            ]
        assert row["acl"] is not None and not any(entry.startswith("=") for entry in row["acl"]), (
            f"{row['proname']} is open to PUBLIC"
        )


async def test_without_an_acting_user_no_row_is_seen(server: Server) -> None:
    customer = await server.person()
    async with server.working():
        await server.request(customer)
    async with server.app.pg.app() as conn:
        for table in TABLES:
            if table in ("history", "workers", "service_requirements", "provider_uploads"):  # nothing of anybody's
                continue
            assert await conn.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_person_sees_his_own_rows_and_an_admin_all(server: Server) -> None:
    one, two = await server.person(), await server.person()
    mine, theirs = await server.request(one), await server.request(two)

    async def seen(actor: Actor) -> set[UUID]:
        async with server.app.pg.acting(actor) as tx:
            return {row["id"] for row in await tx.fetch("SELECT id FROM jobs")}

    assert await seen(Actor(one.user_id)) == {UUID(mine["id"])}
    assert await seen(Actor(two.user_id)) == {UUID(theirs["id"])}
    assert await seen(Actor(uuid4())) == set()
    assert await seen(Actor(uuid4(), frozenset({"admin"}))) == {UUID(mine["id"]), UUID(theirs["id"])}


WRITES = [
    "UPDATE providers SET status = 'approved'",
    "UPDATE providers SET rating = 5",
    "UPDATE provider_gate SET online = true",
    "UPDATE jobs SET provider_id = (SELECT id FROM providers LIMIT 1)",
    "UPDATE jobs SET round = 99",
    "UPDATE offers SET status = 'accepted'",
    "INSERT INTO events VALUES (gen_random_uuid(), 1, 'x', '{}', now())",
    "DELETE FROM job_events",
    "UPDATE job_events SET reason = 'never happened'",
    "DELETE FROM provider_log",
    "UPDATE users SET blocked_at = NULL",
    "UPDATE provider_documents SET status = 'approved'",
    "UPDATE provider_vehicles SET status = 'approved'",
    "DELETE FROM provider_documents",
    "SELECT documents_due('-infinity', gen_random_uuid(), 1)",
    "UPDATE history SET epoch = 'mine'",
    "SELECT offers_create(gen_random_uuid(), 0, '{}', '{}', '{}', '1 s', 1, '1 s', '1 s')",
    "SELECT jobs_due(NULL, 1, '1 s', '{}', '{}')",
    "SELECT live_state(gen_random_uuid())",
]


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("roles", [frozenset(), frozenset({"admin"})])
async def test_the_application_role_may_not_write_what_functions_guard(
    server: Server, statement: str, roles: frozenset[str]
) -> None:
    person = await server.provider(approved=False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with server.app.pg.acting(Actor(person.user_id, roles)) as tx:
            await tx.execute(statement)


GUARDED = [
    ("SELECT jobs_cancel($1, 'customer', NULL, 'customer', NULL)", "job"),
    ("SELECT providers_set_status($1, 'approved', NULL, NULL, NULL, NULL)", "provider"),
    ("SELECT providers_set_online($1, true, NULL, NULL, 'provider', NULL)", "provider"),
    ("SELECT offers_void($1, 'revoked')", "provider"),
    ("SELECT document_add(gen_random_uuid(), $1, 'national_id', 'x', 'image/png', 1, '', NULL)", "provider"),
    ("SELECT document_review($1, 'approved', NULL, NULL)", "provider"),
    ("SELECT suspension_over($1)", "provider"),
    (
        "SELECT vehicle_add(gen_random_uuid(), $1, 'car', 'a', 'b', 2020, 'p', 'p', 'c', '2030-01-01', '2030-01-01', NULL)",
        "provider",
    ),
    ("SELECT vehicle_review($1, 'approved', NULL, NULL)", "provider"),
]


@pytest.mark.parametrize(("statement", "target"), GUARDED)
async def test_guarded_functions_refuse_an_actor_who_is_no_party(server: Server, statement: str, target: str) -> None:
    """A second lock: even a service that forgot its check cannot act for a stranger."""
    victim, customer = await server.provider(approved=False), await server.person()
    job = await server.request(customer)
    subject = UUID(job["id"] if target == "job" else str(victim.provider_id))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with server.app.pg.acting(Actor(uuid4())) as tx:
            await tx.execute(statement, subject)


async def test_a_pool_of_one_never_shows_one_tenant_the_rows_of_another(database_url: str, server: Server) -> None:
    """The acting user lives in the transaction: whoever gets the connection next starts as nobody."""
    one, two = await server.person(), await server.person()
    jobs = {one.user_id: (await server.request(one))["id"], two.user_id: (await server.request(two))["id"]}

    async def read(pg: Postgres, user: UUID, *, fail: bool) -> Any:
        async with pg.acting(Actor(user)) as tx:
            rows = await tx.fetch("SELECT id FROM jobs")
            if fail:
                raise RuntimeError("a request that fails")
            return [str(row["id"]) for row in rows]

    async with Postgres.open(database_url, size=1) as pg:
        for turn in range(300):
            user = (one, two)[turn % 2].user_id
            if turn % 7 == 0:
                with pytest.raises(RuntimeError):
                    await read(pg, user, fail=True)
            else:
                assert await read(pg, user, fail=False) == [jobs[user]]
            async with pg.app() as conn:
                assert await conn.fetchval("SELECT count(*) FROM jobs") == 0
