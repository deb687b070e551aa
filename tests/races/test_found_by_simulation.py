"""What the simulator found, once each, on the real stores. The seeds stand with each test: `python -m bench simulate-faults --seed S`."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from dispatch.accounts import fingerprint_of
from dispatch.claims.model import Ask
from dispatch.kit.ids import derived_id
from protocol.lifecycle import Stage
from tests.support.crowd import check_invariants, crowd, lone_job, offer, outcome
from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_a_job_taken_back_before_its_losers_are_told_is_offered_again(server: Server) -> None:
    """Seed 69: their offers of the old round stayed live, and a job with a live offer is never searched for: it waited for ever."""
    racers = await crowd(server, 3)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, racers)
    won = await server.sql(
        "SELECT (accept_job($1, $2, $3, 1, gen_random_uuid(), NULL, '', false, NULL, 0, NULL, NULL, NULL)).word",
        racers[0].actor.user_id, job_id, offers[racers[0].id],
    )  # fmt: skip
    assert won[0]["word"] == "accepted"
    await server.sql("SELECT jobs_release($1, 'system', NULL, 'system', 'asked for')", job_id)
    left = await server.sql("SELECT status, reason FROM offers WHERE job_id = $1 AND status <> 'accepted'", job_id)
    assert [(row["status"], row["reason"]) for row in left] == [("withdrawn", "taken")] * 2
    again = await crowd(server, 1)
    assert set(await offer(server, job_id, again, round=2)) == {again[0].id}, "the next round can be made"


async def test_a_second_accept_of_ones_own_job_is_answered_alike_for_ever(server: Server) -> None:
    """Seed 2: under a second key he was told the job as it stood, and later, asking again, as it stood then (I10)."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    first, second = str(uuid4()), str(uuid4())
    accept = server.app.claims.accept
    await accept(racer.actor, job_id, offers[racer.id], 1, first)
    told = await accept(racer.actor, job_id, offers[racer.id], 1, second)
    await server.app.jobs.advance(racer.actor, job_id, Stage.ARRIVED, key=None)
    assert (await accept(racer.actor, job_id, offers[racer.id], 1, second)).job == told.job
    await check_invariants(server)


async def test_an_accept_whose_reply_was_lost_is_answered_as_it_was_committed(server: Server) -> None:
    """Seed 92: found by the row after its trip had begun, it was told as it stood; asked again, as it was committed (I10)."""
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offers = await offer(server, job_id, [racer])
    key, user = str(uuid4()), racer.actor.user_id
    told = await server.app.claims.accept(racer.actor, job_id, offers[racer.id], 1, key)
    await server.app.jobs.advance(racer.actor, job_id, Stage.ARRIVED, key=None)
    body = fingerprint_of("claims.accept", {"job_id": job_id, "offer_id": offers[racer.id], "round": 1})
    ask = Ask(user, job_id, offers[racer.id], 1, derived_id(user, key), key, body)
    found = await server.app.claims._settle_unknown(ask)
    assert found["word"] == "accepted"
    assert found["job"] == told.job


async def test_one_key_for_two_jobs_at_once_is_good_for_one(server: Server) -> None:
    """Seed 1022: the second body, come while the first was at work on the same worker, was told the first one's answer (I10)."""
    (racer,) = await crowd(server, 1)
    jobs = [await lone_job(server), await lone_job(server)]
    offers = [(await offer(server, job_id, [racer]))[racer.id] for job_id in jobs]
    key = str(uuid4())
    answers = await asyncio.gather(
        *(
            outcome(server.app.claims.accept(racer.actor, job, made, 1, key))
            for job, made in zip(jobs, offers, strict=True)
        )
    )
    assert answers == ["accepted", "IDEMPOTENCY_KEY_REUSED"]
    await check_invariants(server)
