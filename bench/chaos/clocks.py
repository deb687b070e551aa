"""Faults of clocks: a process dies and comes back with a wrong one. Each says what it calls met, as all `blows` do."""

import asyncio
import random
import time
from pathlib import Path

from bench.chaos.asking import now_ns
from bench.chaos.nemesis import Nemesis, Skipped, name_of
from bench.chaos.plan import Planned

SHIFTS_S = (3600.0, -3600.0)
CLOSE_S = 5.0
"""A clock that is an hour off may be told so much later."""
FAKETIME = (
    "usr/lib/*/faketime/libfaketimeMT.so.1",
    "usr/lib*/faketime/libfaketimeMT.so.1",
    "usr/local/lib/faketime/libfaketimeMT.so.1",
)


def fake_time(shift_s: float) -> tuple[str, ...]:
    """Words before a command that put its wall clock off. The monotonic one stays true: event loops sleep by it. Raises Skipped."""
    library = next((path for pattern in FAKETIME for path in sorted(Path("/").glob(pattern))), None)
    if library is None:
        raise Skipped("libfaketime is not installed")
    return (
        "/usr/bin/env",
        f"LD_PRELOAD={library}",
        f"FAKETIME={shift_s:+.3f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "FAKETIME_DISABLE_SHM=1",
    )


async def clock_worker(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """A worker dies and comes back with a wrong clock. Met are the most requests that the wrong clock judged at any look, their tokens
    among what it judged; where the clock is right all the same, nobody.
    """
    node = nemesis.node(dice)
    shift_s = dice.choice((*SHIFTS_S, 0.4, -0.4))
    prefix = fake_time(shift_s)
    async with nemesis.lock(name_of(node)):
        await nemesis.aim(lambda: nemesis.calls_at(node))
        met = 0
        try:
            await node.worker.kill_all()
            await node.worker.start(prefix)
            await node.worker.ready()
            pid, until = node.worker.pid, time.monotonic() + planned.length_s
            wrong = pid is not None and b"libfaketime" in Path(f"/proc/{pid}/maps").read_bytes()
            while time.monotonic() < until:
                await asyncio.sleep(0.02)
                met = max(met, nemesis.city.in_flight(node.worker.number) if wrong else 0)
        finally:
            await node.worker.kill_all()
            await node.worker.start()
        await node.worker.ready()
    return f"{name_of(node)}, {shift_s:+g} s", met


async def clock_redis(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the keys with a time to live, which by this clock are an hour overdue or live an hour too long; nobody, if the clock
    that Redis tells is right all the same.
    """
    shift_s = dice.choice(SHIFTS_S)
    prefix = fake_time(shift_s)
    hurry = nemesis.cluster.hurry
    async with nemesis.lock("redis"):
        if not await hurry.runs_under(prefix):
            raise Skipped(f"{hurry.build} does not start under libfaketime")
        client = hurry.client()
        try:
            mortal = sum(int(found["expires"]) for found in (await client.info("keyspace")).values())
            at = now_ns()
            await hurry.kill()
            await hurry.start(prefix)
            nemesis.marks.redis_dead.append((at, now_ns()))
            told_s, _ = await client.time()
            met = mortal if abs(told_s - time.time() - shift_s) < CLOSE_S else 0
            await asyncio.sleep(planned.length_s)
        finally:
            await client.aclose()
            await hurry.kill()
            await hurry.start()
    return f"redis, {shift_s:+g} s", met


STAMPED = "SELECT count(*) FROM job_events WHERE at >= $1"


async def clock_postgres(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """0.4 s only: what the judge's clock says is what the judges of the run compare with. Met are the steps of jobs that it stamped; nobody,
    if the clock that Postgres tells is right all the same.
    """
    shift_s = dice.choice((0.4, -0.4))
    prefix = fake_time(shift_s)
    judge = nemesis.cluster.judge
    async with nemesis.lock("postgres"):
        try:
            await judge.quit()
            await judge.start(prefix)
            conn = await judge.connect()
            try:
                began_s = time.time()
                since = await conn.fetchval("SELECT clock_timestamp()")
                off_s = since.timestamp() - began_s
                # The question took a while, by which it looks later than it is.
                wrong = -0.1 <= off_s - shift_s <= time.time() - began_s + 0.1
                before = await conn.fetchval(STAMPED, since)
                await asyncio.sleep(planned.length_s)
                met = await conn.fetchval(STAMPED, since) - before if wrong else 0
            finally:
                conn.terminate()
        finally:
            if judge.running:
                await judge.quit()
            await judge.start()
            nemesis.marks.postgres_up.append(now_ns())
    return f"postgres, {shift_s:+g} s", met
