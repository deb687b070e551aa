"""A judge without room to write (F11): nothing is decided and nobody is told a final word; with room again it goes on by itself."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from protocol.lifecycle import Stage
from tests.support.crowd import check_invariants, crowd, lone_job, offer, outcome
from tests.support.server import Server, serving

FULL = """
CREATE FUNCTION public.no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON dispatch.idem FOR EACH ROW EXECUTE FUNCTION public.no_room();
"""
ROOM_AGAIN = "DROP TRIGGER no_room ON dispatch.idem"


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


@pytest.fixture
async def judge(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(database_url)
    yield conn
    await conn.close()


async def test_an_accept_without_room_is_busy_and_then_won(
    server: Server, judge: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    (racer,) = await crowd(server, 1)
    job_id = await lone_job(server)
    offer_id = (await offer(server, job_id, [racer]))[racer.id]
    key = str(uuid4())
    await judge.execute(FULL)
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, 1, key)) == "BUSY"
    assert (await server.sql("SELECT status FROM jobs WHERE id = $1", job_id))[0]["status"] == "offered"
    await judge.execute(ROOM_AGAIN)
    assert await outcome(server.app.claims.accept(racer.actor, job_id, offer_id, 1, key)) == "accepted"
    await check_invariants(server)


async def test_a_phone_without_an_answer_for_want_of_room_asks_again_by_itself(
    server: Server, judge: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone), customer.connected(), asyncio.timeout(30):
        job = await server.request(customer)
        made = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], made["offer_id"], made["round"])
        await judge.execute(FULL)
        moving = asyncio.create_task(phone.advance(job["id"], Stage.ARRIVED))
        while not server.app.door.refused.get("BUSY"):
            assert not moving.done(), "a final no"
            await asyncio.sleep(0.01)
        await judge.execute(ROOM_AGAIN)
        assert (await moving)["job"]["status"] == "arrived"
    await check_invariants(server)
