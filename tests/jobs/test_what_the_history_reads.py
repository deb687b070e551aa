"""To tell some steps of the history their jobs are read, and not all that ever were."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from dispatch.jobs.store import Q
from dispatch.kit.postgres import SESSION
from tests.support.crowd import lone_job
from tests.support.pages import pages_read
from tests.support.server import Server, serving

JOBS, STEPS = 20_000, 20


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_the_next_steps_are_read_with_their_jobs_alone(server: Server) -> None:
    job = await lone_job(server)
    await server.sql(
        """WITH made AS (
             INSERT INTO jobs (id, market, service_type, customer_id, pickup_lat, pickup_lng, pickup_address, coarse, passenger_name, currency, surge_pct,
               base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor, ttl_s, next_search_at, expires_at, status, cancelled_at, cancelled_by)
             SELECT gen_random_uuid(), j.market, j.service_type, j.customer_id, j.pickup_lat, j.pickup_lng, j.pickup_address, j.coarse, 'x', j.currency, 100,
               3500, 0, 0, 0, 2800, 600, NULL, j.expires_at, 'cancelled', clock_timestamp(), 'system' FROM jobs j, generate_series(1, $2::int) WHERE j.id = $1
             RETURNING id)
           INSERT INTO job_events (job_id, version, to_status, round, actor_role) SELECT id, 1, 'pending', 0, 'system' FROM made""",
        job,
        JOBS,
    )
    async with asyncio.timeout(60):
        # The server tells it all by itself.
        while (await server.sql("SELECT count(*) AS n FROM job_events e, job_event_readers r WHERE e.xid > r.xid"))[0][
            "n"
        ]:
            await asyncio.sleep(0.05)
    await server.sql("ANALYZE jobs, job_events, offers")
    whole = (await server.sql("SELECT pg_relation_size('jobs') / 8192 AS n"))[0]["n"]
    # Pages that are dear to fetch stand for tables far larger than memory.
    dear = SESSION | {"role": "dispatch_system", "random_page_cost": "100", "enable_seqscan": "on"}
    conn = await asyncpg.connect(server.settings.database_url, server_settings=dear)
    try:
        async with conn.transaction():
            await conn.fetch("SELECT FROM job_event_readers FOR UPDATE")
            await conn.execute("UPDATE job_event_readers SET xid = '0', job_id = $1, version = 0", UUID(int=0))
            read = [await pages_read(conn, Q["job_events_next"], "'notices'", str(STEPS)) for _ in range(3)][-1]
            await conn.execute("UPDATE job_event_readers SET xid = pg_current_xact_id()")
    finally:
        await conn.close()
    assert read < 20 * STEPS < whole, (read, whole)
