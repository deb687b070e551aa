"""Tokens of outside issuers: whose are taken, whose not, and how little an issuer is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from dispatch.accounts.issuers import ASK_AGAIN_S, BYTES_MAX, OLD_AFTER_S, Issuers, read
from dispatch.accounts.rules import Claims
from dispatch.kit.clock import ManualClock
from dispatch.kit.errors import DispatchError
from dispatch.settings import BadSettings, Issuer, load
from tests.accounts.desk import an_email, signed_up, visitor
from tests.support.server import denied, serving

RSA, OTHER, EC = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ec.generate_private_key(ec.SECP256R1()),
)
ISSUER, AUDIENCE = "https://id.example/auth/v1", "authenticated"


def rsa_jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


def ec_jwk(key: Any, kid: str) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}


class Office:
    """An issuer's server: what it publishes, and how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [rsa_jwk(RSA, "r1"), ec_jwk(EC, "e1")]
        self.asked = 0
        self.answer: Any = None
        self.url = ""

    async def jwks(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)  # type: ignore[no-any-return]
        return web.json_response({"keys": self.keys})

    def settings(self, **given: Any) -> Issuer:
        return Issuer(**{"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": self.url, **given})


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    desk = Office()
    async with published(desk):
        yield desk


@asynccontextmanager
async def published(desk: Office) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/jwks.json", desk.jwks)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    desk.url = f"http://127.0.0.1:{port}/jwks.json"
    try:
        yield
    finally:
        await runner.cleanup()


def token(key: Any = RSA, kid: str | None = "r1", algorithm: str = "RS256", **claims: Any) -> str:
    now = datetime.now(UTC)
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(uuid4()), "iat": now, "exp": now + timedelta(minutes=5)}
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


async def said(issuers: Issuers, one: str) -> Claims:
    found = issuers.ring_of(one)
    assert found is not None
    ring, kid = found
    return await read(ring, one, kid)


async def why(issuers: Issuers, one: str) -> str:
    try:
        await said(issuers, one)
    except DispatchError as refusal:
        return refusal.code
    return "taken"


async def test_both_kinds_of_key_are_read_and_the_issuer_is_asked_once(office: Office) -> None:
    issuers = Issuers([office.settings()], ManualClock())
    sub = uuid4()
    for _ in range(3):
        assert (await said(issuers, token(sub=str(sub)))).user_id == sub
        assert (await said(issuers, token(EC, "e1", "ES256", sub=str(sub)))).user_id == sub
    assert office.asked == 1


async def test_a_storm_of_forged_kids_causes_no_storm_of_fetches(office: Office) -> None:
    clock = ManualClock()
    issuers = Issuers([office.settings()], clock)
    good = token()
    assert await why(issuers, good) == "taken"
    clock.advance(ASK_AGAIN_S)
    storm = [token(OTHER, f"forged-{n}") for n in range(200)]
    assert set(await asyncio.gather(*(why(issuers, one) for one in storm))) == {"UNAUTHORIZED"}
    assert office.asked == 2, "the first fetch, and one for the whole storm"
    clock.advance(ASK_AGAIN_S - 0.1)
    assert set(await asyncio.gather(*(why(issuers, one) for one in storm))) == {"UNAUTHORIZED"}
    assert office.asked == 2
    assert await why(issuers, good) == "taken"


async def test_a_new_key_is_taken_and_a_withdrawn_one_is_not(office: Office) -> None:
    clock = ManualClock()
    issuers = Issuers([office.settings()], clock)
    await issuers.refresh()
    office.keys = [rsa_jwk(OTHER, "r2")]
    clock.advance(ASK_AGAIN_S)
    assert await why(issuers, token()) == "taken", "known: nobody is asked"
    assert office.asked == 1
    assert await why(issuers, token(OTHER, "r2")) == "taken"
    assert await why(issuers, token()) == "UNAUTHORIZED"
    office.keys = [rsa_jwk(RSA, "r3")]
    clock.advance(OLD_AFTER_S)
    await issuers.refresh()
    assert await why(issuers, token(OTHER, "r2")) == "UNAUTHORIZED", "withdrawn, and nobody named the new one"


@pytest.mark.parametrize("trouble", ["500", "huge", "text", "empty", "moved", "secret"])
async def test_an_answer_that_is_none_keeps_the_last_good_keys(office: Office, trouble: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        secret = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "r1"}
        match trouble:
            case "500":
                return web.Response(status=500)
            case "huge":
                return web.Response(body=b" " * (BYTES_MAX + 1))
            case "text":
                return web.Response(text="<html>")
            case "moved":
                return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})
            case _:
                return web.json_response({"keys": [secret] if trouble == "secret" else []})

    clock = ManualClock()
    issuers = Issuers([office.settings()], clock)
    await issuers.refresh()
    office.answer = answer
    clock.advance(OLD_AFTER_S)
    await issuers.refresh()
    assert office.asked == 2
    assert await why(issuers, token()) == "taken"


async def test_without_any_keys_nothing_is_decided(office: Office) -> None:
    clock = ManualClock()
    issuers = Issuers([office.settings(jwks_url="http://127.0.0.1:9/")], clock)
    assert await why(issuers, token()) == "OVERLOADED"


