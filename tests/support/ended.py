"""Jobs that have ended, written as rows: what a hundred customers say of a driver needs no hundred rides."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.server import Person

_JOB = """INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, customer_first_name, provider_id, provider_user_id,
    pickup_lat, pickup_lng, pickup_address, coarse, passenger_name, currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor,
    estimated_earnings_minor, expires_at, ttl_s, completed_at, accepted_at)
  VALUES ($1, 'bkk', $2, 'completed', 1, 6, $3, $4, $5, $6, 13.7563, 100.5018, 'Khao San Road 1', '{}', 'x', 'THB', 100, 3500, 0, 0, 0, 2800,
    clock_timestamp(), 600, clock_timestamp() - $7::interval, clock_timestamp() - $7::interval)"""


async def ended_job(
    judge: "asyncpg.Connection[Any]",
    customer: Person,
    provider: Person,
    *,
    service_type: str = "ride",
    ago: timedelta = timedelta(0),
    first_name: str | None = None,
) -> UUID:
    """A job of this customer that this provider completed so long ago. Both have users' rows."""
    job_id = uuid4()
    await judge.execute(
        _JOB,
        job_id,
        service_type,
        customer.user_id,
        first_name,
        UUID(provider.provider_id),
        provider.user_id,
        ago,
    )
    return job_id
