"""Nothing promised is lost: resume from the copy, from Postgres, by snapshot; across workers, flushes and lost hints. I6."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from bench.faults.proxy import Proxy
from dispatch.inbox import keys
from dispatch.inbox import store as inbox_store
from tests.support.server import WITHIN_S, Person, Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, workers=2) as running:
        yield running


async def tell(server: Server, person: Person, count: int, *, worker: int = 0, size: int = 2) -> None:
    """Commit `count` events for this person and deliver them on a worker, as a use case does."""
    app = server.apps[worker]
    async with app.pg.system_tx() as tx:
        facts = await inbox_store.append(
            tx, [(person.user_id, "test.told", b'{"n":%d,"pad":"%s"}' % (n, b"x" * size)) for n in range(count)]
        )
    app.inbox.deliver(facts)


async def silently(server: Server, person: Person, count: int, *, size: int = 2) -> None:
    """Commit events and deliver nothing: as when the worker dies after its commit."""
    async with server.app.pg.system_tx() as tx:
        await inbox_store.append(
            tx, [(person.user_id, "test.told", b'{"n":%d,"pad":"%s"}' % (n, b"x" * size)) for n in range(count)]
        )


def sequence(person: Person) -> list[int]:
    return [event.seq for event in person.inbox.events]


async def upto(person: Person, seq: int) -> None:
    await person.inbox.until(lambda: person.inbox.events and person.inbox.events[-1].seq >= seq)


async def test_events_committed_on_another_worker_arrive(server: Server) -> None:
    person = await server.person()
    async with person.connected(worker=1):
        await tell(server, person, 5, worker=0)
        await upto(person, 5)
    assert sequence(person) == [1, 2, 3, 4, 5]


async def test_events_whose_hint_was_lost_are_found_by_the_relay(server: Server) -> None:
    person = await server.person()
    async with person.connected():
        await silently(server, person, 7)
        await upto(person, 7)
    assert sequence(person) == list(range(1, 8))
    assert server.app.inbox.caught_up >= 7


async def test_a_device_that_was_away_gets_what_it_missed_and_nothing_twice(server: Server) -> None:
    person = await server.person()
    async with person.connected(worker=0) as phone:
        await tell(server, person, 3)
        await upto(person, 3)
        session, attempt = phone.session, phone.attempt
    await tell(server, person, 4, worker=1)
    async with person.connected(worker=1, session=session, attempt=attempt):
        await upto(person, 7)
    assert sequence(person) == list(range(1, 8))
    assert len(person.inbox.snapshots) == 1, "only the first hello had nothing to resume from"


@pytest.mark.parametrize("flush", [False, True])
async def test_resume_is_the_same_from_the_copy_and_from_postgres(server: Server, flush: bool) -> None:
    person = await server.person()
    async with person.connected() as phone:
        await tell(server, person, 2)
        await upto(person, 2)
        session, attempt = phone.session, phone.attempt
    await tell(server, person, 20)
    async with asyncio.timeout(WITHIN_S):
        while await server.app.redis.plain.hget(keys.meta(person.user_id), "top") != b"22":
            await asyncio.sleep(0)
    if flush:
        await server.app.redis.plain.execute_command("FLUSHALL")
    async with person.connected(session=session, attempt=attempt):
        await upto(person, 22)
    assert sequence(person) == list(range(1, 23))
    assert len(person.inbox.snapshots) == 1


async def test_more_than_512_missing_events_become_a_snapshot(server: Server) -> None:
    person = await server.person()
    async with person.connected() as phone:
        session, attempt = phone.session, phone.attempt
    await silently(server, person, 513)
    async with person.connected(session=session, attempt=attempt):
        assert person.inbox.snapshots[-1].seq == 513
    assert sequence(person) == []


async def test_more_than_128_kib_missing_become_a_snapshot(server: Server) -> None:
    person = await server.person()
    async with person.connected() as phone:
        session, attempt = phone.session, phone.attempt
    await silently(server, person, 20, size=7_000)
    async with person.connected(session=session, attempt=attempt):
        assert person.inbox.snapshots[-1].seq == 20


async def test_what_is_old_goes_however_much_somebody_has_of_it(server: Server) -> None:
    people = [await server.person() for _ in range(5)]
    for number, person in enumerate(people):
        async with person.connected():
            pass
        await silently(server, person, 3 + 4 * number)
    await server.sql(
        "UPDATE events SET at = at - interval '8 days' WHERE seq <= 4 * (user_id <> $1)::int + 2", people[4].user_id
    )
    counts = "SELECT count(*) AS n FROM events WHERE at < clock_timestamp() - interval '7 days'"
    old = (await server.sql(counts))[0]["n"]
    young = (await server.sql("SELECT count(*) AS n FROM events"))[0]["n"] - old
    assert await server.app.inbox.forget_events(days=7, users=2, each=2) == old > 10
    assert (await server.sql(counts))[0]["n"] == 0
    assert (await server.sql("SELECT count(*) AS n FROM events"))[0]["n"] == young


async def test_history_that_is_gone_becomes_a_snapshot(server: Server) -> None:
    person = await server.person()
    async with person.connected() as phone:
        await tell(server, person, 1)
        await upto(person, 1)
        session, attempt = phone.session, phone.attempt
    await silently(server, person, 10)
    await server.sql("UPDATE events SET at = at - interval '8 days' WHERE user_id = $1 AND seq <= 5", person.user_id)
    assert await server.app.inbox.forget_events(days=7) == 5
    async with person.connected(session=session, attempt=attempt):
        assert person.inbox.snapshots[-1].seq == 11


async def test_an_operators_restored_history_has_another_epoch_and_becomes_a_snapshot(server: Server) -> None:
    person = await server.person()
    async with person.connected() as phone:
        await tell(server, person, 3)
        await upto(person, 3)
        session, attempt = phone.session, phone.attempt
    await server.sql("UPDATE history SET epoch = 'restored'")
    async with person.connected(session=session, attempt=attempt):
        assert person.inbox.snapshots[-1].epoch == "restored"


async def test_what_is_not_acked_is_repeated_and_what_is_acked_is_not(server: Server) -> None:
    person = await server.person()
    async with person.connected() as phone:
        await tell(server, person, 3)
        await upto(person, 3)
        seat = server.app.inbox.seats_of(person.user_id)[0]
        async with asyncio.timeout(WITHIN_S):
            while seat.session.acked_seq < 3:
                await asyncio.sleep(0)
        before = server.app.inbox.repeated
        await server.app.inbox.repeat()
        assert server.app.inbox.repeated == before, "all acked: nothing to repeat"
        assert phone.live.is_set()


async def test_acks_are_written_down_and_never_go_back(server: Server) -> None:
    person = await server.person()
    async with person.connected():
        await tell(server, person, 4)
        await upto(person, 4)
        async with asyncio.timeout(WITHIN_S):
            while not await server.sql(
                "SELECT 1 FROM inbox_marks WHERE user_id = $1 AND acked_seq = 4", person.user_id
            ):
                await asyncio.sleep(0)
    server.app.inbox._acks[person.user_id] = 2
    await server.app.inbox.flush_acks()
    assert (await server.sql("SELECT acked_seq FROM inbox_marks WHERE user_id = $1", person.user_id))[0][
        "acked_seq"
    ] == 4


async def test_the_copy_catches_up_after_redis_was_away(database_url: str, redis_url: str) -> None:
    async with Proxy(redis_url) as line, serving(database_url, line.url) as server:
        person = await server.person()
        async with person.connected():
            await tell(server, person, 2)
            await upto(person, 2)
            line.refuse()
            await tell(server, person, 3)
            await upto(person, 5)
            line.heal()
            async with asyncio.timeout(WITHIN_S):
                while await _top(server, person) != b"6":
                    if len(person.inbox.events) < 6 and server.app.redis.reachable:
                        await tell(server, person, 1)
                        await upto(person, 6)
                    await asyncio.sleep(0)
        assert sequence(person) == [1, 2, 3, 4, 5, 6]


async def _top(server: Server, person: Person) -> bytes | None:
    from dispatch.kit.redis import DOWN

    try:
        top: bytes | None = await server.app.redis.plain.hget(keys.meta(person.user_id), "top")
        return top
    except DOWN:
        return None


async def test_a_provider_has_one_device_and_others_have_five(server: Server) -> None:
    provider = await server.provider()
    async with provider.connected(device="old") as old, provider.connected(device="new", worker=1):
        async with asyncio.timeout(WITHIN_S):
            await old.closed.wait()
        assert old.close_code == 4410
    person = await server.person()
    async with person.connected(device="d0") as first:
        from contextlib import AsyncExitStack

        async with AsyncExitStack() as stack:
            for number in range(1, 6):
                await stack.enter_async_context(person.connected(device=f"d{number}", worker=number % 2))
            async with asyncio.timeout(WITHIN_S):
                await first.closed.wait()
            assert first.close_code == 4410


async def test_the_same_device_with_a_later_attempt_replaces_the_earlier(server: Server) -> None:
    person = await server.person()
    async with person.connected(device="d", attempt=5) as earlier, person.connected(device="d", attempt=6, worker=1):
        async with asyncio.timeout(WITHIN_S):
            await earlier.closed.wait()
        assert earlier.close_code == 4409


async def test_a_lost_order_to_close_is_noticed_by_the_poll(server: Server) -> None:
    person = await server.provider()
    async with person.connected(device="d", worker=0) as client:
        await server.sql(
            "UPDATE sockets SET conn_id = $2, device = 'other' WHERE user_id = $1", person.user_id, uuid4()
        )
        async with asyncio.timeout(WITHIN_S):
            await client.closed.wait()
        assert client.close_code == 4410


async def test_a_worker_that_was_taken_for_dead_asks_its_phones_back(server: Server) -> None:
    """Buried while it could not beat, and alive: its phones are told to come back, which they do by themselves, and not that another
    device took their place, after which they would stay away.
    """
    provider = await server.provider()
    async with provider.connected(device="d", worker=0) as client:
        (row,) = await server.sql(
            "WITH dead AS (UPDATE workers SET beat_at = beat_at - interval '1 min' WHERE id = $1) "
            "UPDATE sockets SET lost_at = clock_timestamp() WHERE user_id = $2 RETURNING conn_id",
            server.app.inbox.worker_id,
            provider.user_id,
        )
        async with asyncio.timeout(WITHIN_S):
            while client.welcomes < 2:
                assert not client.closed.is_set(), f"it stays away after {client.close_code}"
                await asyncio.sleep(0.01)
        (now,) = await server.sql("SELECT conn_id, lost_at FROM sockets WHERE user_id = $1", provider.user_id)
        assert now["conn_id"] != row["conn_id"] and now["lost_at"] is None


async def test_the_same_device_elsewhere_is_what_a_lost_order_was_about(server: Server) -> None:
    person = await server.provider()
    async with person.connected(device="d", worker=0) as client:
        await server.sql("UPDATE sockets SET conn_id = $2 WHERE user_id = $1", person.user_id, uuid4())
        async with asyncio.timeout(WITHIN_S):
            await client.closed.wait()
        assert client.close_code == 4409


async def test_a_blocked_user_is_closed_and_not_let_in_again(server: Server) -> None:
    person = await server.person()
    async with person.connected() as client:
        await server.sql("UPDATE users SET blocked_at = now() WHERE id = $1", person.user_id)
        async with asyncio.timeout(WITHIN_S):
            await client.closed.wait()
        assert client.close_code == 4403
