"""What was good once, or is somebody else's: tokens, tickets, rounds and offers, at every door. All of it is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aiohttp
import jwt
import pytest
import redis.asyncio as aioredis

from dispatch.settings import Settings
from tests.gateway.wire import Wire, dialled, wired
from tests.support.server import WITHIN_S, Person, Server, denied, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, markets={"bkk": {"open_board": False}}) as running:
        yield running


def forged(person: Person, **other: object) -> str:
    """A token as ours, but for `other`."""
    s = Settings()
    now = datetime.now(UTC)
    key = str(other.pop("key", s.jwt_secrets[0].get_secret_value()))
    algorithm = str(other.pop("algorithm", "HS256"))
    claims = {
        "sub": str(person.user_id),
        "iss": s.jwt_issuer,
        "aud": s.jwt_audience,
        "iat": now,
        "exp": now + timedelta(minutes=5),
        "roles": ["customer"],
    }
    return jwt.encode(
        {name: value for name, value in (claims | other).items() if value is not None},
        key if algorithm != "none" else "",
        algorithm,
    )


FORGERIES = {
    "expired": {"exp": datetime.now(UTC) - timedelta(minutes=1)},
    "without an end": {"exp": None},
    "of nobody": {"sub": None},
    "of another issuer": {"iss": "somebody"},
    "for another audience": {"aud": "somebody"},
    "without an issuer": {"iss": None},
    "signed with another key": {"key": "x" * 48},
    "signed with nothing": {"algorithm": "none"},
    "signed by another algorithm": {"algorithm": "HS384"},
    "of somebody who is no UUID": {"sub": "admin"},
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("how", FORGERIES)
async def test_a_token_that_is_not_ours_opens_no_door(server: Server, how: str) -> None:
    person = await server.person()
    token = forged(person, **FORGERIES[how])
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for method, path in (("GET", "/v1/me"), ("POST", "/v1/socket/tickets"), ("POST", "/v1/jobs")):
            async with session.request(method, server.url() + path) as answer:
                assert answer.status == 401, (path, await answer.text())
    async with dialled(server) as wire:
        await wire.request(token)
        assert wire.status == 401
    async with person.connected() as phone:
        assert (await denied(phone.auth(token))).code in ("UNAUTHORIZED", "SESSION_EXPIRED")


async def test_another_users_token_prolongs_nobodys_socket(server: Server) -> None:
    one, two = await server.person(), await server.person()
    async with one.connected() as phone:
        assert (await denied(phone.auth(two.token))).code == "FORBIDDEN"


async def _ticket(person: Person) -> str:
    return str((await person.http.socket_ticket())["ticket"])


async def _by_ticket(server: Server, ticket: str, wire: Wire) -> int | None:
    """The close code of a socket that comes with this ticket; None: it was greeted."""
    wire.send(
        f"GET /v1/socket?ticket={ticket} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: dispatch.v1\r\n\r\n".encode()
    )
    async with asyncio.timeout(WITHIN_S):
        head = await wire.reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    try:
        await wire.greet()
    except AssertionError:
        return wire.closed_with
    return None


async def test_of_twenty_who_come_with_one_ticket_one_is_let_in(server: Server) -> None:
    ticket = await _ticket(await server.person())

    async def come() -> int | None:
        async with dialled(server) as wire:
            return await _by_ticket(server, ticket, wire)

    ends = await asyncio.gather(*(come() for _ in range(20)))
    assert sorted(ends, key=str) == [4401] * 19 + [None]


@pytest.mark.parametrize("ticket", ["", "x", "0" * 43, "../../x", "%00", "a" * 4_000])
async def test_a_ticket_that_never_was_closes_4401(server: Server, ticket: str) -> None:
    async with dialled(server) as wire:
        assert await _by_ticket(server, ticket, wire) == 4401


async def test_a_ticket_that_is_over_or_whose_buyer_is_blocked_lets_nobody_in(server: Server, redis_url: str) -> None:
    person, blocked = await server.person(), await server.person()
    late, theirs = await _ticket(person), await _ticket(blocked)
    async with aioredis.Redis.from_url(redis_url) as client:
        assert 0 < await client.ttl(f"tkt:{late}") <= 30
        await client.pexpire(f"tkt:{late}", 1)
        while await client.exists(f"tkt:{late}"):
            await asyncio.sleep(0)
    async with dialled(server) as wire:
        assert await _by_ticket(server, late, wire) == 4401
    await (await server.admin()).http.office.block(blocked.user_id, "test")
    async with dialled(server) as wire:
        assert await _by_ticket(server, theirs, wire) == 4403
    async with dialled(server) as wire:
        await wire.request(blocked.token)
        assert wire.status == 403


async def test_tokens_from_before_a_sign_out_everywhere_are_worth_nothing(server: Server) -> None:
    person = await server.person()
    async with wired(server, person) as wire:
        ticket = await _ticket(person)
        await person.http.account.sign_out_everywhere()
        assert await wire.ends() == 4401
    async with dialled(server) as wire:
        await wire.request(person.token)
        assert wire.status == 401
    async with dialled(server) as wire:
        assert await _by_ticket(server, ticket, wire) == 4401, "a ticket is worth no more than the token that bought it"
    assert (await denied(person.http.me())).code in ("SESSION_EXPIRED", "UNAUTHORIZED")


async def test_other_rounds_and_other_peoples_offers_are_refused(server: Server) -> None:
    customer = await server.person()
    async with server.working() as (driver, phone), server.working(at=(13.75, 100.51)) as (_, other):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        for round in (0, offer["round"] + 1, 2**53):
            refusal = await denied(phone.accept(job["id"], offer["offer_id"], round))
            assert refusal.code in ("JOB_NOT_AVAILABLE", "OFFER_NOT_FOUND"), (round, refusal.code)
        for work in (other.accept(job["id"], offer["offer_id"], offer["round"] + 7), other.decline(uuid4())):
            assert (await denied(work)).code in ("JOB_NOT_AVAILABLE", "OFFER_NOT_FOUND")
        stranger = await server.provider()
        async with stranger.connected() as third:
            await third.online(13.9, 100.6)
            assert (await denied(third.accept(job["id"], offer["offer_id"], offer["round"]))).code == "OFFER_NOT_FOUND"
            assert (await denied(third.decline(offer["offer_id"]))).code == "OFFER_NOT_FOUND"
        assert (await phone.accept(job["id"], offer["offer_id"], offer["round"]))["job"]["status"] == "accepted"
