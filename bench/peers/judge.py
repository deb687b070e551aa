"""The accept functions alone, on one Postgres without any server: ours, the first documents', and the bare conditional UPDATE under them.

Each run has as many fresh jobs and as many calls as jobs, each call by another provider, so that every call wins; 16 connections call
as fast as they can, until all jobs are taken or a stretch is long enough. Ours is called as the claims do: with the key under which its
answer is kept. Checkpoints and what the making of the jobs leaves to be tidied are done before the first call, and so fall into
nobody's stretch.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from bench.demo.stage import Wanted, environment_of, run_command
from bench.demo.tally import percentile
from bench.peers.sides import PeerStores, lay_out
from bench.peers.works import MARKET, Sample, Scale
from bench.server import usage_of
from dispatch.kit.postgres import SESSION, Tx
from dispatch.kit.sql import Queries

CLIENTS: Final = 16
"""Enough to keep this Postgres busy: performance.md's own figure for one worker."""
OFFERED: Final = 5
WARM: Final = 10 * CLIENTS
STRETCH_MAX_S: Final = 4.0
"""Long beside what a checkpoint or a vacuum of another table takes."""
REHEARSED: Final = 2_000
TIDY_WITHIN_S: Final = 60.0
DESIGN_SCHEMA: Final = "design_alone"
_ACCEPT: Final = Queries(Path(__file__).parents[2] / "dispatch" / "claims" / "queries.sql")["accept_job"]
BARE: Final = """
DROP TABLE IF EXISTS bare_job;
CREATE TABLE bare_job (id uuid PRIMARY KEY, status text NOT NULL, provider_id uuid) WITH (fillfactor = 80);
"""
JOBS: Final = """
INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, pickup_lat, pickup_lng, pickup_address, coarse, passenger_name,
  currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor, ttl_s, offer_deadline, next_search_at, expires_at)
SELECT id, 'bkk', 'ride', 'offered', 1, 2, customer, 13.75, 100.5, 'bench', '{"pickup": {"lat": 13.75, "lng": 100.5, "address": "bench"}}', 'bench',
  'THB', 100, 3500, 2500, 1500, 0, 6000, 600, clock_timestamp() + interval '1 h', clock_timestamp() + interval '1 h', clock_timestamp() + interval '1 h'
FROM unnest($1::uuid[], $2::uuid[]) AS n(id, customer)
"""
OFFERS: Final = """
INSERT INTO offers (offer_id, job_id, round, provider_id, provider_user_id, status, pickup_distance_m, expires_at)
SELECT offer, job, 1, p.id, p.user_id, 'live', 100, clock_timestamp() + interval '1 h'
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS n(offer, job, taker) JOIN providers p ON p.user_id = n.taker
"""
OVER: Final = """
UPDATE jobs SET status = 'cancelled', cancelled_at = clock_timestamp(), cancelled_by = 'system' WHERE id = ANY ($1::uuid[])
"""

Call = Callable[[Tx, int], Awaitable[bool]]
"""Accepts the job of that number; whether it won."""


async def functions(stores: PeerStores, scale: Scale, samples: list[Sample]) -> None:
    """Every run: fresh jobs of all three kinds, called by turns. Raises RuntimeError when a call did not win, StageError."""
    people = Path(stores.folder / "judged")
    wanted = Wanted(MARKET, scale.judged, 100, 1, {})
    environment = environment_of(wanted, stores.database_url, stores.redis_url, stores.folder / "no-stamps")
    await run_command(["migrate"], environment, stores.folder)
    seeding = [
        "seed",
        "--market",
        MARKET,
        "--providers",
        str(scale.judged),
        "--customers",
        "100",
        "--tokens",
        str(people),
    ]
    await run_command(seeding, environment, stores.folder, 60.0 + scale.judged / 300)
    await lay_out(stores.database_url, DESIGN_SCHEMA)
    async with (
        _pool(stores, {"search_path": "dispatch"}) as pool,
        _pool(stores, SESSION | {"role": "dispatch_app"}) as served,
        _pool(stores, {"search_path": DESIGN_SCHEMA}) as design,
    ):
        await pool.execute(BARE)
        await pool.execute("UPDATE provider_gate SET online = true")
        takers = [row["user_id"] for row in await pool.fetch("SELECT user_id FROM provider_gate ORDER BY user_id")]
        buyers = [row["id"] for row in await pool.fetch("SELECT id FROM users WHERE id <> ALL ($1::uuid[])", takers)]
        await pool.execute(f"INSERT INTO {DESIGN_SCHEMA}.providers (id) SELECT unnest($1::uuid[])", takers)
        for run in range(-1, scale.runs):
            # Before the first a rehearsal: a table that was empty when it was analysed is read from end to end while it fills.
            some = takers if run >= 0 else takers[:REHEARSED]
            jobs = [uuid4() for _ in some]
            offers = await _prepare(pool, jobs, some, buyers)
            calls = _calls(jobs, offers, some)
            for side in calls if run % 2 == 0 else reversed(calls):
                through = {"postgres_design": design, "ours": served}.get(side, pool)
                found = await _hammer(through, calls[side], len(jobs), stores)
                if run < 0:
                    continue
                samples.append({"work": "accepts", "kind": "function", "run": run, "side": side, **found})
                print(f"accept function, run {run + 1}, {side}: {samples[-1]['accepts_per_s']:,.0f}/s", flush=True)
            await pool.execute(OVER, jobs)
            await pool.execute(f"UPDATE {DESIGN_SCHEMA}.jobs SET status = 'cancelled'")


