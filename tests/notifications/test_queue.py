"""From the transaction that says it to the mail that arrives: through the queue, with its consumers dying on the way."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver

from dispatch.app import App
from dispatch.inbox import append
from dispatch.kit.postgres import Actor
from dispatch.kit.queue import queries
from dispatch.notifications import Notice
from dispatch.supervisor import reap_tracker
from protocol.notices import NoticeType
from tests.support.gateways import gateways
from tests.support.mail import MailServer, mail_server, text_of
from tests.support.post import Written, posting
from tests.support.server import WITHIN_S, Person, Server, serving, settings_for


@pytest.fixture
async def mailbox() -> AsyncIterator[MailServer]:
    async with mail_server() as double:
        yield double


@asynccontextmanager
async def mailing(database_url: str, redis_url: str, mailbox: MailServer, **given: Any) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, retry_base_s=0.05, **mailbox.settings(), **given) as server:
        for app in server.apps:
            app.sender.people = Written()
        yield server


async def until(there: Callable[[], Any]) -> Any:
    async with asyncio.timeout(WITHIN_S):
        while not (found := there()):
            await asyncio.sleep(0.01)
    return found


async def statuses(server: Server, user: UUID) -> dict[str, str]:
    rows = await server.sql(
        "SELECT channel, d.status FROM notification_deliveries d JOIN notifications n ON n.id = notification_id WHERE recipient_id = $1",
        user,
    )
    return {row["channel"]: row["status"] for row in rows}


async def until_status(server: Server, user: UUID, channel: str, status: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await statuses(server, user)).get(channel) != status:
            await asyncio.sleep(0.01)


async def tell(app: App, person: Person, kind: NoticeType = NoticeType.ACCOUNT_REACTIVATED, **given: Any) -> None:
    """As any slice does: in its transaction, with the facts appended last and handed over after the commit."""
    await person.http.me()
    async with app.pg.acting(Actor(person.user_id)) as tx:
        told = await app.admin._notifications.write(tx, [Notice(person.user_id, kind, **given)])
        facts = await append(tx, told)
    app.inbox.deliver(facts)


async def test_the_librarys_tables_are_those_that_it_declares(database_url: str) -> None:
    """Fails when the library was raised and its tables were not: print its DDL again and write a migration."""
    conn = await asyncpg.connect(database_url)
    plan = await queries(AsyncpgDriver(conn), "dispatch_queue").plan_upgrade()  # type: ignore[arg-type]
    await conn.close()
    assert list(plan.statements) == []


async def test_the_application_role_cannot_touch_the_queue(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url) as server:
        for statement in (
            "SELECT 1 FROM dispatch_queue.pgqueuer",
            "INSERT INTO dispatch_queue.pgqueuer (priority, entrypoint, status) VALUES (0, 'notify.push', 'queued')",
            "SELECT deliveries_enqueue('{}', true)",
            "SELECT delivery_claim(gen_random_uuid(), gen_random_uuid(), 1, 3)",
            "SELECT delivery_settle(gen_random_uuid(), gen_random_uuid(), 'sent', NULL, '{}', 0, true)",
            "SELECT deliveries_rescue(0, 1)",
        ):
            for roles in (frozenset[str](), frozenset({"admin"})):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with server.app.pg.acting(Actor(uuid4(), roles)) as tx:
                        await tx.execute(statement)


async def test_what_is_told_arrives_by_mail_and_lives_on_the_socket(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    async with mailing(database_url, redis_url, mailbox) as server:
        person = await server.person()
        async with person.connected():
            await tell(server.app, person)
            event = await person.inbox.named("notification.created")
            await until(lambda: mailbox.mails)
        (mail,) = mailbox.mails
        assert mail["To"] == f"{person.user_id}@test.invalid"
        assert text_of(mail).strip() == event.data["notification"]["body"] != ""
        assert mail["Auto-Submitted"] == "auto-generated"
        await until_status(server, person.user_id, "email", "sent")
        await until_status(server, person.user_id, "push", "skipped")
        server.app.gauges.gather()
        async with aiohttp.ClientSession() as session, session.get(f"{server.url()}/metrics") as answer:
            numbers = await answer.text()
        assert 'dispatch_deliveries_total{channel="email",end="sent"} 1.0' in numbers
        assert 'dispatch_circuits_shut{service="email"} 0.0' in numbers
        assert not await server.sql("SELECT 1 FROM dispatch_queue.pgqueuer WHERE status = 'failed'")


async def test_nothing_is_sent_of_a_transaction_that_was_rolled_back(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    async with mailing(database_url, redis_url, mailbox) as server:
        gone, stays = await server.person(), await server.person()
        await gone.http.me()
        with pytest.raises(RuntimeError, match="changed my mind"):
            async with server.app.pg.acting(Actor(gone.user_id)) as tx:
                await server.app.admin._notifications.write(tx, [Notice(gone.user_id, NoticeType.ACCOUNT_REACTIVATED)])
                raise RuntimeError("changed my mind")
        await tell(server.app, stays)
        await until(lambda: mailbox.mails)
        assert [mail["To"] for mail in mailbox.mails] == [f"{stays.user_id}@test.invalid"]
        assert await statuses(server, gone.user_id) == {}


async def test_mails_at_a_server_that_hangs_hold_up_no_push(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    mailbox.release.clear()
    async with (
        gateways() as double,
        mailing(database_url, redis_url, mailbox, **double.settings("push"), send_timeout_s=30) as server,
    ):
        server.app.sender.people.told = {"link": "https://a.test/x", "address": "a@test.invalid"}  # type: ignore[attr-defined]
        person = await server.person()
        await person.http.notices.register_fcm("phone-token")
        async with server.app.pg.acting(Actor(person.user_id)) as tx:
            mails = [Notice(person.user_id, NoticeType.EMAIL_VERIFICATION) for _ in range(120)]
            await server.app.admin._notifications.write(tx, mails)
        await until(lambda: mailbox.asked >= 20)
        # As urgent as the mails and behind all of them in the queue.
        await tell(server.app, person, NoticeType.JOB_ACCEPTED)
        async with asyncio.timeout(2):
            while not double.fcm:
                await asyncio.sleep(0.01)
        assert mailbox.asked < 40, "the rest of the mails is left to other workers"
        mailbox.release.set()
        await until(lambda: len(mailbox.mails) == 120)


async def test_a_key_is_told_once_also_by_many_at_the_same_time(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    async with mailing(database_url, redis_url, mailbox, workers=2) as server:
        person, other = await server.person(), await server.person()
        await other.http.me()
        async with asyncio.TaskGroup() as group:
            for turn in range(8):
                group.create_task(tell(server.apps[turn % 2], person, key="document:1:30"))
        await tell(server.app, other, key="document:1:30")
        await until(lambda: len(mailbox.mails) == 2)
        assert len(await server.sql("SELECT 1 FROM notifications WHERE recipient_id = $1", person.user_id)) == 1
        assert len(await server.sql("SELECT 1 FROM events WHERE user_id = $1", person.user_id)) == 1
        await until_status(server, person.user_id, "email", "sent")
        assert len(mailbox.mails) == 2


async def test_the_business_change_stands_while_mail_is_down_and_the_mail_comes_later(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    mailbox.data_answers += ["451 try later", "451 try later"]
    async with mailing(database_url, redis_url, mailbox) as server:
        provider = await server.provider(approved=False)
        answer = await server.approve(provider)
        assert answer["provider"]["status"] == "approved"
        approval = """FROM notification_deliveries d JOIN notifications n ON n.id = d.notification_id
            WHERE d.channel = 'email' AND n.type = 'application_approved'"""
        (mail,) = await until(lambda: mailbox.mails)
        assert mail["To"] == f"{provider.user_id}@test.invalid"
        async with asyncio.timeout(WITHIN_S):
            while not await server.sql(f"SELECT 1 {approval} AND d.status = 'sent'"):
                await asyncio.sleep(0.01)
        (row,) = await server.sql(f"SELECT d.attempts {approval}")
        assert row["attempts"] == 3


async def test_a_dead_delivery_is_listed_and_sent_again_on_demand(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    mailbox.answers += ["550 nobody here"]
    async with mailing(database_url, redis_url, mailbox) as server:
        person, admin = await server.person(), await server.admin()
        await tell(server.app, person)
        await until_status(server, person.user_id, "email", "dead")
        page = await admin.http.notices.deliveries(status="dead", channel="email")
        (dead,) = page["items"]
        assert dead["last_error"] == "SMTP 550: recipient refused" and dead["attempts"] == 1
        assert dead["recipient_id"] == str(person.user_id)
        key = str(uuid4())
        assert await admin.http.notices.requeue(dead["id"], key=key) == {"id": dead["id"], "status": "pending"}
        assert await admin.http.notices.requeue(dead["id"], key=key) == {"id": dead["id"], "status": "pending"}
        await until_status(server, person.user_id, "email", "sent")
        assert len(mailbox.mails) == 1
        from tests.support.server import denied

        assert (await denied(admin.http.notices.requeue(dead["id"]))).code == "INVALID_STATUS_TRANSITION"
        assert (await denied(admin.http.notices.requeue(uuid4()))).code == "NOT_FOUND"
        assert (await admin.http.notices.deliveries(status="dead"))["items"] == []


async def test_two_workers_send_each_mail_once(database_url: str, redis_url: str, mailbox: MailServer) -> None:
    async with mailing(database_url, redis_url, mailbox, workers=2) as server:
        people = [await server.person() for _ in range(20)]
        async with asyncio.TaskGroup() as group:
            for turn, person in enumerate(people):
                group.create_task(tell(server.apps[turn % 2], person))
        await until(lambda: len(mailbox.mails) >= 20)
        async with asyncio.timeout(WITHIN_S):
            while await server.sql("SELECT 1 FROM notification_deliveries WHERE status = 'pending'"):
                await asyncio.sleep(0.01)
        assert len({mail["To"] for mail in mailbox.mails}) == len(mailbox.mails) == 20


async def test_a_lost_listener_is_replaced_at_once(database_url: str, redis_url: str, mailbox: MailServer) -> None:
    async with mailing(database_url, redis_url, mailbox) as server:
        person = await server.person()
        await tell(server.app, person)
        await until(lambda: len(mailbox.mails) == 1)
        runs = server.app.consumer.runs
        killed = await server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dispatch_system_queue' AND datname = current_database()"
        )
        assert killed
        await until(lambda: server.app.consumer.runs > runs)
        await tell(server.app, person)
        await until(lambda: len(mailbox.mails) == 2)


async def test_a_job_that_was_lost_is_made_again(database_url: str, redis_url: str, mailbox: MailServer) -> None:
    async with posting(database_url) as post:
        user = await post.user()
        await post.write(user, NoticeType.ACCOUNT_REACTIVATED)
        await post.sql.execute("DELETE FROM dispatch_queue.pgqueuer")
    async with mailing(database_url, redis_url, mailbox) as server:
        assert await server.app.sender.rescue(after_s=0) == 1
        await until(lambda: mailbox.mails)


async def test_what_a_stopping_worker_has_begun_it_finishes(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    mailbox.release.clear()
    async with mailing(database_url, redis_url, mailbox) as server:
        await tell(server.app, await server.person())
        await until(mailbox.arrived.is_set)
        asyncio.get_running_loop().call_later(0.2, mailbox.release.set)
    assert len(mailbox.mails) == 1
    async with mailing(database_url, redis_url, mailbox) as server:
        assert await server.sql("SELECT 1 FROM notification_deliveries WHERE channel = 'email' AND status = 'sent'")


def _worker(settings: dict[str, Any]) -> None:
    """A worker process that believes everybody to have an address."""

    async def main() -> None:
        from dispatch.app import build
        from dispatch.settings import Settings

        async with build(Settings(**settings)) as app:
            app.sender.people = Written()
            await asyncio.Event().wait()

    asyncio.run(main())


async def test_a_worker_killed_in_the_middle_of_a_mail_leaves_it_to_another(
    database_url: str, redis_url: str, mailbox: MailServer
) -> None:
    """Within one lease: three times the time that a service has for a message."""
    async with posting(database_url) as post:
        user = await post.user()
        await post.write(user, NoticeType.ACCOUNT_REACTIVATED)
        delivery = (await post.row(user, "email"))["id"]
        mailbox.release.clear()
        given = settings_for(database_url, redis_url, send_timeout_s=0.7, **mailbox.settings()).model_dump()
        process = multiprocessing.get_context("spawn").Process(target=_worker, args=(given,), daemon=True)
        process.start()
        try:
            async with asyncio.timeout(60):
                await mailbox.arrived.wait()
        finally:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.join)
            reap_tracker()
        assert await post.state(delivery) == ("pending", 1, None)
        mailbox.release.set()
        async with mailing(database_url, redis_url, mailbox, send_timeout_s=0.7) as server:
            await until_status(server, user, "email", "sent")
        assert (await post.state(delivery))[1] == 2


async def test_a_phone_and_a_browser_get_the_push_and_a_gone_one_is_forgotten(
    database_url: str, redis_url: str
) -> None:
    async with gateways() as double, serving(database_url, redis_url, **double.settings("push", "sms")) as server:
        person = await server.person()
        browser = double.browser()
        await person.http.notices.register_fcm("phone-token", name="Pixel")
        await person.http.notices.register_webpush(browser.subscription)
        await tell(server.app, person, NoticeType.JOB_ACCEPTED, data={"job_id": str(uuid4())})
        await until(lambda: double.fcm and double.pushes)
        (_, headers, body) = double.pushes[0]
        said = browser.read(body)
        assert said["title"] == double.fcm[0]["notification"]["title"] == "Your request was accepted" or said["title"]
        assert headers["TTL"] and headers["Authorization"].startswith("vapid t=") and headers["Urgency"] == "high"
        assert double.fcm[0]["token"] == "phone-token"
        await until_status(server, person.user_id, "push", "sent")
        from tests.support.gateways import Reply

        double.by_token["phone-token"] = Reply(404, body={"error": {"details": [{"errorCode": "UNREGISTERED"}]}})
        await tell(server.app, person, NoticeType.JOB_CANCELLED)
        await until(lambda: len(double.pushes) == 2)
        async with asyncio.timeout(WITHIN_S):
            while len(await person.http.notices.devices()) != 1:
                await asyncio.sleep(0.01)
        assert [device["kind"] for device in await person.http.notices.devices()] == ["webpush"]