async def test_a_token_must_be_the_issuers_for_us_and_young(office: Office) -> None:
    issuers = Issuers([office.settings()], ManualClock())
    past = datetime.now(UTC) - timedelta(seconds=5)
    wrong = {
        "expired": token(exp=past),
        "for others": token(aud="elsewhere"),
        "of nobody": token(sub=None),
        "for ever": token(exp=None),
        "signed by another": token(OTHER, "r1"),
        "with the key of another kind": token(EC, "r1", "ES256"),
        "with another algorithm of the key": token(algorithm="RS512"),
        "without kid among several": token(kid=None),
        "for nobody": token(aud=None),
    }
    found = {name: await why(issuers, one) for name, one in wrong.items()}
    assert found == dict.fromkeys(wrong, "UNAUTHORIZED") | {"expired": "SESSION_EXPIRED"}
    for not_theirs in (
        token(iss="https://elsewhere.example"),
        token(iss=None),
        jwt.encode({"iss": ISSUER}, "s" * 40, algorithm="HS256"),  # a secret is shared with nobody
        "no.token.atall",
        "",
    ):
        assert issuers.ring_of(not_theirs) is None, "left to our own secrets, which refuse it"


async def test_a_subject_that_is_no_uuid_is_always_the_same_user(office: Office) -> None:
    twin = "https://id2.example"
    issuers = Issuers([office.settings(), office.settings(issuer=twin)], ManualClock())
    one = (await said(issuers, token(sub="auth0|5f7c"))).user_id
    assert one == (await said(issuers, token(sub="auth0|5f7c"))).user_id
    assert one != (await said(issuers, token(sub="auth0|5f7d"))).user_id
    assert one != (await said(issuers, token(iss=twin, sub="auth0|5f7c"))).user_id
    assert await why(issuers, token(sub="")) == "UNAUTHORIZED"


async def test_supabase_says_it_in_its_own_way(office: Office) -> None:
    issuers = Issuers([office.settings(shape="supabase")], ManualClock())
    claims = await said(
        issuers,
        token(
            email="Nok@Example.com",
            phone="66812345678",
            role="authenticated",
            app_metadata={"provider": "email", "roles": ["admin", "emperor"]},
            user_metadata={"full_name": "นก  ใจดี มาก", "email_verified": True, "roles": ["support"]},
        ),
    )
    assert claims.roles == {"admin"}
    assert (claims.first_name, claims.last_name) == ("นก", "ใจดี มาก")
    assert (claims.phone_number, claims.email) == ("+66812345678", "Nok@Example.com")
    assert not claims.email_verified, "what a person writes about himself proves nothing"
    assert (await said(issuers, token(email="a@b.example", email_verified=True))).email_verified
    assert (await said(issuers, token(user_metadata="nonsense", phone="", email=7))).roles == {"customer"}
    for unstorable in ("nok\0@b.example", "nok\ud800@b.example", "a@b"):
        claims = await said(issuers, token(email=unstorable, sub="x\ud800", user_metadata={"first_name": "N\udfffok"}))
        assert (claims.email, claims.first_name) == (None, "Nok")
    odd = await said(issuers, token(user_metadata={"first_name": "A\0nn", "full_name": "Not Used"}))
    assert (odd.first_name, odd.last_name) == ("Ann", None)


async def test_a_stranger_with_a_good_token_is_a_user_at_first_sight(
    office: Office, database_url: str, redis_url: str
) -> None:
    issuer = office.settings()
    async with serving(database_url, redis_url, issuers=[issuer]) as server:
        email, sub = an_email(), uuid4()
        good = token(sub=str(sub), email=email, email_verified=True, given_name="Nok", roles=["customer", "support"])
        async with visitor(server, good) as http:
            me = await http.me()
            assert me == {
                "id": str(sub),
                "first_name": "Nok",
                "email": email,
                "email_verified": True,
                "phone_verified": False,
                "locale": "th",
                "roles": ["customer", "support"],
            }
        # Somebody else whose issuer says the same address: he is let in, and has none.
        async with visitor(server, token(email=email.upper(), email_verified=False)) as http:
            other = await http.me()
            assert "email" not in other
            assert other["roles"] == ["customer"]
        person = await server.person(user_id=sub)
        person.token = good
        async with person.connected():
            pass
        forged = await asyncio.gather(*(_refused(server, token(OTHER, f"f{n}")) for n in range(30)))
        assert set(forged) == {"UNAUTHORIZED"}
        assert office.asked <= 2
        async with visitor(server, token(exp=datetime.now(UTC) - timedelta(seconds=1))) as http:
            assert (await denied(http.me())).code == "SESSION_EXPIRED"
        assert server.app.accounts.mint(UUID(int=1), ["customer"], 60), "ours go on"
        await (await server.person()).http.me()


async def test_an_address_that_its_issuer_has_not_verified_is_nobodys(
    office: Office, database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url, issuers=[office.settings(shape="supabase")]) as server:
        email = an_email()
        for unproven in (False, None, "true"):
            stranger = token(email=email, email_verified=unproven, user_metadata={"email_verified": True})
            async with visitor(server, stranger) as http:
                assert "email" not in await http.me()
        async with visitor(server) as http:
            assert (await signed_up(http, email))["user"]["email"] == email, "it was free"


async def _refused(server: Any, one: str) -> str:
    async with visitor(server, one) as http:
        return (await denied(http.me())).code


def test_issuers_that_cannot_be_are_refused_at_start() -> None:
    good = {"issuer": ISSUER, "audience": "a", "jwks_url": "https://id.example/jwks.json"}
    assert load({}, issuers=[good]).issuers[0].roles_claim == "roles"
    assert load({}, issuers=[{**good, "shape": "supabase"}]).issuers[0].roles_claim == "app_metadata.roles"
    for bad in (
        [good, good],
        [{**good, "issuer": "dispatch"}],
        [{**good, "algorithms": ["HS256"]}],
        [{**good, "jwks_url": "file:///etc/passwd"}],
        [{**good, "shape": "other"}],
        [{**good, "secret": "x"}],
    ):
        with pytest.raises(BadSettings):
            load({}, issuers=bad)
