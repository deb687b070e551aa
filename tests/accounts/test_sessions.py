"""Signing up, in and out: what is given, what is refused, and what happens when two come at once."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from uuid import UUID

import jwt
import pytest
from argon2 import PasswordHasher

from bench.faults.proxy import Proxy
from dispatch.accounts.passwords import WAITING_MAX, Passwords
from dispatch.accounts.rules import hash_of
from dispatch.kit.errors import Overloaded, SessionExpired
from protocol.http import Http
from protocol.notices import NoticeType
from tests.accounts.desk import PASSWORD, an_email, held, outcome, sent, signed_up, token_of, visitor
from tests.support.server import WITHIN_S, Server, code, denied, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_a_new_user_is_signed_in_and_shown_to_himself(server: Server) -> None:
    async with visitor(server) as http:
        made = await signed_up(http, "Ann@Example.com", phone_number="0812345678", locale="ar")
    assert made["user"] == {
        "id": made["user"]["id"],
        "first_name": "Ann",
        "last_name": "Bee",
        "email": "Ann@Example.com",
        "phone_number": "+66812345678",
        "email_verified": False,
        "phone_verified": False,
        "locale": "ar",
        "roles": ["customer"],
    }
    tokens = made["tokens"]
    assert (tokens["token_type"], tokens["expires_in_s"]) == ("Bearer", 900)
    async with visitor(server, tokens["access_token"]) as own:
        assert await own.me() == made["user"]
    (row,) = await server.sql("SELECT hash FROM passwords WHERE user_id = $1", UUID(made["user"]["id"]))
    assert row["hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert tokens["refresh_token"] not in str(await server.sql("SELECT * FROM refresh_tokens"))


@pytest.mark.parametrize("name", ["สมชาย", "محمد", "👩‍👩‍👧‍👦", "é" * 50])
async def test_people_are_called_what_they_are_called(server: Server, name: str) -> None:
    async with visitor(server) as http:
        made = await signed_up(http, first_name=name, last_name=name)
        async with visitor(server, made["tokens"]["access_token"]) as own:
            assert (await own.me())["first_name"] == name


async def test_an_address_that_differs_only_in_case_is_taken_and_nothing_of_the_loser_stays(server: Server) -> None:
    async with visitor(server) as http:
        await signed_up(http, "mix@example.com")
        before = await server.sql("SELECT count(*) AS n FROM users")
        assert (await denied(signed_up(http, "MIX@Example.COM"))).status == 409
        assert await server.sql("SELECT count(*) AS n FROM users") == before
        tokens = await http.account.sign_in("mIx@eXample.com", PASSWORD)
        assert tokens["access_token"]
        email = an_email()
        both = await asyncio.gather(
            *(signed_up(http, spelt) for spelt in (email, email.upper())), return_exceptions=True
        )
        assert sorted(getattr(one, "code", "made") for one in both) == ["EMAIL_TAKEN", "made"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "a@b"),
        ("password", "short77"),
        ("password", "x" * 201),
        ("first_name", ""),
        ("first_name", "x" * 51),
        ("last_name", "  "),
        ("phone_number", "12345"),
        ("locale", "de"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_field(server: Server, field: str, value: str) -> None:
    good = {"email": an_email(), "password": PASSWORD, "first_name": "A", "last_name": "B"}
    async with visitor(server) as http:
        refusal = await denied(http.call("POST", "/v1/auth/sign-up", {**good, field: value}))
    assert refusal.code == "VALIDATION_ERROR"
    assert [fault["field"] for fault in refusal.details["fields"]] == [field]


async def test_the_same_letters_are_the_same_password_however_they_were_typed(server: Server) -> None:
    composed, email = unicodedata.normalize("NFC", "pässwörd-สระอำ"), an_email()
    async with visitor(server) as http:
        await http.account.sign_up(email, composed, first_name="A", last_name="B")
        assert await http.account.sign_in(email, unicodedata.normalize("NFD", composed))


async def test_an_unknown_address_and_a_wrong_password_are_told_apart_by_nobody(server: Server) -> None:
    email = an_email()
    worked = 0
    passwords = server.app.accounts.sessions.passwords
    off_loop = passwords._off_loop

    async def counted(work: object) -> object:
        nonlocal worked
        worked += 1
        return await off_loop(work)  # type: ignore[arg-type]

    async with visitor(server) as http:
        await signed_up(http, email)
        passwords._off_loop = counted  # type: ignore[assignment,method-assign]
        answers = [
            await denied(http.account.sign_in(whose, "wrong password")) for whose in (email, an_email(), "", "x")
        ]
    assert {(str(answer), answer.status, str(answer.details)) for answer in answers} == {
        ("UNAUTHORIZED: Please sign in", 401, "{}")
    }
    assert worked == len(answers), "each cost one hash"


async def test_a_blocked_user_is_told_so_only_after_the_right_password(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        made = await signed_up(http, email)
        await server.sql("UPDATE users SET blocked_at = now() WHERE id = $1", UUID(made["user"]["id"]))
        assert (await denied(http.account.sign_in(email, "wrong password"))).code == "UNAUTHORIZED"
        assert (await denied(http.account.sign_in(email, PASSWORD))).code == "FORBIDDEN"
        assert (await denied(http.account.refresh(made["tokens"]["refresh_token"]))).code == "SESSION_EXPIRED"


async def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_family(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        first = (await signed_up(http, email))["tokens"]["refresh_token"]
        other = (await http.account.sign_in(email, PASSWORD))["refresh_token"]
        second = (await http.account.refresh(first))["refresh_token"]
        third = (await http.account.refresh(second))["refresh_token"]
        assert len({first, second, third}) == 3
        for used in (first, second, third):  # the thief's, then everybody's of this sign-in
            with code("SESSION_EXPIRED"):
                await http.account.refresh(used)
        assert await http.account.refresh(other), "another sign-in is another family"
        with code("UNAUTHORIZED"):
            await http.account.refresh("never given")


async def test_of_two_refreshes_at_once_one_wins_and_then_the_family_ends(server: Server) -> None:
    async with visitor(server, patience_s=WITHIN_S) as http:
        for _ in range(3):
            token = (await signed_up(http))["tokens"]["refresh_token"]
            async with held(server, "refresh_tokens") as all_wait:
                racers = [asyncio.ensure_future(http.account.refresh(token)) for _ in range(3)]
                await all_wait("session_rotate", 3)
            answers = await asyncio.gather(*racers, return_exceptions=True)
            won = [answer for answer in answers if isinstance(answer, dict)]
            assert len(won) == 1, answers
            assert {getattr(no, "code", "") for no in answers if no is not won[0]} == {"SESSION_EXPIRED"}
            with code("SESSION_EXPIRED"):
                await http.account.refresh(won[0]["refresh_token"])


async def test_an_expired_refresh_token_is_refused_and_forgotten(server: Server) -> None:
    async with visitor(server) as http:
        token = (await signed_up(http))["tokens"]["refresh_token"]
        await server.sql("UPDATE refresh_tokens SET expires_at = now() - interval '1 s'")
        with code("SESSION_EXPIRED"):
            await http.account.refresh(token)
    await server.sql("UPDATE sessions SET expires_at = now() - interval '1 s'")
    await server.sql("UPDATE attempts SET until = now() - interval '1 s'")
    while await server.app.accounts.forget_proofs(batch=1):
        pass
    for table in ("refresh_tokens", "sessions", "attempts"):
        assert await server.sql(f"SELECT 1 FROM {table}") == []


async def test_nobody_has_more_than_twenty_sessions(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        given = [(await signed_up(http, email))["tokens"]["refresh_token"]]
        for _ in range(4):
            given += [one["refresh_token"] for one in await asyncio.gather(*(sign_in(http, email) for _ in range(5)))]
        assert await outcome(http.account.refresh(given[0])) == "SESSION_EXPIRED"
        assert await outcome(http.account.refresh(given[-1])) == "ok"
        (row,) = await server.sql("SELECT count(*) AS n FROM sessions WHERE ended_at IS NULL")
        assert row["n"] == 20


async def sign_in(http: Http, email: str) -> dict[str, str]:
    return await http.account.sign_in(email, PASSWORD)


async def test_signing_out_ends_this_session_only(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        here = (await signed_up(http, email))["tokens"]["refresh_token"]
        there = (await http.account.sign_in(email, PASSWORD))["refresh_token"]
        assert await http.account.sign_out(here) == await http.account.sign_out("never given") == {"success": True}
        with code("SESSION_EXPIRED"):
            await http.account.refresh(here)
        assert await http.account.refresh(there)


async def test_signing_out_everywhere_refuses_what_was_given_before_and_closes_sockets(
    database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url, workers=2) as server, visitor(server) as http:
        email = an_email()
        made = await signed_up(http, email)
        old = made["tokens"]
        person = await server.person(user_id=UUID(made["user"]["id"]), worker=1)
        person.token = old["access_token"]
        async with visitor(server, old["access_token"]) as own:
            ticket = (await own.socket_ticket())["ticket"]
        async with person.connected(worker=1) as client, visitor(server, old["access_token"], worker=1) as elsewhere:
            await elsewhere.me()
            async with visitor(server, old["access_token"]) as own:
                await own.account.sign_out_everywhere()
                assert (await denied(own.me())).code == "SESSION_EXPIRED", "at once where it was said"
            async with asyncio.timeout(2.0):
                while await outcome(elsewhere.me()) != "SESSION_EXPIRED":
                    pass
            async with asyncio.timeout(WITHIN_S):
                await client.closed.wait()
            assert client.close_code == 4401
        with code("SESSION_EXPIRED"):
            await http.account.refresh(old["refresh_token"])
        claims = await server.app.accounts.redeem_ticket(ticket)
        with pytest.raises(SessionExpired, match="before its user"):
            await server.app.accounts.actor(claims, fresh=True)
        new = await http.account.sign_in(email, PASSWORD)  # within the same second: counts all the same
        async with visitor(server, new["access_token"]) as again:
            assert (await again.me())["email"] == email


async def test_a_hash_of_old_parameters_is_renewed_at_the_next_sign_in(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        await signed_up(http, email)
        weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(unicodedata.normalize("NFC", PASSWORD))
        await server.sql("UPDATE passwords SET hash = $1", weak)
        await http.account.sign_in(email, PASSWORD)
        (row,) = await server.sql("SELECT hash FROM passwords")
        assert row["hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert await http.account.sign_in(email, PASSWORD)


async def test_who_would_wait_too_long_for_a_hash_is_told_at_once() -> None:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    try:
        answers = await asyncio.gather(
            *(passwords.hash("a password") for _ in range(WAITING_MAX + 5)), return_exceptions=True
        )
        assert sum(isinstance(answer, Overloaded) for answer in answers) == 5
        assert await passwords.check(await passwords.hash("a password"), "a password")
        assert not await passwords.check(None, "")
        assert not await passwords.check("no hash at all", "a password")
    finally:
        passwords.close()


async def test_fifty_wrong_passwords_at_once_are_judged_no_more_often_than_the_limit(
    database_url: str, redis_url: str
) -> None:
    async with serving(database_url, redis_url, workers=2, attempts_per_user=7) as server:
        email = an_email()
        async with (
            visitor(server, patience_s=WITHIN_S) as one,
            visitor(server, worker=1, patience_s=WITHIN_S) as two,
        ):
            await signed_up(one, email)
            for _ in range(3):  # what was right does not count
                await one.account.sign_in(email, PASSWORD)
            spelt = [email, email.upper()]
            async with held(server, "attempts") as all_wait:
                racers = [
                    asyncio.ensure_future((one, two)[n % 2].account.sign_in(spelt[n // 2 % 2], f"wrong {n:04}"))
                    for n in range(50)
                ]
                await all_wait("attempts_take", 10)
            answers = await asyncio.gather(*racers, return_exceptions=True)
            codes = [getattr(answer, "code", "let in") for answer in answers]
            assert (codes.count("UNAUTHORIZED"), codes.count("RATE_LIMITED")) == (7, 43), codes
            refusal = await denied(one.account.sign_in(email, PASSWORD))
            assert refusal.code == "RATE_LIMITED"
            assert 0 < refusal.details["retry_after_s"] <= 900
            assert (await denied(one.account.sign_in(an_email(), "x"))).code == "UNAUTHORIZED", "others are free"
            assert email.lower() not in str(await server.sql("SELECT subject::text FROM attempts"))
            await server.sql("UPDATE attempts SET until = now() - interval '1 s'")
            assert await one.account.sign_in(email, PASSWORD)


async def test_one_address_may_not_try_all_users(database_url: str, redis_url: str) -> None:
    limits = {"attempts_per_address": 4, "sends_per_address": 2}
    async with serving(database_url, redis_url, **limits) as server, visitor(server) as http:
        for _ in range(4):
            assert (await denied(http.account.sign_in(an_email(), "wrong one"))).code == "UNAUTHORIZED"
        assert (await denied(http.account.sign_in(an_email(), "wrong one"))).code == "RATE_LIMITED"
        await signed_up(http)
        await signed_up(http)
        assert (await denied(signed_up(http))).code == "RATE_LIMITED"


async def test_without_postgres_nobody_tries_anything(database_url: str, redis_url: str) -> None:
    async with Proxy(database_url) as line, serving(line.url, redis_url) as server, visitor(server) as http:
        email = an_email()
        await signed_up(http, email)
        line.refuse()
        assert (await denied(http.account.sign_in(email, PASSWORD))).status == 503
        line.heal()


async def test_a_forgotten_password_is_replaced_by_whoever_reads_the_mail(server: Server) -> None:
    email, kind = an_email(), NoticeType.PASSWORD_RESET
    async with visitor(server) as http:
        made = await signed_up(http, email)
        user_id = made["user"]["id"]
        assert await http.account.forgot_password(an_email()) == await http.account.forgot_password(email.upper())
        async with asyncio.timeout(WITHIN_S):
            while not await server.sql("SELECT 1 FROM notifications WHERE type = $1", str(kind)):
                await asyncio.sleep(0)
        (message,) = await sent(server, user_id, kind)
        assert message["address"] == email.lower()
        assert "/v1/auth/password/reset?token=" in message["link"]
        with code("INVALID_TOKEN"):  # one kind of mail does not do for another
            await http.account.verify_email(token_of(message))
        await http.account.reset_password(token_of(message), "another password")
        with code("INVALID_TOKEN"):
            await http.account.reset_password(token_of(message), "a third password")
        with code("SESSION_EXPIRED"):
            await http.account.refresh(made["tokens"]["refresh_token"])
        async with visitor(server, made["tokens"]["access_token"]) as own:
            assert (await denied(own.me())).code == "SESSION_EXPIRED"
        assert (await denied(http.account.sign_in(email, PASSWORD))).code == "UNAUTHORIZED"
        new = await http.account.sign_in(email, "another password")
        async with visitor(server, new["access_token"]) as own:
            assert (await own.me())["email_verified"], "he read the mail"


async def test_a_mail_that_was_promised_is_written_when_postgres_is_back(database_url: str, redis_url: str) -> None:
    """The answer had gone out and the mail was given up: nobody tried again."""
    async with Proxy(database_url) as line, serving(line.url, redis_url) as server, visitor(server) as http:
        email = an_email()
        made = await signed_up(http, email)
        trap = line.cut_before(b"email_ask")
        await http.account.forgot_password(email)
        async with asyncio.timeout(WITHIN_S):
            await trap.reached.wait()
        async with asyncio.timeout(WITHIN_S):
            while not await server.sql(
                "SELECT 1 FROM notifications WHERE type = $1 AND recipient_id = $2",
                str(NoticeType.PASSWORD_RESET),
                UUID(made["user"]["id"]),
            ):
                await asyncio.sleep(0)


async def test_a_mail_that_cannot_be_promised_is_refused(database_url: str, redis_url: str) -> None:
    async with Proxy(database_url) as line, serving(line.url, redis_url) as server, visitor(server) as http:
        await signed_up(http, email := an_email())
        for address in (email, an_email()):  # a refusal tells no more than a yes
            line.cut_before(b"dispatch_queue.pgqueuer (priority, entrypoint, payload, status)")
            assert (await denied(http.account.forgot_password(address))).status == 503


async def test_one_new_password_voids_the_other_links_that_lead_to_one(server: Server) -> None:
    email, kind = an_email(), NoticeType.PASSWORD_RESET
    async with visitor(server, patience_s=WITHIN_S) as http:
        user_id = UUID((await signed_up(http, email))["user"]["id"])

        async def links(count: int) -> list[str]:
            for _ in range(count):
                await server.app.accounts.proofs.ask_reset(user_id, email)
            return [token_of(message) for message in (await sent(server, user_id, kind))[-count:]]

        old, first, second = await links(3)
        await server.sql("UPDATE email_tokens SET expires_at = now() WHERE hash = $1", hash_of(old))
        await http.account.reset_password(second, "another password")
        assert await sent(server, user_id, kind) == [{}] * 3, "not mailed either"
        assert await outcome(http.account.reset_password(first, "a third password")) == "INVALID_TOKEN"
        assert await outcome(http.account.reset_password(second, "a third password")) == "INVALID_TOKEN"
        assert await outcome(http.account.reset_password(old, "a third password")) == "TOKEN_EXPIRED"
        two = await links(2)
        async with held(server, "email_tokens") as all_wait:
            racers = [asyncio.ensure_future(outcome(http.account.reset_password(one, f"word {one}"))) for one in two]
            await all_wait("email_use", 2)
        assert sorted(await asyncio.gather(*racers)) == ["INVALID_TOKEN", "ok"]
        (kept,) = [one for one, racer in zip(two, racers, strict=True) if racer.result() == "ok"]
        assert await http.account.sign_in(email, f"word {kept}")


async def test_a_new_password_is_hashed_for_a_good_link_only_and_while_nothing_is_held(server: Server) -> None:
    email, kind = an_email(), NoticeType.PASSWORD_RESET
    passwords = server.app.accounts.sessions.passwords
    hashing, hashed = passwords.hash, 0

    async def watched(password: str) -> str:
        nonlocal hashed
        hashed += 1
        # Fails at once if somebody holds the row; and the link is used up meanwhile.
        await server.sql("SELECT FROM email_tokens FOR UPDATE NOWAIT")
        if password == "an overtaken password":
            await server.sql("UPDATE email_tokens SET used_at = now()")
        return await hashing(password)

    async with visitor(server) as http:
        user_id = UUID((await signed_up(http, email))["user"]["id"])
        for _ in range(2):
            await server.app.accounts.proofs.ask_reset(user_id, email)
        passwords.hash = watched  # type: ignore[method-assign]
        assert await outcome(http.account.reset_password("never given", "another password")) == "INVALID_TOKEN"
        assert hashed == 0
        first, _ = [token_of(message) for message in await sent(server, user_id, kind)]
        assert await outcome(http.account.reset_password(first, "an overtaken password")) == "INVALID_TOKEN"
        await server.app.accounts.proofs.ask_reset(user_id, email)
        await http.account.reset_password(token_of((await sent(server, user_id, kind))[-1]), "another password")
        assert hashed == 2
        assert await http.account.sign_in(email, "another password")


async def test_a_password_replaced_while_it_is_checked_opens_no_session(server: Server) -> None:
    email = an_email()
    passwords = server.app.accounts.sessions.passwords
    check = passwords.check

    async def overtaken(known: str | None, password: str) -> bool:
        right = await check(known, password)
        await server.sql("SELECT password_set(user_id, 'another') FROM passwords")
        return right

    async with visitor(server) as http:
        await signed_up(http, email)
        passwords.check = overtaken  # type: ignore[method-assign]
        assert await outcome(http.account.sign_in(email, PASSWORD)) == "BUSY"
        assert await server.sql("SELECT 1 FROM sessions WHERE ended_at IS NULL") == []


async def test_an_access_token_says_who_and_for_how_long(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, access_ttl_s=60) as server, visitor(server) as http:
        made = await signed_up(http)
        found = jwt.decode(made["tokens"]["access_token"], options={"verify_signature": False})
        assert (found["sub"], found["roles"]) == (made["user"]["id"], ["customer"])
        assert 59 < found["exp"] - found["iat"] <= 60
