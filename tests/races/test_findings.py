"""The three findings that shaped the accept, each beside the design that it broke: reliability.md, findings 1 to 3.

The broken design is written out here in SQL and Lua and must fail in the way it was seen to; ours must not.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from bench.faults.proxy import Proxy
from tests.support.crowd import check_invariants, crowd, lone_job, offer, outcome, until_final
from tests.support.server import WITHIN_S, Server, serving

NAIVE_ACCEPT = """
  UPDATE jobs SET status = 'accepted', provider_id = $2, provider_user_id = $3, version = version + 1, accepted_at = clock_timestamp()
  WHERE id = $1 AND status = 'offered' AND EXISTS (SELECT FROM offers o WHERE o.job_id = $1 AND o.provider_id = $2 AND o.status = 'live')
    AND EXISTS (SELECT FROM provider_gate g WHERE g.provider_id = $2 AND g.open)"""


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def connect(server: Server) -> "asyncpg.Connection[Any]":
    return await asyncpg.connect(server.settings.database_url, server_settings={"search_path": "dispatch"})


async def until_waiting(server: Server, pid: int) -> None:
    """Until that backend waits for a lock: the order of the race is then certain."""
    async with asyncio.timeout(WITHIN_S):
        while not await server.sql("SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted", pid):
            await asyncio.sleep(0)


async def test_finding_1_postgres_alone_decides(database_url: str, redis_url: str) -> None:
    """With no claim in front: every job at most one provider, every provider at most one job, and nobody told wrongly."""
    async with serving(database_url, redis_url, claims=False) as server:
        racers = await crowd(server, 20)
        jobs = [await lone_job(server) for _ in range(15)]
        offers = [await offer(server, job, racers) for job in jobs]
        answers = await asyncio.gather(
            *(
                until_final(server, racer, job, given[racer.id])
                for job, given in zip(jobs, offers, strict=True)
                for racer in racers
            )
        )
        assert answers.count("accepted") == 15, "more racers than jobs: each job is won"
        await check_invariants(server)


async def test_finding_2_a_retried_set_nx_tells_the_winner_that_he_lost(redis_url: str) -> None:
    """Red: the reply of SET NX is lost, the client sends it again, and Redis says no to the one whose name it holds."""
    async with Proxy(redis_url) as line:
        client = aioredis.Redis.from_url(f"{line.url}", retry=Retry(NoBackoff(), 1), socket_timeout=2.0)
        trap = line.drop_next_reply(b"SET")
        won = await client.set("naive:claim", "me", nx=True)
        assert trap is not None
        assert won is None, "the client was told that somebody else holds it"
        assert await client.get("naive:claim") == b"me", "and it was the client itself"
        await client.aclose()


async def test_finding_2_our_claim_knows_its_owner_when_asked_again(database_url: str, redis_url: str) -> None:
    """Green: the claim's reply is lost in the same way; the accept goes on to the judge and wins, and asking again wins again."""
    async with Proxy(redis_url) as line, serving(database_url, line.url) as server:
        racers = await crowd(server, 2)
        job_id = await lone_job(server)
        offers = await offer(server, job_id, racers)
        line.drop_next_reply(b"claim")
        key = str(uuid4())
        assert await until_final(server, racers[0], job_id, offers[racers[0].id], key=key) == "accepted"
        assert await until_final(server, racers[0], job_id, offers[racers[0].id], key=key) == "accepted"
        assert await until_final(server, racers[1], job_id, offers[racers[1].id]) == "JOB_NOT_AVAILABLE:accepted"
        await check_invariants(server)


async def test_finding_3_exists_inside_the_update_accepts_a_withdrawn_offer(server: Server) -> None:
    """Red: the conditional UPDATE waits for the job row, and then still sees the offer as it was when the statement began."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    await offer(server, job_id, [racer])
    withdrawing, accepting = await connect(server), await connect(server)
    change = withdrawing.transaction()
    await change.start()
    await withdrawing.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job_id)
    await withdrawing.execute("UPDATE offers SET status = 'withdrawn', reason = 'revoked' WHERE job_id = $1", job_id)
    naive = asyncio.create_task(accepting.execute(NAIVE_ACCEPT, job_id, racer.id, racer.actor.user_id))
    await until_waiting(server, accepting.get_server_pid())
    await change.commit()
    assert await naive == "UPDATE 1", "withdrawn and accepted at once"
    await withdrawing.close()
    await accepting.close()


async def test_finding_3_lock_first_then_read_refuses_it(server: Server) -> None:
    """Green: the same order of events against the judge."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    withdrawing = await connect(server)
    change = withdrawing.transaction()
    await change.start()
    await withdrawing.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job_id)
    await withdrawing.execute("UPDATE offers SET status = 'withdrawn', reason = 'revoked' WHERE job_id = $1", job_id)
    ours = asyncio.create_task(until_final(server, racer, job_id, offers[racer.id]))
    await until_any_waiting(server)
    await change.commit()
    assert await ours == "JOB_NOT_AVAILABLE:expired"
    await withdrawing.close()
    await check_invariants(server)


async def test_finding_3_exists_on_the_gate_lets_a_suspended_provider_keep_a_job(server: Server) -> None:
    """Red: the suspension has looked for his jobs and not yet committed; the UPDATE sees the gate open and does not wait."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    await offer(server, job_id, [racer])
    suspending, accepting = await connect(server), await connect(server)
    change = suspending.transaction()
    await change.start()
    await suspending.execute("UPDATE provider_gate SET status = 'suspended' WHERE provider_id = $1", racer.id)
    assert await suspending.fetch("SELECT 1 FROM jobs WHERE provider_id = $1 AND status = 'accepted'", racer.id) == []
    async with asyncio.timeout(WITHIN_S):
        assert await accepting.execute(NAIVE_ACCEPT, job_id, racer.id, racer.actor.user_id) == "UPDATE 1"
    await change.commit()
    kept = await server.sql(
        "SELECT 1 FROM jobs j JOIN provider_gate g ON g.provider_id = j.provider_id WHERE j.status = 'accepted' AND g.status = 'suspended'"
    )
    assert kept, "suspended, with a live job"
    await suspending.close()
    await accepting.close()


async def test_finding_3_the_gate_held_for_share_makes_the_accept_wait(server: Server) -> None:
    """Green: the accept waits for the suspension and is refused by it."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    suspending = await connect(server)
    change = suspending.transaction()
    await change.start()
    await suspending.execute("SELECT 1 FROM provider_gate WHERE provider_id = $1 FOR UPDATE", racer.id)
    await suspending.execute(
        "UPDATE provider_gate SET status = 'suspended', status_ver = status_ver + 1 WHERE provider_id = $1", racer.id
    )
    ours = asyncio.create_task(until_final(server, racer, job_id, offers[racer.id]))
    await until_any_waiting(server)
    await change.commit()
    assert await ours == "PROVIDER_SUSPENDED:suspended"
    await suspending.close()


async def until_any_waiting(server: Server) -> None:
    """Until some request of ours waits for a row lock."""
    async with asyncio.timeout(WITHIN_S):
        while not await server.sql(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dispatch_app' AND wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0)


async def test_a_held_job_row_makes_the_accept_busy_and_not_lost(server: Server) -> None:
    """F9: a lock held for long ends in BUSY within lock_timeout, never in «taken»."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    holder = await connect(server)
    change = holder.transaction()
    await change.start()
    await holder.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job_id)
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, "k")) == "BUSY"
    await change.rollback()
    assert await until_final(server, racer, job_id, offers[racer.id], key="k") == "accepted"
    await holder.close()
