"""Row security: the application role sees what its person may see, and nothing when nobody acts. I12, AUT-05 to AUT-08."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.kit.postgres import Actor, Postgres
from tests.incentives.stage import a_program
from tests.support.server import Server, serving
from tests.wallets.scenes import account as bank_account

TABLES = [
    "users", "idem", "sockets", "inbox_head", "inbox_marks", "events", "providers", "provider_gate", "provider_log", "jobs", "job_events", "offers",
    "workers", "history",
    "notifications", "notification_deliveries", "push_devices", "verified_emails",
    "service_requirements", "provider_documents", "provider_uploads", "provider_vehicles",
    "audit_log", "job_event_readers", "support_tickets", "ticket_replies",
    "incentives", "incentive_progress",
    "ledger_kind", "ledger_account", "ledger_txn", "ledger_entry", "earnings", "earning_totals", "bank_accounts", "withdrawals", "ratings", "provider_ratings",
    "performance_days", "performance_run", "match_rounds",
    "passwords", "sessions", "refresh_tokens", "attempts", "email_tokens", "phone_codes",
]  # fmt: skip
UNSEEN = {
    "workers", "ledger_kind", "service_requirements", "job_event_readers", "provider_uploads",
    "passwords", "sessions", "refresh_tokens", "attempts", "email_tokens", "phone_codes",
}  # fmt: skip
"""What no request reads, whoever acts."""


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
            if table == "history" or table in UNSEEN:
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


OWNERS = {
    "ledger_account": ("owner_id",), "ledger_entry": ("owner_id",), "ledger_txn": (), "earnings": ("user_id",), "earning_totals": ("user_id",),
    "bank_accounts": ("user_id",), "withdrawals": ("user_id",), "ratings": ("user_id", "customer_id"), "provider_ratings": ("user_id",),
    "incentive_progress": ("user_id",), "performance_days": (), "performance_run": (),
}  # fmt: skip
"""Of each table of money, and of what comes of jobs, the columns that say whose a row is; the office's own have none."""


async def test_of_money_everybody_sees_his_own_rows_and_an_admin_all(server: Server) -> None:
    """Role by table, with rows of two providers and two customers in each of them. A customer has paid, and has no row of money."""
    admin = await server.admin()
    await admin.http.incentives.create(**a_program((1, 1_000)))
    people = [await server.person()]
    for _ in range(2):
        customer = await server.person()
        people.append(customer)
        async with server.working() as (driver, phone):
            people.append(driver)
            job = await server.request(customer)
            await phone.accept(job["id"], (await driver.inbox.named("offer.created")).data["offer_id"])
            for stage in ("arrived", "in_progress", "completed"):
                await phone.advance(job["id"], stage)
        await customer.http.earnings.tip(job["id"], 20_000)
        await customer.http.ratings.rate(job["id"], 5)
        await driver.http.wallet.withdraw(10_000, await bank_account(server, driver))
    await server.app.aggregates.run(rest_s=0)

    async def seen(table: str, actor: Actor | None) -> int:
        async with server.app.pg.app() if actor is None else server.app.pg.acting(actor) as tx:
            return int(await tx.fetchval(f"SELECT count(*) FROM {table}"))

    for table, columns in OWNERS.items():
        (every,) = await server.sql(f"SELECT count(*) AS n FROM {table}")
        assert every["n"], f"{table} has no row to see"
        assert await seen(table, None) == 0, table
        assert await seen(table, Actor(uuid4(), frozenset({"admin"}))) == every["n"], table
        for person in people:
            whose = " OR ".join(f"{column} = $1" for column in columns) or "$1::uuid IS NULL"
            (own,) = await server.sql(f"SELECT count(*) AS n FROM {table} WHERE {whose}", person.user_id)
            assert await seen(table, Actor(person.user_id)) == own["n"], (table, person.roles)
            assert not columns or person.provider_id is None or 0 < own["n"] < every["n"], table


