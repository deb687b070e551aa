"""Tries, one by one: how each end of a try changes the row, and when it is tried again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from dispatch.kit.breaker import State
from dispatch.notifications.doors import Recording
from dispatch.notifications.model import Gone, Message, NeverDeliverable, NotNow
from dispatch.notifications.rules import wait_s
from protocol.codec import wire_time
from protocol.notices import NoticeType
from tests.support.post import Post, posting


@pytest.fixture
async def post(database_url: str) -> AsyncIterator[Post]:
    async with posting(database_url) as made:
        yield made


async def again(post: Post, delivery: UUID) -> float | None:
    """The next try, whatever the clock says: the queue keeps the time, not the sender."""
    return await post.sender.deliver(delivery)


def test_waits_double_with_a_quarter_of_chance_and_honour_what_is_asked_within_bounds() -> None:
    assert [wait_s(n, base_s=1.0, chance=0.5) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert (wait_s(1, base_s=1.0, chance=0.0), wait_s(1, base_s=1.0, chance=1.0)) == (0.75, 1.25)
    assert wait_s(1, base_s=1.0, chance=0.5, asked_s=30.0) == 30.0
    assert wait_s(1, base_s=1.0, chance=0.5, asked_s=86_400.0) == 300.0
    assert wait_s(2, base_s=1.0, chance=0.5, asked_s=0.0) == 2.0


async def test_three_tries_in_all_then_dead_with_the_last_reason(post: Post) -> None:
    delivery = await post.emailed()
    post.doors["email"].refuse_with += [
        NotNow("SMTP 451"),
        ConnectionResetError("10.1.2.3 said no"),
        NotNow("SMTP 452"),
    ]
    assert await again(post, delivery) == 1.0
    assert await post.state(delivery) == ("pending", 1, "SMTP 451")
    assert await again(post, delivery) == 2.0
    assert await post.state(delivery) == ("pending", 2, "ConnectionResetError")
    assert await again(post, delivery) is None
    assert await post.state(delivery) == ("dead", 3, "SMTP 452")
    assert await again(post, delivery) is None
    assert post.doors["email"].taken == []


async def test_what_was_sent_is_not_sent_again(post: Post) -> None:
    delivery = await post.emailed()
    post.doors["email"].refuse_with.append(NotNow("later"))
    assert await again(post, delivery) == 1.0
    for _ in range(3):
        assert await again(post, delivery) is None
    assert await post.state(delivery) == ("sent", 2, None)
    assert len(post.doors["email"].taken) == 1
    assert await again(post, uuid4()) is None, "a delivery that never was"


async def test_a_refusal_for_good_is_dead_at_once(post: Post) -> None:
    delivery = await post.emailed()
    post.doors["email"].refuse_with.append(NeverDeliverable("SMTP 550: recipient refused"))
    assert await again(post, delivery) is None
    assert await post.state(delivery) == ("dead", 1, "SMTP 550: recipient refused")


async def test_what_a_service_asks_to_wait_is_waited_within_bounds(post: Post) -> None:
    delivery = await post.emailed()
    post.doors["email"].refuse_with += [
        NotNow("status 429", after_s=17.0, healthy=True),
        NotNow("status 429", after_s=1e9, healthy=True),
    ]
    assert await again(post, delivery) == 17.0
    assert await again(post, delivery) == 300.0


async def test_an_open_circuit_costs_no_try_and_one_message_probes_it(post: Post) -> None:
    deliveries = [await post.emailed() for _ in range(25)]
    post.doors["email"].refuse_with += [ConnectionRefusedError() for _ in range(5)]
    for delivery in deliveries[:5]:
        assert await again(post, delivery) == 1.0
    assert post.sender.circuits()["email"] is State.OPEN
    assert post.sender.circuits()["sms"] is State.CLOSED
    for _ in range(4):
        wait = await again(post, deliveries[5])
        assert wait is not None and 60 <= wait <= 75
    assert await post.state(deliveries[5]) == ("pending", 0, "the circuit is open")
    post.clock.advance(60)
    assert post.sender.circuits()["email"] is State.HALF_OPEN

    entered, gate = 0, asyncio.Event()

    async def slow(message: Message) -> None:
        nonlocal entered
        entered += 1
        await gate.wait()

    post.doors["email"].send = slow
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(again(post, delivery)) for delivery in deliveries[5:25]]
        while sum(task.done() for task in tasks) < 19:
            await asyncio.sleep(0)
        assert entered == 1, "exactly one of twenty asked"
        gate.set()
    assert sorted(str(task.result() is None) for task in tasks).count("True") == 1
    assert post.sender.circuits()["email"] is State.CLOSED


async def test_refusals_of_one_recipient_open_no_circuit(post: Post) -> None:
    for _ in range(7):
        delivery = await post.emailed()
        post.doors["email"].refuse_with.append(NeverDeliverable("SMTP 550"))
        await again(post, delivery)
    assert post.sender.circuits()["email"] is State.CLOSED


async def test_two_workers_that_look_at_one_delivery_send_one_mail(post: Post) -> None:
    delivery = await post.emailed()
    gate = asyncio.Event()
    door: Recording = post.doors["email"]
    take = door.send

    async def slow(message: Message) -> None:
        await gate.wait()
        await take(message)

    door.send = slow  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(again(post, delivery)) for _ in range(6)]
        while sum(task.done() for task in tasks) < 5:
            await asyncio.sleep(0)
        gate.set()
    waits = [task.result() for task in tasks]
    assert waits.count(None) == 1 and all(wait is None or 0 < wait <= 16 for wait in waits)
    assert len(door.taken) == 1


async def test_a_sender_that_died_in_the_middle_costs_one_try(database_url: str) -> None:
    async with posting(database_url, timeout_s=0.05) as post:
        delivery = await post.emailed()
        claim = await post.sql.fetchrow("SELECT * FROM delivery_claim($1, $2, 0.1, 3)", delivery, uuid4())
        assert claim is not None and claim["word"] == "yours"
        wait = await again(post, delivery)
        assert wait is not None, "somebody has it"
        async with asyncio.timeout(5):
            while await again(post, delivery) is not None:
                await asyncio.sleep(0)
        assert await post.state(delivery) == ("sent", 2, None)


async def test_a_message_that_kills_every_sender_is_given_up(post: Post) -> None:
    delivery = await post.emailed()
    for _ in range(3):
        claim = await post.sql.fetchrow("SELECT * FROM delivery_claim($1, $2, 0, 3)", delivery, uuid4())
        assert claim is not None and claim["word"] == "yours"
    assert await again(post, delivery) is None
    assert await post.state(delivery) == ("dead", 3, "the sender died each time")


async def test_who_lost_his_lease_may_only_say_that_it_was_sent(post: Post) -> None:
    delivery = await post.emailed()
    old, new = uuid4(), uuid4()
    for lease in (old, new):
        await post.sql.fetchrow("SELECT * FROM delivery_claim($1, $2, 0, 3)", delivery, lease)
    settle = "SELECT delivery_settle($1, $2, $3, NULL, '{}', 0, true)"
    assert await post.sql.fetchval(settle, delivery, old, "dead") is False
    assert await post.sql.fetchval(settle, delivery, old, "sent") is True
    assert await post.sql.fetchval(settle, delivery, new, "dead") is False
    assert (await post.state(delivery))[0] == "sent"


async def test_a_service_that_hangs_is_left_after_its_time(database_url: str) -> None:
    async with posting(database_url, timeout_s=0.1) as post:
        delivery = await post.emailed()

        async def hang(message: Message) -> None:
            await asyncio.Event().wait()

        post.doors["email"].send = hang
        assert await again(post, delivery) == 1.0
        assert await post.state(delivery) == ("pending", 1, "no answer within 0.1 s")


async def test_a_push_goes_to_every_device_once_and_forgets_those_that_are_gone(post: Post) -> None:
    user = await post.user()
    for name in ("phone", "tablet", "old"):
        await post.device(user, name)
    await post.write(user, NoticeType.JOB_ACCEPTED, {"job_id": str(uuid4()), "vehicle": "1กก 234", "from": "x"})
    door, trouble = post.doors["fcm"], {"tablet": 1}

    async def by_device(message: Message) -> None:
        name = message.to.address  # type: ignore[union-attr]
        if name == "old":
            raise Gone("FCM does not know the device any more")
        if trouble.get(name):
            trouble[name] -= 1
            raise NotNow("status 503")
        door.taken.append(message)

    door.send = by_device
    row = await post.row(user, "push")
    assert await again(post, row["id"]) == 1.0
    assert await again(post, row["id"]) is None
    assert [message.to.address for message in door.taken] == ["phone", "tablet"]
    assert await post.state(row["id"]) == ("sent", 2, None)
    left = await post.sql.fetch("SELECT address FROM push_devices WHERE user_id = $1 ORDER BY address", user)
    assert [device["address"] for device in left] == ["phone", "tablet"]
    data = door.taken[0].data
    assert data["type"] == "job_accepted" and UUID(data["id"]) and "from" not in data


async def test_what_has_ended_is_sent_no_more_in_whichever_try(post: Post) -> None:
    user = await post.user()
    await post.device(user, "phone")
    for waits in (NotNow("status 503"), None):
        ends = wire_time(post.clock.now() + timedelta(seconds=20))
        await post.write(user, NoticeType.JOB_AVAILABLE, {"job_id": str(uuid4()), "expires_at": ends})
        delivery = (await post.row(user, "push"))["id"]
        if waits is not None:
            post.doors["fcm"].refuse_with.append(waits)
            assert await again(post, delivery) == 1.0
        post.clock.advance(20)
        assert await again(post, delivery) is None
        assert (await post.state(delivery))[::2] == ("skipped", "too late")
        await post.sql.execute("UPDATE notification_deliveries SET status = 'pending' WHERE id = $1", delivery)
        assert await again(post, delivery) is None, "nor when an admin sends it again"
    assert post.doors["fcm"].taken == []
    ends = wire_time(post.clock.now() + timedelta(seconds=20))
    await post.write(user, NoticeType.JOB_AVAILABLE, {"expires_at": ends})
    post.clock.advance(5.5)
    await again(post, (await post.row(user, "push"))["id"])
    await post.write(user, NoticeType.JOB_ACCEPTED)
    await again(post, (await post.row(user, "push"))["id"])
    assert [message.ttl_s for message in post.doors["fcm"].taken] == [14, None]


async def test_a_push_that_reached_one_of_two_devices_is_sent_when_the_tries_are_over(post: Post) -> None:
    user = await post.user()
    await post.device(user, "good")
    await post.device(user, "bad")
    await post.write(user, NoticeType.JOB_ACCEPTED)
    door = post.doors["fcm"]

    async def by_device(message: Message) -> None:
        if message.to.address == "bad":  # type: ignore[union-attr]
            raise NotNow("status 503")
        door.taken.append(message)

    door.send = by_device
    delivery = (await post.row(user, "push"))["id"]
    assert [await again(post, delivery) for _ in range(3)] == [1.0, 2.0, None]
    assert len(door.taken) == 1
    assert await post.state(delivery) == ("sent", 3, "status 503")


async def test_who_has_no_address_no_device_or_no_channel_is_skipped_with_the_reason(database_url: str) -> None:
    async with posting(database_url, {"email": Recording()}) as post:
        post.people.email = None
        user = await post.user()
        await post.write(user, NoticeType.ACCOUNT_SUSPENDED, {"reason": "x"})
        reasons = {}
        for channel in ("push", "email", "sms"):
            delivery = (await post.row(user, channel))["id"]
            assert await again(post, delivery) is None
            status, _, reasons[channel] = await post.state(delivery)
            assert status == "skipped"
        assert reasons == {"push": "no device", "email": "no address", "sms": "no such channel configured"}
        await post.device(user, "phone")
        await post.write(user, NoticeType.JOB_ACCEPTED)
        delivery = (await post.row(user, "push"))["id"]
        await again(post, delivery)
        assert await post.state(delivery) == ("skipped", 1, "no such channel configured")


async def test_all_devices_gone_is_nobody_to_push_to(post: Post) -> None:
    user = await post.user()
    await post.device(user, "old")
    await post.write(user, NoticeType.JOB_ACCEPTED)
    post.doors["fcm"].refuse_with.append(Gone("FCM does not know the device any more"))
    delivery = (await post.row(user, "push"))["id"]
    assert await again(post, delivery) is None
    assert (await post.state(delivery))[0] == "skipped"
    assert await post.sql.fetchval("SELECT count(*) FROM push_devices") == 0


async def test_a_secret_is_put_in_on_the_way_out_and_stored_nowhere(post: Post) -> None:
    user = await post.user(locale="th")
    post.people.told = {"link": "https://a.test/verify?token=s3cr3t", "address": "new@test.invalid"}
    await post.write(user, NoticeType.EMAIL_VERIFICATION)
    await again(post, (await post.row(user, "email"))["id"])
    (mail,) = post.doors["email"].taken
    assert mail.to == "new@test.invalid" and "s3cr3t" in mail.body and mail.link in mail.body
    post.people.told = {"code": "123456"}
    await post.write(user, NoticeType.PHONE_VERIFICATION)
    await again(post, (await post.row(user, "sms"))["id"])
    (text,) = post.doors["sms"].taken
    assert "123456" in text.body and text.to == "+66812345678"
    for table in (
        "notifications",
        "notification_deliveries",
        "events",
        "dispatch_queue.pgqueuer",
        "dispatch_queue.pgqueuer_log",
    ):
        kept = await post.sql.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") or ""
        assert "s3cr3t" not in kept and "123456" not in kept, table
    post.people.told = None
    await post.write(user, NoticeType.PHONE_VERIFICATION)
    delivery = (await post.row(user, "sms"))["id"]
    await again(post, delivery)
    assert await post.state(delivery) == ("skipped", 1, "what it told is of no use any more")


async def test_rescue_gives_a_job_to_what_lost_its_own_and_to_nothing_else(post: Post) -> None:
    deliveries = [await post.emailed() for _ in range(4)]
    assert await post.sender.rescue(after_s=0) == 0, "all have their jobs (and their pushes too)"
    before = await post.jobs()
    await post.sql.execute(
        "DELETE FROM dispatch_queue.pgqueuer WHERE dedupe_key = ANY ($1::text[])",
        [f"delivery:{d}" for d in deliveries[:3]],
    )
    await again(post, deliveries[0])  # sent meanwhile
    await post.sql.fetchrow("SELECT * FROM delivery_claim($1, $2, 60, 3)", deliveries[1], uuid4())  # under way
    assert await post.sender.rescue(after_s=0) == 1
    assert await post.sender.rescue(after_s=0) == 0
    assert await post.jobs() == before - 2
    assert await post.sender.rescue(after_s=3600) == 0


async def test_old_notifications_are_forgotten_in_batches_with_their_deliveries(post: Post) -> None:
    user = await post.user()
    for _ in range(5):
        await post.write(user, NoticeType.ACCOUNT_SUSPENDED)
    await post.sql.execute("UPDATE notifications SET created_at = clock_timestamp() - interval '91 days'")
    await post.write(user, NoticeType.ACCOUNT_REACTIVATED)
    assert [await post.sender.forget(days=90, batch=3) for _ in range(3)] == [3, 2, 0]
    assert await post.sql.fetchval("SELECT count(*) FROM notifications") == 1
    assert await post.sql.fetchval("SELECT count(*) FROM notification_deliveries") == 2


async def test_an_endpoint_that_never_answers_shuts_nobody_elses_push(post: Post) -> None:
    post.sender._doors = {**post.doors, "webpush": Recording()}
    door = post.sender._doors["webpush"]

    async def by_host(message: Message) -> None:
        if "bad." in message.to.address:  # type: ignore[union-attr]
            raise ConnectionRefusedError

    door.send = by_host  # type: ignore[method-assign]
    for host, times in (("bad.test.invalid", 6), ("good.test.invalid", 1)):
        user = await post.user()
        await post.sql.execute(
            "SELECT device_register(gen_random_uuid(), $1, 'webpush', $2, 'k', 'a', NULL, 10)",
            user,
            f"https://{host}/x",
        )
        for _ in range(times):
            await post.write(user, NoticeType.JOB_ACCEPTED)
            await again(post, (await post.row(user, "push"))["id"])
    assert (await post.row(user, "push"))["status"] == "sent"
    circuits = post.sender.circuits()
    assert circuits["webpush"] is State.CLOSED and circuits["webpush bad.test.invalid"] is State.OPEN
