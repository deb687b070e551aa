"""What a new job carries of the customer who asked."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        ("Ann", "Lee", "Ann Lee"),
        ("Ann", None, "Ann"),
        (None, "Lee", "ผู้โดยสาร"),
        (None, None, "ผู้โดยสาร"),
    ],
)
async def test_a_passenger_has_a_name(server: Server, first: str | None, last: str | None, shown: str) -> None:
    person = await server.person()
    await person.http.me()
    await server.sql("UPDATE users SET first_name = $2, last_name = $3 WHERE id = $1", person.user_id, first, last)
    job = await server.request(person)
    rows = await server.sql(
        "SELECT passenger_name, customer_first_name FROM jobs WHERE id = $1 AND customer_id = $2",
        UUID(job["id"]),
        person.user_id,
    )
    assert [tuple(row) for row in rows] == [(shown, first)]
    (step,) = await server.sql(
        "SELECT version, from_status, to_status, round, actor_id, actor_role FROM job_events WHERE job_id = $1",
        UUID(job["id"]),
    )
    assert tuple(step) == (1, None, "pending", 0, person.user_id, "customer")
