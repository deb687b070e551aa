"""Roles and blocks: what an admin set counts at once, also for connections that are open."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from dispatch.accounts import UserMissing
from dispatch.kit.clock import ManualClock
from dispatch.kit.postgres import Actor
from tests.accounts.desk import PASSWORD, an_email, outcome, signed_up, visitor
from tests.support.server import WITHIN_S, Person, Server, code, serving

ADMIN = Actor(uuid4(), frozenset({"admin"}))


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def set_roles(server: Server, user_id: UUID, roles: list[str] | None) -> list[str] | None:
    async with server.app.pg.acting(ADMIN) as tx:
        before = await server.app.accounts.roles_set(tx, user_id, roles)
    server.app.accounts.forget([user_id])
    return before


async def set_blocked(server: Server, user_id: UUID, blocked: bool, reason: str | None = None) -> bool:
    async with server.app.pg.acting(ADMIN) as tx:
        before = await server.app.accounts.blocked_set(tx, user_id, blocked, reason)
    server.app.accounts.forget([user_id])
    return before


async def may_rule(person: Person) -> bool:
    return await outcome(person.http.admin_jobs()) == "ok"


async def test_roles_that_an_admin_set_win_over_the_token_until_he_takes_them_back(server: Server) -> None:
    person = await server.person("admin")
    assert await may_rule(person)
    assert await set_roles(server, person.user_id, ["customer", "support"]) is None
    assert not await may_rule(person)
    assert (await person.http.me())["roles"] == ["customer", "support"]
    assert await set_roles(server, person.user_id, None) == ["customer", "support"]
    assert await may_rule(person)
    async with visitor(server) as http:
        email = an_email()
        made = await signed_up(http, email)
        user_id = UUID(made["user"]["id"])
        await set_roles(server, user_id, ["admin", "admin", "customer"])
        async with visitor(server, made["tokens"]["access_token"]) as own:  # made before
            assert (await own.me())["roles"] == ["admin", "customer"]
        async with visitor(server, (await http.account.sign_in(email, PASSWORD))["access_token"]) as own:
            assert (await own.me())["roles"] == ["admin", "customer"]


async def test_another_worker_notices_within_its_second(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, workers=2) as server:
        person = await server.person("admin", worker=1)
        assert await may_rule(person)
        await set_roles(server, person.user_id, [])
        async with asyncio.timeout(2.0):
            while await may_rule(person):
                pass
        await set_blocked(server, person.user_id, True, "fraud")
        async with asyncio.timeout(2.0):
            while await outcome(person.http.me()) != "FORBIDDEN":
                pass


async def test_a_connection_comes_back_as_who_its_user_is_now(server: Server) -> None:
    person = await server.person("admin")
    async with person.connected() as client:
        actor = next(iter(server.app.door.connections.values())).identity.actor
        assert actor.admin
        await set_roles(server, person.user_id, ["customer"])
        async with asyncio.timeout(WITHIN_S):
            while not any(
                conn.identity is not None and conn.identity.actor.roles == {"customer"} and conn.seat is not None
                for conn in server.app.door.connections.values()
            ):
                await asyncio.sleep(0)
        assert not client.closed.is_set()


async def test_a_block_ends_sessions_and_sockets_and_is_lifted_again(server: Server) -> None:
    async with visitor(server) as http:
        email = an_email()
        made = await signed_up(http, email)
        person = await server.person(user_id=UUID(made["user"]["id"]))
        async with person.connected() as client:
            assert await set_blocked(server, person.user_id, True, "fraud") is False
            async with asyncio.timeout(WITHIN_S):
                await client.closed.wait()
            assert client.close_code == 4403
        with code("FORBIDDEN"):
            await person.http.me()
        assert await set_blocked(server, person.user_id, False) is True
        await person.http.me()
        with code("SESSION_EXPIRED"):  # what was ended stays so
            await http.account.refresh(made["tokens"]["refresh_token"])
        assert await http.account.sign_in(email, PASSWORD)


async def test_nobody_but_an_admin_changes_access_and_nobody_who_is_not_there(server: Server) -> None:
    person = await server.person()
    await person.http.me()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with server.app.pg.acting(Actor(person.user_id)) as tx:
            await server.app.accounts.roles_set(tx, person.user_id, ["admin"])
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with server.app.pg.acting(Actor(person.user_id)) as tx:
            await server.app.accounts.blocked_set(tx, uuid4(), True, None)
    for work in (set_roles(server, uuid4(), []), set_blocked(server, uuid4(), True)):
        with pytest.raises(UserMissing):
            await work
    with pytest.raises(asyncpg.CheckViolationError):
        await set_roles(server, person.user_id, ["emperor"])


async def test_what_nobody_may_go_by_any_more_is_not_kept(server: Server) -> None:
    """Else it would be kept for everybody who ever came."""
    accounts = server.app.accounts
    *people, late = [await server.person() for _ in range(4)]
    for one in people:
        await one.http.me()
    clock = accounts._clock = ManualClock()
    clock.advance(server.app.clock.monotonic() + 1.1)
    await late.http.me()
    assert list(accounts._seen) == [late.user_id]