@pytest.mark.parametrize("roles", [frozenset(), frozenset({"admin"})])
async def test_what_proves_who_somebody_is_is_read_by_no_request(server: Server, roles: frozenset[str]) -> None:
    person = await server.person()
    for table in sorted(UNSEEN):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with server.app.pg.acting(Actor(person.user_id, roles)) as tx:
                await tx.fetch(f"SELECT * FROM {table}")


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
    "UPDATE users SET roles = '{admin}'",
    "UPDATE users SET email = 'mine@example.com'",
    "UPDATE users SET phone_verified_at = now()",
    "UPDATE users SET tokens_valid_after = NULL",
    "INSERT INTO verified_emails VALUES (gen_random_uuid(), 'mine@example.com')",
    "SELECT session_rotate('x', 'y', '1 day')",
    "SELECT email_use('x', 'verify')",
    "SELECT attempts_return('{x}')",
    "SELECT attempts_take('{x}', '{1}', '1 s')",
    "SELECT accounts_forget(1)",
    "UPDATE provider_documents SET status = 'approved'",
    "UPDATE provider_vehicles SET status = 'approved'",
    "DELETE FROM provider_documents",
    "SELECT documents_due('-infinity', gen_random_uuid(), 1)",
    "UPDATE history SET epoch = 'mine'",
    "UPDATE audit_log SET reason = 'never happened'",
    "DELETE FROM audit_log",
    "TRUNCATE audit_log",
    "UPDATE provider_documents SET status = 'approved'",
    "UPDATE provider_vehicles SET status = 'approved'",
    "INSERT INTO verified_emails VALUES (gen_random_uuid(), 'x@y.z')",
    "UPDATE notifications SET title = 'x'",
    "UPDATE support_tickets SET body = 'x'",
    "UPDATE earnings SET net_minor = 1",
    "DELETE FROM earnings",
    "INSERT INTO earnings SELECT * FROM earnings",
    "UPDATE earning_totals SET net_minor = 1",
    "UPDATE incentives SET created_by = gen_random_uuid()",
    "DELETE FROM incentives",
    "UPDATE incentive_progress SET count = 99",
    "INSERT INTO incentive_progress SELECT * FROM incentive_progress",
    "UPDATE ratings SET score = 5",
    "INSERT INTO ratings (id) VALUES (gen_random_uuid())",
    "UPDATE provider_ratings SET rating = 5",
    "UPDATE performance_days SET offered = 1",
    "INSERT INTO match_rounds (job_id) VALUES (gen_random_uuid())",
    "DELETE FROM match_rounds",
    "UPDATE performance_run SET calculated_at = now()",
    "SELECT performance_step('1 s', '1 s', 1, '{}', '{}')",
    "SELECT * FROM offer_outcomes",
    "SELECT offers_create(gen_random_uuid(), 0, '{}', '{}', '{}', '1 s', 1, '1 s', '1 s')",
    "SELECT jobs_due(NULL, 1, '1 s', '{}', '{}')",
    "SELECT live_state(gen_random_uuid())",
    "SELECT job_events_next('notices', 1)",
    "UPDATE bank_accounts SET document_id = gen_random_uuid()",
    "UPDATE bank_accounts SET sealed = 'x'",
    "INSERT INTO bank_accounts (id) VALUES (gen_random_uuid())",
    "DELETE FROM bank_accounts",
    "UPDATE withdrawals SET status = 'completed'",
    "UPDATE withdrawals SET amount_minor = 1",
    "INSERT INTO withdrawals (id) VALUES (gen_random_uuid())",
    "DELETE FROM withdrawals",
    "SELECT payout_enqueue('{}')",
    "SELECT payout_claim(gen_random_uuid(), 'gateway', gen_random_uuid(), 1)",
    "SELECT payout_sending(gen_random_uuid(), gen_random_uuid(), 1)",
    "SELECT payout_later(gen_random_uuid(), gen_random_uuid(), 1, 'x', true)",
    "SELECT payouts_rescue('gateway', 0, 1)",
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
    ("SELECT users_roles_set($1, '{admin}')", "user"),
    ("SELECT users_blocked_set($1, true, 'x')", "user"),
    ("SELECT sessions_end($1, 'signed_out')", "user"),
    ("SELECT password_set($1, 'x')", "user"),
    ("SELECT session_open(gen_random_uuid(), $1, 'x', '1 day')", "user"),
    ("SELECT email_ask(gen_random_uuid(), $1, 'a@b.example', 'verify', 'x', '1 day')", "user"),
    ("SELECT phone_code_ask($1, gen_random_uuid(), '+66812345678', '5 min')", "user"),
    ("SELECT phone_code_try($1, 5)", "user"),
    ("SELECT phone_code_use($1, gen_random_uuid())", "user"),
    ("SELECT users_sign_up($1, 'a@b.example', NULL, NULL, NULL, NULL, 'x')", "user"),
    ("SELECT document_add(gen_random_uuid(), $1, 'national_id', 'x', 'image/png', 1, '', NULL)", "provider"),
    ("SELECT document_review($1, 'approved', NULL, NULL)", "provider"),
    ("SELECT suspension_over($1)", "provider"),
    (
        "SELECT vehicle_add(gen_random_uuid(), $1, 'car', 'a', 'b', 2020, 'p', 'p', 'c', '2030-01-01', '2030-01-01', NULL)",
        "provider",
    ),
    ("SELECT incentives_count($1, $1, 'bkk', 'ride', 'THB', 13.7, 100.5, now(), 'Asia/Bangkok')", "user"),
    (
        "SELECT earnings_add(jsonb_populate_record(NULL::earnings, jsonb_build_object('user_id', $1::uuid, 'kind', 'bonus')), 'UTC')",
        "user",
    ),
    ("SELECT vehicle_review($1, 'approved', NULL, NULL)", "provider"),
    ("SELECT wallet_gate($1)", "user"),
    (
        "SELECT bank_account_add(gen_random_uuid(), $1, 'SCB', 'x', 'x', '0123456789abcdef', '1234', gen_random_uuid())",
        "user",
    ),
    ("SELECT bank_account_remove(gen_random_uuid(), $1)", "user"),
    ("SELECT withdrawal_open(gen_random_uuid(), $1, gen_random_uuid(), 1, 'THB', '1 s')", "user"),
    ("SELECT withdrawal_lock($1)", "user"),
    ("SELECT withdrawal_process($1, 'gateway', NULL)", "user"),
    ("SELECT withdrawal_resolve($1, 'completed', NULL, 'x', NULL)", "user"),
    ("SELECT ratings_add(gen_random_uuid(), $1, 5, NULL, '14 days', 500)", "job"),
]


