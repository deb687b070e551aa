"""Proving an address and a phone: what is sent, what it is good for, how often."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import aiohttp
import pytest

from dispatch.accounts.rules import phone_code
from dispatch.kit.postgres import Actor, Tx
from protocol.notices import NoticeType
from tests.accounts.desk import an_email, sent, signed_up, token_of, visitor
from tests.support.server import WITHIN_S, Person, Server, code, denied, serving

EMAIL, PHONE = NoticeType.EMAIL_VERIFICATION, NoticeType.PHONE_VERIFICATION


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url, public_url="https://rides.example") as running:
        yield running


async def test_the_link_of_the_mail_verifies_the_address_once(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        made = await signed_up(http, email)
        handle, user_id = made["verification_token"], made["user"]["id"]
        (message,) = await sent(server, user_id, EMAIL)
        token = token_of(message)
        assert message == {
            "link": f"https://rides.example/v1/auth/email/verify?token={token}",
            "address": email.lower(),
        }
        kept = str(await server.sql("SELECT * FROM email_tokens")) + str(
            await server.sql("SELECT * FROM notifications")
        )
        assert token not in kept, "the token stands nowhere"
        assert await http.account.email_status(handle) == {"verified": False}
        with code("INVALID_TOKEN"):  # the handle proves nothing
            await http.account.verify_email(handle)
        await http.account.verify_email(token)
        with code("INVALID_TOKEN"):
            await http.account.verify_email(token)
        assert await http.account.email_status(handle) == {"verified": True}
        assert await sent(server, user_id, EMAIL) == [{}], "a used link is not mailed again"
        async with visitor(server, made["tokens"]["access_token"]) as own:
            assert (await own.me())["email_verified"] is True
    async with server.app.pg.system() as conn:
        contact = await server.app.accounts.contact_of(conn, UUID(user_id))
        assert contact is not None
        assert (contact.email, contact.locale) == (email, "th")
        assert await server.app.accounts.contact_of(conn, uuid4()) is None


async def test_an_old_link_is_told_from_a_wrong_one(server: Server) -> None:
    async with visitor(server) as http:
        made = await signed_up(http)
        (message,) = await sent(server, made["user"]["id"], EMAIL)
        await server.sql("UPDATE email_tokens SET expires_at = now() - interval '1 s'")
        with code("TOKEN_EXPIRED"):
            await http.account.verify_email(token_of(message))
        await http.account.resend_email(made["verification_token"])
        gone, fresh = await sent(server, made["user"]["id"], EMAIL)
        assert gone == {}
        await http.account.verify_email(token_of(fresh))
        assert await http.account.email_status(made["verification_token"]) == {"verified": True}


async def test_one_link_opened_many_times_at_once_counts_once(server: Server) -> None:
    heard: list[str] = []

    async def hook(tx: Tx, user_id: UUID, email: str) -> list[tuple[UUID, str, bytes]]:
        assert await tx.fetchval("SELECT email_verified($1, $2)", user_id, email), "in the transaction that notes it"
        heard.append(email)
        return []

    server.app.accounts.on_verified.append(hook)
    async with visitor(server) as http:
        made = await signed_up(http)
        (message,) = await sent(server, made["user"]["id"], EMAIL)
        answers = await asyncio.gather(
            *(http.account.verify_email(token_of(message)) for _ in range(6)), return_exceptions=True
        )
        assert sorted(getattr(answer, "code", "ok") for answer in answers) == ["INVALID_TOKEN"] * 5 + ["ok"]
    assert heard == [made["user"]["email"].lower()]


async def test_resending_is_limited_and_never_says_whether_there_is_anything(server: Server) -> None:
    async with visitor(server) as http:
        made = await signed_up(http)
        known, unknown = made["verification_token"], str(uuid4())
        for handle in (known, unknown, "no handle"):
            answers = [await http.account.resend_email(handle) for _ in range(5)]
            assert answers == [{"success": True}] * 5
            assert (await denied(http.account.resend_email(handle))).code == "RATE_LIMITED"
        assert await http.account.email_status(unknown) == {"verified": False}
        assert await http.call("GET", "/v1/auth/email/status") == {"verified": False}
        messages = await sent(server, made["user"]["id"], EMAIL)
        assert len({token_of(message) for message in messages}) == 5, "the mail of the sign-up is one of five"
        await http.account.verify_email(token_of(messages[2]))
        await server.sql("DELETE FROM attempts")
        await http.account.resend_email(known)
        assert len(await sent(server, made["user"]["id"], EMAIL)) == 5, "nothing left to verify"


async def test_a_handle_has_one_name_and_a_mailbox_one_count(server: Server) -> None:
    async with visitor(server) as http:
        made = await signed_up(http)
        user_id, handle = made["user"]["id"], made["verification_token"]
        await server.sql("DELETE FROM attempts")
        for other in (f"{{{handle}}}", f"urn:uuid:{handle}", handle.replace("-", ""), handle.replace("-", "", 1) + "-"):
            await http.account.resend_email(other)
            assert await http.account.email_status(other) == {"verified": False}
        assert len(await sent(server, user_id, EMAIL)) == 1, "none of these is a handle"
        for spelt in (handle, handle.upper(), handle.title(), handle, handle.upper()):
            await http.account.resend_email(spelt)
        assert (await denied(http.account.resend_email(handle.title()))).code == "RATE_LIMITED"
        assert len(await sent(server, user_id, EMAIL)) == 6
        (row,) = await server.sql("SELECT id FROM email_tokens WHERE id <> $1 LIMIT 1", UUID(handle))
        assert await http.account.resend_email(str(row["id"])) == {"success": True}
        assert len(await sent(server, user_id, EMAIL)) == 6, "another handle leads to the same mailbox"


async def test_another_slice_asks_in_its_own_transaction(server: Server) -> None:
    """As the registration of a provider does: rolled back with it, no mail and no handle."""
    person = await server.person()
    await person.http.me()
    actor = Actor(person.user_id)
    with pytest.raises(RuntimeError):
        async with server.app.pg.acting(actor) as tx:
            await server.app.accounts.ask_email(tx, person.user_id, "Him@Example.com")
            raise RuntimeError("the registration failed")
    assert await server.sql("SELECT 1 FROM email_tokens UNION ALL SELECT 1 FROM notifications") == []
    async with server.app.pg.acting(actor) as tx:
        handle, told = await server.app.accounts.ask_email(tx, person.user_id, "Him@Example.com")
    assert [(user, name) for user, name, _ in told] == [(person.user_id, "notification.created")]
    assert str(handle).encode() in told[0][2]
    (message,) = await sent(server, person.user_id, EMAIL)
    await person.http.account.verify_email(token_of(message))
    async with server.app.pg.acting(actor) as tx:
        again, told = await server.app.accounts.ask_email(tx, person.user_id, "him@example.com")
        contact = await server.app.accounts.contact_of(tx, person.user_id)
    assert told == [], "he has proved it before"
    assert await person.http.account.email_status(again) == {"verified": True}
    assert contact is not None
    assert contact.email == "him@example.com", "without an address of his own it is the one he proved"


async def test_nobody_is_written_to_where_he_has_not_proved_to_be(server: Server) -> None:
    async with visitor(server) as http:
        made = await signed_up(http, phone_number="0812345678")
    user_id = UUID(made["user"]["id"])

    async def reached() -> tuple[str | None, str | None]:
        async with server.app.pg.system() as conn:
            contact = await server.app.accounts.contact_of(conn, user_id)
        assert contact is not None
        return contact.email, contact.phone

    assert await reached() == (None, None)
    proved = (
        "INSERT INTO verified_emails (user_id, email, verified_at) VALUES ($1, $2, now() - make_interval(days => $3))"
    )
    await server.sql(proved, user_id, "old@example.com", 2)
    await server.sql(proved, user_id, "new@example.com", 1)
    assert await reached() == ("new@example.com", None), "the last one that he proved, not the one that he claims"
    await server.sql(proved, user_id, made["user"]["email"].lower(), 3)
    async with visitor(server, made["tokens"]["access_token"]) as own:
        await own.account.send_phone_code()
        await own.account.verify_phone((await sent(server, user_id, PHONE))[-1]["code"])
        assert await reached() == (made["user"]["email"], "+66812345678")
        await own.patch_me(phone_number="0899999999")
    assert await reached() == (made["user"]["email"], None)


async def test_opening_the_link_does_nothing_but_show_a_button(server: Server) -> None:
    async with visitor(server) as http, aiohttp.ClientSession() as session:
        made = await signed_up(http)
        (message,) = await sent(server, made["user"]["id"], EMAIL)
        link = message["link"].replace("https://rides.example", server.url())
        for url in (link, server.url() + "/v1/auth/password/reset?token=<script>"):
            async with session.get(url) as answer:
                text = await answer.text()
                assert (answer.status, answer.content_type, answer.charset) == (200, "text/html", "utf-8")
            assert "<button" in text
            assert 'method: "POST"' in text
            assert "@" not in text, "every blank is filled in"
            assert token_of(message) not in text
            assert "token=" not in text
            assert not any(word in text for word in ("http://", "https://", "src=")), "self-contained"
        assert await http.account.email_status(made["verification_token"]) == {"verified": False}


# --- phone


async def code_for(server: Server, person: Person) -> str:
    return (await sent(server, person.user_id, PHONE))[-1]["code"]


def wrong(right: str, n: int = 1) -> str:
    return f"{(int(right) + n) % 1_000_000:06d}"


async def test_a_code_makes_the_number_his_own_until_he_takes_another(server: Server) -> None:
    person = await server.person()
    with code("VALIDATION_ERROR"):  # no number to send to
        await person.http.account.send_phone_code()
    assert await person.http.account.send_phone_code("0812345678") == {"expires_in_s": 300}
    (message,) = await sent(server, person.user_id, PHONE)
    assert message["address"] == "+66812345678"
    assert message["code"] not in str(await server.sql("SELECT * FROM notifications"))
    me = await person.http.account.verify_phone(message["code"])
    assert (me["phone_number"], me["phone_verified"]) == ("+66812345678", True)
    with code("INVALID_TOKEN"):
        await person.http.account.verify_phone(message["code"])
    await person.http.account.send_phone_code()
    assert (await person.http.patch_me(phone_number="0812345678"))["phone_verified"] is True
    assert (await person.http.patch_me(phone_number="0899999999"))["phone_verified"] is False


async def test_only_the_newest_code_counts_and_for_five_minutes(server: Server) -> None:
    person, stranger = await server.person(), await server.person()
    with code("INVALID_TOKEN"):
        await person.http.account.verify_phone("123456")
    await person.http.account.send_phone_code("0812345678")
    old = await code_for(server, person)
    await person.http.account.send_phone_code("0812345678")
    new = await code_for(server, person)
    assert (await sent(server, person.user_id, PHONE))[0] == {}
    for whose, what in ((person, old), (stranger, new)):
        with code("INVALID_TOKEN"):
            await whose.http.account.verify_phone(what)
    await server.sql("UPDATE phone_codes SET expires_at = now() - interval '1 s'")
    with code("TOKEN_EXPIRED"):
        await person.http.account.verify_phone(new)
    with code("VALIDATION_ERROR"):
        await person.http.account.verify_phone("12345")


async def test_a_code_is_tried_five_times_however_many_come_at_once(server: Server) -> None:
    person = await server.person()
    async with visitor(server, person.token, patience_s=WITHIN_S) as http:
        await http.account.send_phone_code("0812345678")
        right = await code_for(server, person)
        tries = [wrong(right, n) for n in range(1, 21)]
        answers = await asyncio.gather(*(http.account.verify_phone(one) for one in tries), return_exceptions=True)
        codes = [getattr(answer, "code", "right") for answer in answers]
        assert codes.count("INVALID_TOKEN") == 5, codes
        assert codes.count("RATE_LIMITED") == 15, codes
        assert (await denied(http.account.verify_phone(right))).code == "RATE_LIMITED"
        await server.sql("DELETE FROM attempts")
        await http.account.send_phone_code("0812345678")
        right = await code_for(server, person)
        answers = await asyncio.gather(*(http.account.verify_phone(right) for _ in range(4)), return_exceptions=True)
        assert sorted(getattr(answer, "code", "right") for answer in answers) == ["INVALID_TOKEN"] * 3 + ["right"]


async def test_codes_are_sent_so_often_and_no_more(server: Server) -> None:
    person = await server.person()
    async with visitor(server, person.token) as http:
        answers = await asyncio.gather(
            *(http.account.send_phone_code("0812345678") for _ in range(12)), return_exceptions=True
        )
    codes = [getattr(answer, "code", "sent") for answer in answers]
    assert (codes.count("sent"), codes.count("RATE_LIMITED")) == (5, 7), codes


async def test_many_users_together_send_one_number_no_more_than_one_could(server: Server) -> None:
    people = [await server.person() for _ in range(6)]
    await people[0].http.me()
    await server.sql("UPDATE users SET phone_number = '+66 81 234 5678' WHERE id = $1", people[0].user_id)
    await people[0].http.account.send_phone_code()
    for person, spelt in zip(people[1:5], ("0812345678", "+66812345678") * 2, strict=True):
        await person.http.account.send_phone_code(spelt)
    async with visitor(server, people[5].token) as http:
        assert (await denied(http.account.send_phone_code("0812345678"))).code == "RATE_LIMITED"
        await http.account.send_phone_code("0812345679")


def test_codes_have_six_digits_and_hang_on_the_key() -> None:
    row = uuid4()
    assert phone_code(b"one", row) == phone_code(b"one", row)
    found = [phone_code(b"one", uuid4()) for _ in range(500)]
    assert all(len(one) == 6 and one.isdigit() for one in found)
    assert len(set(found)) > 490
    assert phone_code(b"two", row) != phone_code(b"one", row) or phone_code(b"three", row) != phone_code(b"one", row)
