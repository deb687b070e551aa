"""How the demo's drivers come: through a real server's open doors, with mails out of a folder and an office."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiohttp
import pytest

from bench.demo.account import Account
from bench.demo.hiring import PAPERS, Hired, hire
from bench.demo.mailbox import Mailbox, read_mail
from bench.demo.stage import PASSWORD, Stage, StageError
from dispatch.accounts import first_admin
from protocol.client import Http
from tests.support.server import Server, serving

ADMIN = "office@demo.invalid"


@pytest.fixture
async def server(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    asked = {"ride": [str(kind) for kind in PAPERS]}
    given = {"mail_by": "folder", "data_dir": tmp_path / "server", "required_documents": asked}
    async with serving(database_url, redis_url, **given) as running:
        yield running


def stage_of(server: Server, folder: Path, password: str) -> Stage:
    return Stage(
        url=server.url(),
        database_url=str(server.settings.database_url),
        redis_url=str(server.settings.redis_url),
        providers=(),
        customers=(),
        admin_password=password,
        server_pid=0,
        folder=folder,
        stamp_file=folder / "stamps",
        versions={},
    )


async def test_drivers_are_hired_in_order_and_may_work_and_their_tokens_are_renewed(
    server: Server, tmp_path: Path
) -> None:
    password = (await first_admin(server.settings, ADMIN)).password
    said: list[str] = []
    async with aiohttp.ClientSession() as session:
        hired = await hire(stage_of(server, tmp_path, str(password)), 3, session, said.append, admin=ADMIN)
        assert (hired.registered, hired.approved) == (3, 3)
        assert hired.figures().keys() == {"registered", "approved", "seconds"}
        assert "3 of 3 drivers have applied" in said
        assert "3 of 3 drivers are approved" in said
        for number, driver in enumerate(hired.drivers):
            record = await Http(server.url(), driver.token, session=session).provider()
            assert record["email"] == f"driver-{number}@demo.invalid"
            assert record["status"] == "approved"
            assert record["cleared_service_types"] == ["ride"]
            assert record["user_id"] == driver.user_id
        await renews(server, session, hired)


async def renews(server: Server, session: aiohttp.ClientSession, hired: Hired) -> None:
    """An account whose token is nearly over gets another; one whose refresh token was used up signs in again."""
    anyone = Http(server.url(), "", session=session)
    who = ("driver-0@demo.invalid", "cable car 0")
    old = await anyone.account.sign_in(*who) | {"expires_in_s": 0}
    account, left_behind = (Account(hired.drivers[0].user_id, *who, old) for _ in range(2))
    for driver in (account, left_behind):
        await driver.renew(anyone)
        assert driver.token() != old["access_token"]
        me = await Http(server.url(), driver.token, session=session).me()
        assert me["id"] == hired.drivers[0].user_id


async def test_an_office_that_is_refused_ends_the_demo_in_words(server: Server, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(StageError, match="a driver or the office was refused: UNAUTHORIZED"):
            await hire(stage_of(server, tmp_path, "wrong"), 1, session, print, admin=ADMIN)


def mail(to: str, text: str) -> bytes:
    made = EmailMessage()
    made["To"] = to
    made.set_content(text, cte="base64")
    made.add_alternative("<p>the same</p>", subtype="html")
    return made.as_bytes()


async def test_a_mailbox_gives_each_his_own_token_and_leaves_other_mails_alone(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "mail")
    ann, bob = box.expect("ann@demo.invalid"), box.expect("bob@demo.invalid")
    box.look()
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "1.eml").write_bytes(mail("ann@demo.invalid", "Welcome."))
    (tmp_path / "mail" / "2.eml").write_bytes(mail("eve@demo.invalid", "Open http://x/verify?token=hers please."))
    box.look()
    assert not ann.done() and not bob.done()
    (tmp_path / "mail" / "3.eml").write_bytes(mail("ann@demo.invalid", "Open\nhttp://x:1/verify?token=a_b-c\nplease."))
    box.look()
    assert ann.result() == "a_b-c"
    assert not bob.done()


def test_a_mail_without_a_link_has_no_token() -> None:
    assert read_mail(mail("ann@demo.invalid", "You are approved.")) == ("ann@demo.invalid", None)


def test_the_password_of_a_new_admin_is_found_in_what_the_command_says() -> None:
    found = PASSWORD.search("boss@example.com is an admin now (user 1)\npassword: s3cret-_\n")
    assert found is not None
    assert found.group(1) == "s3cret-_"