def _pool(stores: PeerStores, settings: dict[str, str]) -> "asyncpg.Pool[Any]":
    return asyncpg.create_pool(stores.database_url, min_size=CLIENTS, max_size=CLIENTS, server_settings=settings)


async def _prepare(pool: "asyncpg.Pool[Any]", jobs: list[UUID], takers: list[UUID], buyers: list[UUID]) -> list[UUID]:
    """Rows of all three kinds; for each job the offer of the taker who will win it."""
    # Before the rows: pages that are changed for the first time after a checkpoint are written whole, and that would be the calls'.
    await pool.execute("CHECKPOINT", timeout=TIDY_WITHIN_S)
    count = len(jobs)
    wanting = [buyers[number % len(buyers)] for number in range(count)]
    await pool.execute(JOBS, jobs, wanting)
    offers = [[uuid4() for _ in range(OFFERED)] for _ in jobs]
    await pool.execute(
        OFFERS,
        [offer for many in offers for offer in many],
        [job for job in jobs for _ in range(OFFERED)],
        [takers[(number + more) % count] for number in range(count) for more in range(OFFERED)],
    )
    await pool.execute("INSERT INTO bare_job (id, status) SELECT unnest($1::uuid[]), 'offered'", jobs)
    await pool.execute(
        f"INSERT INTO {DESIGN_SCHEMA}.jobs (id, status, customer_id, pickup_location, pickup_address)"
        " SELECT id, 'offered', customer, point(100.5, 13.75), 'bench' FROM unnest($1::uuid[], $2::uuid[]) AS n(id, customer)",
        *(jobs, wanting),
    )
    await pool.execute("VACUUM (ANALYZE)", timeout=TIDY_WITHIN_S)
    return [many[0] for many in offers]


def _calls(jobs: list[UUID], offers: list[UUID], takers: list[UUID]) -> dict[str, Call]:
    async def bare(connection: Tx, number: int) -> bool:
        return bool(
            await connection.fetchval(
                "UPDATE bare_job SET status = 'accepted', provider_id = $2 WHERE id = $1 AND status = 'offered' RETURNING true",
                *(jobs[number], takers[number]),
            )
        )

    async def ours(connection: Tx, number: int) -> bool:
        key = str(uuid4())
        row = await connection.fetchrow(
            _ACCEPT, takers[number], jobs[number], offers[number], 1, uuid4(), key, "bench", False, None, 100, None, None, None
        )  # fmt: skip
        return row is not None and row["word"] == "accepted"

    async def design(connection: Tx, number: int) -> bool:
        said = await connection.fetchval(f"SELECT {DESIGN_SCHEMA}.accept_job($1, $2)", jobs[number], takers[number])
        return '"success": true' in said

    return {"bare_update": bare, "ours": ours, "postgres_design": design}


async def _hammer(pool: "asyncpg.Pool[Any]", call: Call, count: int, stores: PeerStores) -> Sample:
    """All calls once, CLIENTS at a time, or as many as fit into STRETCH_MAX_S. The first WARM are not measured: until then every
    connection has its plans to make, as the tables were analysed a moment ago.
    """
    took_ms: list[float] = []
    lost: list[int] = []

    async def client(numbers: Iterator[int], ends: float) -> None:
        async with pool.acquire() as connection:
            for number in numbers:
                start = time.perf_counter()
                if start > ends:
                    return
                if not await call(connection, number):
                    lost.append(number)
                took_ms.append((time.perf_counter() - start) * 1000)

    async def play(numbers: Sequence[int]) -> None:
        left, ends = iter(numbers), time.perf_counter() + STRETCH_MAX_S
        await asyncio.gather(*(client(left, ends) for _ in range(CLIENTS)))

    warm = min(WARM, count // 2)
    await play(range(warm))
    took_ms.clear()
    before = usage_of([], stores.redis_pid, stores.postgres_pid)
    began = time.perf_counter()
    await play(range(warm, count))
    took_s = time.perf_counter() - began
    used = usage_of([], stores.redis_pid, stores.postgres_pid).since(before)
    count = len(took_ms)
    if lost:
        raise RuntimeError(f"{len(lost)} of {count + warm} accepts that nobody contested were told no")
    return {
        "accepts": count,
        "took_s": round(took_s, 3),
        "accepts_per_s": round(count / took_s, 1),
        "ms_p99": round(percentile(took_ms, 0.99), 3),
        "postgres_cpu_us": round(used.postgres / count * 1e6, 1),
        "client_cpu_us": round(used.load / count * 1e6, 1),
        "others_cores": replace(used, server=0.0).others_share(),  # there is no server
    }