@pytest.mark.parametrize(("statement", "target"), GUARDED)
async def test_guarded_functions_refuse_an_actor_who_is_no_party(server: Server, statement: str, target: str) -> None:
    """A second lock: even a service that forgot its check cannot act for a stranger."""
    victim, customer = await server.provider(approved=False), await server.person()
    job = await server.request(customer)
    subject = UUID({"job": job["id"], "provider": str(victim.provider_id), "user": str(victim.user_id)}[target])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with server.app.pg.acting(Actor(uuid4())) as tx:
            await tx.execute(statement, subject)


UNASKED = {
    "accept_job", "documents_missing", "email_verified", "inbox_append", "jobs_lock_of", "notice_locales", "notice_write", "office_user",
    "provider_lack", "provider_uid_known", "provider_view", "providers_clear", "providers_gate_lock", "support_office", "users_ensure", "vehicle_ready",
    "ledger_account_of", "ledger_purse",
}  # fmt: skip
"""What passes row security without a look at who acts: somebody else's doing may need it, or it tells and changes nothing of anybody's. A customer's
tip begins with the purse of his driver."""


async def test_what_passes_row_security_asks_who_acts(server: Server) -> None:
    rows = await server.sql(
        """SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'dispatch'::regnamespace AND p.prosecdef
             AND has_function_privilege('dispatch_app', p.oid, 'EXECUTE') AND pg_get_functiondef(p.oid) NOT LIKE '%ctx\\_%'"""
    )
    assert {row["proname"] for row in rows} == UNASKED


QUERIES = int(os.environ.get("POOL_BLEED_QUERIES", "20000"))
"""The design's number is 100,000 for each size: POOL_BLEED_QUERIES=100000 pytest tests/security/test_row_security.py -k pool."""


@pytest.mark.parametrize("size", [1, 4])
async def test_a_pool_never_shows_one_tenant_the_rows_of_another(
    database_url: str, server: Server, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acting user lives in the transaction: whoever gets the connection next starts as nobody, however the last one ended.

    Two users over one connection, or four; every ninth asker fails, every seventh is cancelled in mid-query.
    """
    one, two = await server.person(), await server.person()
    jobs = {one.user_id: (await server.request(one))["id"], two.user_id: (await server.request(two))["id"]}
    tickets = iter(range(QUERIES // 8))
    asked = cut = 0

    async def ask(pg: Postgres, user: UUID, number: int) -> None:
        nonlocal asked
        async with pg.acting(Actor(user)) as tx:
            for _ in range(10):
                asked += 1
                assert [str(row["id"]) for row in await tx.fetch("SELECT id FROM jobs")] == [jobs[user]]
            if number % 9 == 0:
                raise LookupError("a request that fails")

    async def asker(pg: Postgres) -> None:
        nonlocal cut
        for number in tickets:
            task = asyncio.ensure_future(ask(pg, (one, two)[number % 2].user_id, number))
            if number % 7 == 0:
                for _ in range(number % 23):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                await task
            except LookupError:
                pass
            except asyncio.CancelledError:
                cut += 1
            if number % 100 == 0:
                async with pg.app() as conn:
                    assert await conn.fetchval("SELECT count(*) FROM jobs") == 0

    async with Postgres.open(database_url, size=size) as pg, asyncio.TaskGroup() as group:
        for _ in range(2 * size):
            group.create_task(asker(pg))
    assert asked >= QUERIES and cut > QUERIES // 200


async def test_a_request_cut_at_any_step_leaves_its_connection_as_nobodys(database_url: str, server: Server) -> None:
    """Cancelled after each number of turns of the loop, also twice: while it begins, asks, commits, rolls back. Whoever has the
    connection next is in no transaction and nobody.
    """
    person = await server.person()
    job = UUID((await server.request(person))["id"])

    async def work(pg: Postgres) -> None:
        async with pg.acting(Actor(person.user_id)) as tx:
            await tx.fetch("SELECT id FROM jobs WHERE id = $1", job)

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
    async with Postgres.open(database_url, size=1) as pg:
        await work(pg)
        cut = 0
        for turns in [*range(25)] * 4:
            for again in (0, 1, 2, 5):
                task = asyncio.ensure_future(work(pg))
                for _ in range(turns):
                    await asyncio.sleep(0)
                cut += task.cancel()
                if again:
                    for _ in range(again):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                async with pg.app() as conn:
                    assert not conn.is_in_transaction(), f"cut after {turns} turns, and {again} later again"
                    assert await conn.fetchval("SELECT count(*) FROM jobs") == 0
        assert cut > 100, "the others had ended before"
    assert not complaints, "the pool got back what had not been rolled back"
