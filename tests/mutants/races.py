"""Attacks on the judge's own statements, which only a real Postgres can lose: each makes one dangerous order of events certain by
holding a row that both sides need last, and leaves a history to be judged.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from bench.faults.history import History, Op
from bench.faults.reads import final
from dispatch.kit.errors import DispatchError
from protocol.lifecycle import AdminAction
from tests.support.crowd import Racer, crowd, lone_job, offer
from tests.support.server import WITHIN_S, Server

Attack = Callable[[Server], Awaitable[History]]


class Recorder:
    """Ops of callers who use the services directly."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ops: list[Op] = []

    async def accept(
        self, racer: Racer, job: UUID, offer_id: UUID | None, round: int | None, *, worker: int = 0
    ) -> None:
        """Once; BUSY stays undecided."""
        user, key = str(racer.actor.user_id), str(uuid4())
        op = Op(at=time.time_ns(), client=user, user=user, kind="accept", key=key, job=str(job), round=round or 0)
        self.ops.append(op)
        try:
            won = await self.server.apps[worker].claims.accept(racer.actor, job, offer_id, round, key)
        except DispatchError as refusal:
            op.word = str(refusal.details.get("status", refusal.code))
        except Exception as error:  # noqa: BLE001 (a 500 to a client: nothing is known)
            op.word = "INTERNAL_ERROR"
            op.answer = repr(error)
        else:
            op.word, op.told_round = "ok", orjson.loads(won.job)["round"]
        op.done = time.time_ns()

    async def suspend(self, racer: Racer) -> None:
        """By the office."""
        admin = await self.server.admin()
        op = Op(
            at=time.time_ns(), client="office", user=str(admin.user_id), kind="suspend", key=str(uuid4()), target=str(racer.actor.user_id)
        )  # fmt: skip
        self.ops.append(op)
        await admin.http.provider_action(racer.id, AdminAction.SUSPEND, reason="attack")
        op.word, op.done = "ok", time.time_ns()

    async def history(self) -> History:
        conn = await asyncpg.connect(self.server.settings.database_url)
        try:
            return History(ops=self.ops, final=await final(conn))
        finally:
            await conn.close()


@asynccontextmanager
async def holding(server: Server, query: str, *args: object) -> AsyncIterator[None]:
    """A row lock of somebody else, until the end of the block."""
    conn: asyncpg.Connection[Any] = await asyncpg.connect(
        server.settings.database_url, server_settings={"search_path": "dispatch"}
    )
    try:
        async with conn.transaction():
            await conn.execute(query, *args)
            yield
    finally:
        await conn.close()


async def waiting(server: Server, count: int) -> None:
    """Until so many statements of the server wait for a row, or as many as can have come to their end."""
    async with asyncio.timeout(WITHIN_S):
        while (
            await server.sql(
                "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name LIKE 'dispatch_%' AND wait_event_type = 'Lock' AND datname = current_database()"
            )
        )[0]["n"] < count:
            await asyncio.sleep(0.005)


HEAD = "SELECT 1 FROM inbox_head WHERE user_id = $1 FOR UPDATE"


async def suspension_against_accept(server: Server) -> History:
    """The office has looked for his jobs and is about to commit; his accept is about to commit too."""
    (racer,) = await crowd(server, 1)
    job = await lone_job(server)
    given = await offer(server, job, [racer])
    recorder = Recorder(server)
    async with asyncio.TaskGroup() as group, holding(server, HEAD, racer.actor.user_id):
        group.create_task(recorder.suspend(racer))
        await waiting(server, 1)
        group.create_task(recorder.accept(racer, job, given[racer.id], 1))
        await waiting(server, 2)
    return await recorder.history()


async def two_jobs_at_once(server: Server) -> History:
    """The same provider by way of two workers: both have seen that he is free before either has committed."""
    (racer,) = await crowd(server, 1)
    jobs = [await lone_job(server) for _ in range(2)]
    given = [await offer(server, job, [racer]) for job in jobs]
    recorder = Recorder(server)
    async with asyncio.TaskGroup() as group, holding(server, HEAD, racer.actor.user_id):
        for worker, (job, offers) in enumerate(zip(jobs, given, strict=True)):
            group.create_task(recorder.accept(racer, job, offers[racer.id], 1, worker=worker))
        await waiting(server, 2)
    return await recorder.history()


async def late_accept_of_an_old_round(server: Server) -> History:
    """His round has lapsed and the job stands in the next one, offered to somebody else."""
    late, rival = await crowd(server, 2)
    job = await lone_job(server)
    old = await offer(server, job, [late], ttl_s=0.001)
    async with asyncio.timeout(WITHIN_S):
        while not await server.sql("SELECT 1 FROM jobs WHERE id = $1 AND offer_deadline < clock_timestamp()", job):
            await asyncio.sleep(0.005)
    await server.sql("SELECT offers_lapse($1)", job)
    await server.sql("UPDATE jobs SET next_search_at = expires_at WHERE id = $1", job)
    await offer(server, job, [rival], round=1)
    recorder = Recorder(server)
    await recorder.accept(late, job, old[late.id], 1)
    await recorder.accept(late, job, old[late.id], None)
    return await recorder.history()
