"""Lines that break under the judge: executed or not, nobody is told wrongly, and asking again tells."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from bench.faults.proxy import Proxy
from protocol.lifecycle import Stage
from tests.support.crowd import check_invariants, crowd, lone_job, offer, outcome, until_final
from tests.support.server import Server, serving


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
async def server(line: Proxy, redis_url: str) -> AsyncIterator[Server]:
    async with serving(line.url, redis_url) as running:
        yield running


async def test_a_commit_whose_reply_is_lost_is_found_and_told(server: Server, line: Proxy) -> None:
    """Executed, reply dropped: the row says accepted, so he is told accepted, by the same call."""
    racers = await crowd(server, 2)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, racers)
    line.drop_next_reply(b"accept_job")
    key = str(uuid4())
    assert await outcome(server.app.claims.accept(racers[0].actor, job_id, offers[racers[0].id], 1, key)) == "accepted"
    assert await until_final(server, racers[0], job_id, offers[racers[0].id], key=key) == "accepted"
    assert await until_final(server, racers[1], job_id, offers[racers[1].id]) == "JOB_NOT_AVAILABLE:accepted"
    await check_invariants(server)
    events = await server.sql("SELECT name FROM events WHERE user_id = $1 ORDER BY seq", racers[0].actor.user_id)
    assert [row["name"] for row in events] == ["offer.created", "offer.withdrawn", "job.updated"], "once, not twice"


async def test_a_repeat_whose_reply_is_lost_gets_the_kept_answer(server: Server, line: Proxy) -> None:
    """The job has moved on since; the same request id is answered as it was the first time (I10)."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offer_id = (await offer(server, job_id, [racer]))[racer.id]
    key = str(uuid4())
    first = await server.app.claims.accept(racer.actor, job_id, offer_id, 1, key)
    await server.app.jobs.advance(racer.actor, job_id, Stage.ARRIVED, key=str(uuid4()))
    trap = line.drop_next_reply(b"accept_job")
    again = await server.app.claims.accept(racer.actor, job_id, offer_id, 1, key)
    assert trap.reached.is_set()
    assert again.job == first.job


async def test_a_lost_reply_to_another_body_is_no_yes(server: Server, line: Proxy) -> None:
    """His job, won under this request id by another body: the answer that was lost was a no, and is told when he asks again."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offer_id = (await offer(server, job_id, [racer]))[racer.id]
    key = str(uuid4())
    await server.app.claims.accept(racer.actor, job_id, offer_id, 1, key)
    trap = line.drop_next_reply(b"accept_job")
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, None, key)) == "BUSY"
    assert trap.reached.is_set()
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, None, key)) == "IDEMPOTENCY_KEY_REUSED"


async def test_a_line_on_which_postgres_said_its_last_words_is_busy(server: Server, line: Proxy) -> None:
    """Between a dying server's last message and the end of the line a call finds neither: nothing was asked, so ask again."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offer_id = (await offer(server, job_id, [racer]))[racer.id]
    said = b"SFATAL\0VFATAL\0C57P02\0Mterminating connection because of crash of another server process\0\0"
    for one in line.lines:
        assert one.client.transport is not None
        one.client.transport.write(b"E" + (len(said) + 4).to_bytes(4, "big") + said)
    key = str(uuid4())
    answers = set()
    while (answer := await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, 1, key))) == "BUSY":
        answers.add(answer)
        line.cut()
    assert (answers, answer) == ({"BUSY"}, "accepted")


async def test_a_statement_that_never_arrived_is_busy_and_then_won(server: Server, line: Proxy) -> None:
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    line.cut_before(b"accept_job")
    key = str(uuid4())
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, key)) == "BUSY"
    assert (await server.sql("SELECT status FROM jobs WHERE id = $1", job_id))[0]["status"] == "offered"
    assert await until_final(server, racer, job_id, offers[racer.id], key=key) == "accepted"
    await check_invariants(server)


async def test_postgres_away_after_the_commit_is_busy_never_taken(server: Server, line: Proxy) -> None:
    """The reply is lost and nobody can be asked whose it is: no word but BUSY is true. Healed, the same id finds it his."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    line.drop_next_reply(b"accept_job")
    line.cut_before(b"FROM jobs j WHERE j.id = $1 FOR UPDATE")
    key = str(uuid4())
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, key)) == "BUSY"
    assert await until_final(server, racer, job_id, offers[racer.id], key=key) == "accepted"
    await check_invariants(server)


async def test_a_line_that_breaks_between_two_messages_is_unknown_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg has a class of its own for it, beside all others: seen when Postgres was killed under load."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    executed, broken = asyncpg.Connection.fetchrow, []

    async def fetchrow(self: Any, query: str, *args: Any, **given: Any) -> Any:
        row = await executed(self, query, *args, **given)
        if "accept_job(" in query and not broken:
            broken.append(query)
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
        return row

    monkeypatch.setattr(asyncpg.Connection, "fetchrow", fetchrow)
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, "key")) == "accepted"
    assert broken
    await check_invariants(server)


async def test_the_facts_of_a_lost_reply_reach_the_people(server: Server, line: Proxy) -> None:
    """Committed, and the worker never heard of it: the relay finds the events, nobody waits for a hint."""
    customer = await server.person()
    async with server.working() as (driver, phone), customer.connected():
        job = await server.request(customer)
        offer_made = (await driver.inbox.named("offer.created")).data
        line.drop_next_reply(b"accept_job")
        won = await phone.accept(job["id"], offer_made["offer_id"], offer_made["round"])
        assert won["job"]["status"] == "accepted"
        await customer.inbox.named("job.accepted")
        await driver.inbox.status(job["id"], "accepted")
    await check_invariants(server)


async def test_accepts_go_on_while_redis_is_away(database_url: str, redis_url: str) -> None:
    async with Proxy(redis_url) as redis_line, serving(database_url, redis_line.url) as server:
        racers = await crowd(server, 10)
        job_id = await lone_job(server)
        offers = await offer(server, job_id, racers)
        redis_line.refuse()
        answers = [await until_final(server, racer, job_id, offers[racer.id]) for racer in racers]
        assert sorted(answers) == sorted(["accepted"] + ["JOB_NOT_AVAILABLE:accepted"] * 9)
        await check_invariants(server)


async def test_a_job_finds_its_provider_while_redis_is_away(database_url: str, redis_url: str) -> None:
    """Searches fall back on the sockets of this worker, events on the heads' poll: slower, and nothing is lost."""
    async with Proxy(redis_url) as redis_line, serving(database_url, redis_line.url) as server:
        customer = await server.person()
        async with server.working() as (driver, phone), customer.connected():
            redis_line.refuse()
            job = await server.request(customer)
            made = (await driver.inbox.named("offer.created")).data
            await phone.accept(job["id"], made["offer_id"], made["round"])
            await customer.inbox.named("job.accepted")
            assert customer.inbox.events[-1].seq == len(customer.inbox.events)
