"""How facts get their numbers: one by one for each user, in the order they were told in, whoever else is told in between."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from dispatch.inbox import store as inbox_store
from tests.support.server import Person, Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def known(server: Server) -> Person:
    """Somebody whom the server has seen."""
    person = await server.person()
    await person.http.me()
    return person


def told(person: Person, name: str) -> tuple[UUID, str, bytes]:
    return (person.user_id, name, b"{}")


async def test_facts_of_several_users_are_numbered_each_in_its_order(server: Server) -> None:
    first, second, third = [await known(server) for _ in range(3)]
    async with server.app.pg.system_tx() as tx:
        await inbox_store.append(tx, [told(second, "zero")])
    mixed = [
        told(first, "a"),
        told(second, "b"),
        told(first, "c"),
        told(third, "d"),
        told(second, "e"),
        told(first, "f"),
    ]
    async with server.app.pg.system_tx() as tx:
        facts = await inbox_store.append(tx, mixed)
    found = {
        person.user_id: [(fact.seq, fact.name) for fact in facts if fact.user_id == person.user_id]
        for person in (first, second, third)
    }
    assert found == {
        first.user_id: [(1, "a"), (2, "c"), (3, "f")],
        second.user_id: [(2, "b"), (3, "e")],
        third.user_id: [(1, "d")],
    }
    rows = await server.sql(
        "SELECT user_id, seq, name FROM events WHERE user_id = ANY ($1) ORDER BY user_id, seq", list(found)
    )
    assert sorted((row["user_id"], row["seq"], row["name"]) for row in rows) == sorted(
        [(user, seq, name) for user, some in found.items() for seq, name in some] + [(second.user_id, 1, "zero")]
    )


async def test_two_who_tell_somebody_his_first_at_once_leave_no_gap(server: Server) -> None:
    person = await known(server)
    ready = asyncio.Barrier(8)

    async def tell(name: str) -> None:
        async with server.app.pg.system_tx() as tx:
            await ready.wait()
            await inbox_store.append(tx, [told(person, name), told(person, name)])

    await asyncio.gather(*(tell(str(number)) for number in range(8)))
    rows = await server.sql("SELECT seq, name FROM events WHERE user_id = $1 ORDER BY seq", person.user_id)
    assert [row["seq"] for row in rows] == list(range(1, 17))
    assert all(rows[pair]["name"] == rows[pair + 1]["name"] for pair in range(0, 16, 2))


async def test_nobody_is_told_nothing(server: Server) -> None:
    (row,) = await server.sql("SELECT inbox_append('{}') AS facts")
    assert row["facts"] == []
