"""Postgres is killed while accepts are being answered, and started again: whoever was told yes must still have his job."""

import asyncio
from pathlib import Path

import asyncpg

from bench.chaos.stores import Judge
from bench.faults.history import History
from bench.faults.reads import final
from dispatch.kit.migrate import migrate
from tests.mutants.races import Recorder
from tests.support.crowd import crowd, lone_job, offer
from tests.support.server import WITHIN_S, serving
from tests.support.stores import MIGRATIONS

JOBS = 120
ANSWERED = 40
"""So many have their yes when it happens."""
ASYNCHRONOUS = (
    "ALTER DATABASE dispatch SET synchronous_commit = off",
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
)
"""A commit is answered before it is on disk, and nothing else writes it there soon."""


async def killed_while_answering(folder: Path, redis_url: str, mistakes: tuple[str, ...] = ()) -> History:
    """The history of one such death."""
    data, logs = folder / "data", folder / "logs"
    data.mkdir()
    logs.mkdir()
    judge = Judge(data, logs, lambda _: None)
    await judge.start()
    try:
        await migrate(judge.url, MIGRATIONS)
        conn = await judge.connect()
        for mistake in mistakes:
            await conn.execute(mistake)
        await conn.execute("SELECT pg_reload_conf()")
        await conn.close()
        async with serving(judge.url, redis_url, pool_size=4) as server:
            racers = await crowd(server, JOBS)
            jobs = [await lone_job(server) for _ in racers]
            given = [await offer(server, job, [racer]) for job, racer in zip(jobs, racers, strict=True)]
            # What was made until now is on disk: only the accepts are at stake.
            conn = await judge.connect()
            await conn.execute("SET synchronous_commit = on")
            await conn.execute("CREATE TABLE flushed ()")
            await conn.close()
            recorder = Recorder(server)
            gate = asyncio.Semaphore(4)

            async def one(number: int) -> None:
                async with gate:
                    await recorder.accept(racers[number], jobs[number], given[number][racers[number].id], 1)

            tasks = [asyncio.create_task(one(number)) for number in range(JOBS)]
            async with asyncio.timeout(WITHIN_S):
                while sum(op.word == "ok" for op in recorder.ops) < ANSWERED:
                    await asyncio.sleep(0)
            await judge.kill()
            await asyncio.gather(*tasks)
            await judge.start()  # the server leaves in order, too
        conn = await asyncpg.connect(judge.url)
        try:
            return History(ops=recorder.ops, final=await final(conn))
        finally:
            await conn.close()
    finally:
        await judge.leave()
