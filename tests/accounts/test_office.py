"""Making an admin of an address that somebody has an account for already."""

from collections.abc import AsyncIterator

import pytest

from dispatch.accounts import first_admin
from protocol.notices import NoticeType
from tests.accounts.desk import PASSWORD, an_email, outcome, sent, signed_up, token_of, visitor
from tests.support.server import Server, code, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


async def test_who_squats_an_address_is_not_made_an_admin(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        squatter = await signed_up(http, email)
        made = await first_admin(server.settings, email.upper())
        assert (str(made.user_id), made.existed) == (squatter["user"]["id"], True)
        assert made.password is not None
        with code("UNAUTHORIZED"):
            await http.account.sign_in(email, PASSWORD)
        with code("SESSION_EXPIRED"):
            await http.account.refresh(squatter["tokens"]["refresh_token"])
        server.app.accounts.forget([made.user_id])
        async with visitor(server, squatter["tokens"]["access_token"]) as his:
            assert await outcome(his.me()) == "SESSION_EXPIRED"
        tokens = await http.account.sign_in(email, made.password)
    async with visitor(server, tokens["access_token"]) as boss:
        me = await boss.me()
        assert (me["roles"], me["email_verified"]) == (["admin", "customer"], True)


async def test_who_has_proved_his_address_is_promoted_and_keeps_his_password_and_sessions(server: Server) -> None:
    email = an_email()
    async with visitor(server) as http:
        person = await signed_up(http, email)
        (message,) = await sent(server, person["user"]["id"], NoticeType.EMAIL_VERIFICATION)
        await http.account.verify_email(token_of(message))
        made = await first_admin(server.settings, email)
        assert (str(made.user_id), made.existed, made.password) == (person["user"]["id"], True, None)
        assert await http.account.refresh(person["tokens"]["refresh_token"])
        tokens = await http.account.sign_in(email, PASSWORD)
    async with visitor(server, tokens["access_token"]) as boss:
        assert (await boss.me())["roles"] == ["admin", "customer"]
