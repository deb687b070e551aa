"""What the tables themselves refuse, whoever writes."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.server import Person, Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def known(server: Server) -> Person:
    """A customer whom the server has seen."""
    person = await server.person()
    await person.http.me()
    return person


async def ended(server: Server, provider_id: UUID, user_id: UUID) -> UUID:
    """A completed job of a new customer and this provider, written as it stands."""
    customer = await known(server)
    job_id = uuid4()
    await server.sql(
        """INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng,
             pickup_address, coarse, passenger_name, currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor,
             ttl_s, expires_at, accepted_at, completed_at)
           VALUES ($1, 'bkk', 'ride', 'completed', 1, 6, $2, $3, $4, 13.75, 100.5, 'here', '{}', 'x', 'THB', 100, 3500, 0, 0, 0, 2800, 600,
             clock_timestamp(), clock_timestamp(), clock_timestamp())""",
        job_id,
        customer.user_id,
        provider_id,
        user_id,
    )
    return job_id


async def test_a_jobs_provider_and_its_user_are_one(server: Server) -> None:
    one, other = await server.provider(), await server.provider()
    await ended(server, UUID(one.provider_id), one.user_id)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await ended(server, UUID(one.provider_id), other.user_id)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await ended(server, uuid4(), one.user_id)


WRONG = (
    "status = 'stolen'",
    "status = 'pending'",
    "status = 'accepted'",
    "status = 'cancelled'",
    "service_type = 'flight'",
    "pickup_lat = 91",
    "pickup_lng = -181",
    "dropoff_lat = 13.7",
    "base_minor = -1",
    "surge_pct = 99",
    "currency = 'BAHT'",
    "round = -1",
    "payment_method = 'barter'",
    "cancelled_by = 'admin'",
    "note = repeat('x', 501)",
    "pickup_address = repeat('x', 301)",
    "provider_user_id = NULL",
    "provider_id = NULL, provider_user_id = NULL",
)


async def test_what_a_completed_job_may_not_become(server: Server) -> None:
    driver = await server.provider()
    job_id = await ended(server, UUID(driver.provider_id), driver.user_id)
    for wrong in WRONG:
        with pytest.raises((asyncpg.CheckViolationError, asyncpg.ForeignKeyViolationError)):
            await server.sql(f"UPDATE jobs SET {wrong} WHERE id = $1", job_id)
            pytest.fail(f"{wrong} was taken")
