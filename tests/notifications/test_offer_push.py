"""An offer that the phone has not acked in five seconds is also pushed, once. X41, NTF-05, property 36 for the push."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from protocol.codec import wire_time
from tests.support.crowd import crowd, lone_job, offer
from tests.support.gateways import Gateways, gateways
from tests.support.server import WITHIN_S, Server, serving


@pytest.fixture
async def double() -> AsyncIterator[Gateways]:
    async with gateways() as made:
        yield made


@pytest.fixture
async def server(database_url: str, redis_url: str, double: Gateways) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, workers=2, **double.settings("push")) as running:
        yield running


async def with_device(server: Server, user: UUID, token: str) -> None:
    await server.sql("SELECT device_register(gen_random_uuid(), $1, 'fcm', $2, NULL, NULL, NULL, 10)", user, token)


async def test_an_offer_nobody_acked_is_pushed_once_and_only_to_those_it_was_offered(
    server: Server, double: Gateways
) -> None:
    """Feature: provider-system-redesign, Property 36: by push, to the eligible and to nobody else."""
    deaf, hears, phoneless, other = await crowd(server, 4)
    for racer, token in ((deaf, "deaf"), (hears, "hears"), (other, "other")):
        await with_device(server, racer.actor.user_id, token)
    job = await lone_job(server)
    await offer(server, job, [deaf, hears, phoneless])
    await server.sql(
        "INSERT INTO inbox_marks (user_id, acked_seq) SELECT user_id, seq FROM inbox_head WHERE user_id = $1 "
        "ON CONFLICT (user_id) DO UPDATE SET acked_seq = excluded.acked_seq",
        hears.actor.user_id,
    )
    assert await server.app.nudges.turn(after_s=60.0) == 0, "too early"
    pushed = await asyncio.gather(*(app.nudges.turn(after_s=0.0) for app in server.apps for _ in range(3)))
    assert sum(pushed) == 1
    async with asyncio.timeout(WITHIN_S):
        while not double.fcm:
            await asyncio.sleep(0.01)
    (message,) = double.fcm
    assert message["token"] == "deaf" and message["data"]["job_id"] == str(job)
    assert message["data"]["type"] == "job_available" and message["android"]["priority"] == "HIGH"
    (ends,) = await server.sql("SELECT expires_at FROM offers WHERE job_id = $1 LIMIT 1", job)
    assert message["data"]["expires_at"] == wire_time(ends["expires_at"])
    assert 0 <= int(message["android"]["ttl"].removesuffix("s")) < 600, "the service keeps it no longer than the offer"
    assert await server.app.nudges.turn(after_s=0.0) == 0


async def test_an_offer_that_ended_is_pushed_no_more(server: Server, double: Gateways) -> None:
    (racer,) = await crowd(server, 1)
    await with_device(server, racer.actor.user_id, "t")
    job = await lone_job(server)
    await offer(server, job, [racer])
    await server.sql("UPDATE offers SET status = 'withdrawn' WHERE job_id = $1", job)
    assert await server.app.nudges.turn(after_s=0.0) == 0


async def test_the_loop_pushes_within_ten_seconds(server: Server, double: Gateways) -> None:
    (racer,) = await crowd(server, 1)
    await with_device(server, racer.actor.user_id, "t")
    await offer(server, await lone_job(server), [racer], ttl_s=60.0)
    async with asyncio.timeout(WITHIN_S):
        while not double.fcm:
            await asyncio.sleep(0.05)
