"""What a search asks the judge costs by what concerns its job, not by how many others are on offer."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from dispatch.matching.store import Q
from tests.support.crowd import crowd, lone_job
from tests.support.pages import pages_read
from tests.support.server import Server, serving

OTHERS = 5_000


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def pages(server: Server, job_id: UUID) -> int:
    async with server.app.pg.system_tx() as tx:
        # On a lease that ends at once: the next reading is to find the job again.
        read = await pages_read(tx, Q["jobs_due"], f"'{job_id}'", "200", "0.0", "'{bkk}'", "'{15}'")
        assert len(await tx.fetch(Q["jobs_due"], job_id, 200, 0.0, ["bkk"], [15.0])) == 1
        return read


async def test_a_search_does_not_read_everybody_elses_offers(server: Server) -> None:
    (provider,) = await crowd(server, 1)
    job = await lone_job(server)
    before = [await pages(server, job) for _ in range(3)][-1]
    await server.sql(
        """WITH made AS (
             INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, pickup_lat, pickup_lng, pickup_address, coarse, passenger_name,
               currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor, ttl_s, next_search_at, expires_at)
             SELECT gen_random_uuid(), j.market, j.service_type, 'offered', 1, 2, j.customer_id, j.pickup_lat, j.pickup_lng, j.pickup_address, j.coarse, 'x',
               j.currency, 100, 3500, 0, 0, 0, 2800, 600, j.expires_at, j.expires_at FROM jobs j, generate_series(1, $4::int / 5) WHERE j.id = $1
             RETURNING id)
           INSERT INTO offers (offer_id, job_id, round, provider_id, provider_user_id, status, pickup_distance_m, expires_at)
           SELECT gen_random_uuid(), made.id, n, $2, $3, 'live', 100, clock_timestamp() + interval '1 day' FROM made, generate_series(1, 5) n""",
        job,
        provider.id,
        provider.actor.user_id,
        OTHERS,
    )
    young = [await pages(server, job) for _ in range(3)][-1]
    await server.sql("ANALYZE offers, jobs")
    known = [await pages(server, job) for _ in range(3)][-1]
    assert max(young, known) < before + 20, (before, young, known)
    assert (await server.sql("SELECT count(*) AS n FROM offers WHERE status = 'live'"))[0]["n"] == OTHERS
