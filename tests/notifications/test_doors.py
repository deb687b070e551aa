"""One conformance suite for every door: what it takes arrives as it was, and what it cannot do it says in the words of `Door`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest

from dispatch.kit.clock import ManualClock, SystemClock
from dispatch.notifications.doors import (
    Fcm,
    MailFolder,
    Recording,
    SmsFolder,
    SmsGateway,
    Smtp,
    WebPush,
    endpoint_problem,
)
from dispatch.notifications.doors.http import retry_after_s
from dispatch.notifications.doors.webpush import PublicResolver
from dispatch.notifications.model import Device, DeviceKind, Door, Gone, Message, NeverDeliverable, NotNow
from dispatch.settings import BadSettings, load
from tests.support.gateways import SMS_PASSWORD, SMS_USER, Gateways, Reply, gateways
from tests.support.mail import mail_server

TITLE, BODY = "ยืนยัน 😀 <b>", "สวัสดี & مرحبا\n50 % {off} <script>"


@dataclass
class Stage:
    door: Door
    to: str | Device
    arrived: Callable[[], list[tuple[str | None, str]]]
    """(title or None where the way has none, body) of what arrived, oldest first."""
    refuse: Callable[[str], None] | None = None
    """Make the next message end so: never, gone, later, patience, hang. None: this door leads to a place that takes everything."""
    words: tuple[str, ...] = ()

    def message(self) -> Message:
        return Message(uuid4(), self.to, TITLE, BODY, "th", data={"id": str(uuid4()), "type": "job_accepted"})


def refuser(double: Gateways, **replies: Reply | int) -> Callable[[str], None]:
    return lambda word: double.script.append(replies[word])


@pytest.fixture(params=["recording", "mail_folder", "sms_folder", "smtp", "sms", "fcm", "webpush"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    patience = Reply(429, {"Retry-After": "7"})
    async with AsyncExitStack() as stack:
        match request.param:
            case "recording":
                door = Recording()
                words = {"never": NeverDeliverable("no"), "gone": Gone("no"), "later": NotNow("no")}
                words["patience"] = NotNow("no", after_s=7.0, healthy=True)
                made = Stage(
                    door,
                    "somebody",
                    lambda: [(one.title, one.body) for one in door.taken],
                    lambda word: door.refuse_with.append(words[word]),
                    tuple(words),
                )
            case "mail_folder":
                made = Stage(
                    MailFolder(tmp_path, sender="a@test.invalid", clock=ManualClock()),
                    "b@test.invalid",
                    lambda: [
                        (mail["Subject"], mail.get_body(("plain",)).get_content().rstrip("\n"))  # type: ignore[union-attr]
                        for file in sorted(tmp_path.glob("*.eml"))
                        for mail in [message_from_bytes(file.read_bytes(), policy=policy.default)]
                    ],
                )
            case "sms_folder":
                made = Stage(
                    SmsFolder(tmp_path),
                    "+66812345678",
                    lambda: [
                        (None, file.read_text().partition("\n\n")[2].rstrip("\n")) for file in tmp_path.glob("*.txt")
                    ],
                )
            case "smtp":
                server = await stack.enter_async_context(mail_server())

                def script(word: str) -> None:
                    if word == "hang":
                        server.release.clear()
                    elif word == "later":
                        server.data_answers.append("451 try later")
                    else:
                        server.answers.append({"never": "550 nobody here", "patience": "450 mailbox busy"}[word])

                made = Stage(
                    Smtp(
                        server.host, server.port, security="none", user=None, password=None,
                        sender="Dispatch <a@test.invalid>", clock=ManualClock(), timeout_s=5,
                    ),
                    "b@test.invalid",
                    lambda: [
                        (mail["Subject"], mail.get_body(("plain",)).get_content().replace("\r\n", "\n").rstrip("\n"))  # type: ignore[union-attr]
                        for mail in server.mails
                    ],
                    script,
                    ("never", "patience", "later", "hang"),
                )  # fmt: skip
            case "sms":
                double = await stack.enter_async_context(gateways())
                made = Stage(
                    SmsGateway(f"{double.url}/Messages.json", user=SMS_USER, password=SMS_PASSWORD, sender="Dispatch"),
                    "+66812345678",
                    lambda: [(None, form["Body"]) for form in double.sms],
                    refuser(double, never=400, later=500, patience=patience, hang=0),
                    ("never", "later", "patience", "hang"),
                )
            case "fcm":
                double = await stack.enter_async_context(gateways())
                unregistered = Reply(404, body={"error": {"details": [{"errorCode": "UNREGISTERED"}]}})
                made = Stage(
                    Fcm(double.account(), url=double.url, clock=SystemClock()),
                    Device(uuid4(), DeviceKind.FCM, "token-1"),
                    lambda: [(one["notification"]["title"], one["notification"]["body"]) for one in double.fcm],
                    refuser(double, never=400, gone=unregistered, later=503, patience=patience, hang=0),
                    ("never", "gone", "later", "patience", "hang"),
                )
            case _:
                double = await stack.enter_async_context(gateways())
                browser = double.browser()
                keys = browser.subscription["keys"]
                made = Stage(
                    WebPush(double.vapid_key(), subject="mailto:a@test.invalid", clock=SystemClock(), loopback=True),
                    Device(uuid4(), DeviceKind.WEBPUSH, browser.endpoint, keys["p256dh"], keys["auth"]),
                    lambda: [
                        (said["title"], said["body"]) for _, _, body in double.pushes for said in [browser.read(body)]
                    ],
                    refuser(double, never=413, gone=410, later=500, patience=patience, hang=0),
                    ("never", "gone", "later", "patience", "hang"),
                )
        yield made
        await made.door.close()
        await made.door.close()


async def test_what_a_door_takes_arrives_as_it_was(stage: Stage) -> None:
    await stage.door.send(stage.message())
    ((title, body),) = stage.arrived()
    assert title in (TITLE, None)
    assert body == BODY


async def test_what_a_door_cannot_do_it_says_and_the_next_message_passes(stage: Stage) -> None:
    for word in stage.words:
        assert stage.refuse is not None
        if word == "hang":
            continue
        stage.refuse(word)
        with pytest.raises(NeverDeliverable if word in ("never", "gone") else NotNow) as refusal:
            await stage.door.send(stage.message())
        assert isinstance(refusal.value, Gone) == (word == "gone")
        if isinstance(refusal.value, NotNow):
            assert refusal.value.healthy == (word == "patience")
            assert refusal.value.after_s in ((7.0, None) if word == "patience" else (None,))
        for private in ("812345678", "b@test.invalid", "token-1", "/push/"):
            assert private not in str(refusal.value), "an address stands in what operators read"
    await stage.door.send(stage.message())
    assert len(stage.arrived()) == 1


async def test_a_door_that_was_left_in_the_middle_opens_again(stage: Stage) -> None:
    if "hang" not in stage.words:
        return  # it leads to a place that cannot hang
    assert stage.refuse is not None
    stage.refuse("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await stage.door.send(stage.message())
    if isinstance(stage.door, Smtp):
        return  # the double holds everybody until it is released; each message has a connection of its own
    await stage.door.send(stage.message())
    assert len(stage.arrived()) == 1


async def test_a_message_sent_twice_can_be_told_by_its_name(stage: Stage) -> None:
    message = stage.message()
    await stage.door.send(message)
    await stage.door.send(message)
    if isinstance(stage.door, MailFolder | SmsFolder):
        assert len(stage.arrived()) == 1, "a file replaces itself"


async def test_an_address_that_no_header_can_hold_is_refused_for_good(tmp_path: Path) -> None:
    door = MailFolder(tmp_path, sender="a@test.invalid", clock=ManualClock())
    for address in ("nobody", "a@b\r\nBcc: c@d", "", "a b@c.d", "@", "a@"):
        with pytest.raises(NeverDeliverable):
            await door.send(Message(uuid4(), address, "t", "b", "en"))
    assert not list(tmp_path.glob("*.eml"))


async def test_html_is_escaped_links_only_to_ours_and_arabic_reads_from_the_right(tmp_path: Path) -> None:
    link = 'https://a.test/x?a=1&b="2'
    door = MailFolder(tmp_path, sender="a@test.invalid", clock=ManualClock())
    plain = Message(uuid4(), "b@test.invalid", "<i>", f"<script>\n{link}\nhttps://evil.test", "ar", link=link)
    for locale, way in (("ar", "rtl"), ("th", "ltr"), ("en", "ltr")):
        await door.send(replace(plain, locale=locale))
        mail = message_from_bytes((tmp_path / f"{plain.id}.eml").read_bytes(), policy=policy.default)
        html = mail.get_body(("html",)).get_content()  # type: ignore[attr-defined]
        assert f'<html lang="{locale}" dir="{way}">' in html
        assert "<script>" not in html and "<i>" not in html
        assert html.count("<a ") == 1 and 'href="https://a.test/x?a=1&amp;b=&quot;2"' in html


async def test_fcm_asks_for_a_token_once_and_again_when_it_is_refused() -> None:
    async with gateways() as double:
        door = Fcm(double.account(), url=double.url, clock=SystemClock())
        message = Message(uuid4(), Device(uuid4(), DeviceKind.FCM, "t"), "t", "b", "en", urgent=True)
        await door.send(message)
        await door.send(message)
        assert double.grants == 1
        double.tokens_granted.clear()
        with pytest.raises(NotNow):
            await door.send(message)
        await door.send(message)
        assert double.grants == 2
        double.tokens_granted.clear()
        door._token_until = 0.0
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(door.send(message))
        assert double.grants == 3
        double.by_token["t"] = Reply(403, body={"error": {"details": [{"errorCode": "SENDER_ID_MISMATCH"}]}})
        with pytest.raises(Gone):
            await door.send(message)
        double.by_token["t"] = Reply(404, body={"message": "no such page"})
        with pytest.raises(NotNow):
            await door.send(message)
        assert [one["android"]["priority"] for one in double.fcm] == ["HIGH"] * 13
        assert {one["android"]["notification"]["tag"] for one in double.fcm} == {str(message.id)}
        await door.close()


async def test_a_service_keeps_a_push_no_longer_than_it_is_of_use() -> None:
    async with gateways() as double:
        browser, clock = double.browser(), ManualClock()
        keys = browser.subscription["keys"]
        fcm = Fcm(double.account(), url=double.url, clock=SystemClock())
        web = WebPush(double.vapid_key(), subject="mailto:a@test.invalid", clock=clock, loopback=True)
        phone = Device(uuid4(), DeviceKind.FCM, "t")
        tab = Device(uuid4(), DeviceKind.WEBPUSH, browser.endpoint, keys["p256dh"], keys["auth"])
        for ttl_s in (9, None):
            await fcm.send(Message(uuid4(), phone, "t", "b", "en", ttl_s=ttl_s))
            await web.send(Message(uuid4(), tab, "t", "b", "en", ttl_s=ttl_s))
        assert [one["android"].get("ttl") for one in double.fcm] == ["9s", None]
        assert ["apns-expiration" in one["apns"]["headers"] for one in double.fcm] == [True, False]
        assert [headers["TTL"] for _, headers, _ in double.pushes] == ["9", "86400"]
        await fcm.close()
        await web.close()


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://push.example.com/x", "https://127.0.0.1/x", "https://localhost/x", "https://10.0.0.1/x", "https://[::1]/x",
        "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://2130706433/", "https://0x7f.1/",
        "https://127.1/", "https://postgres/x", "https://postgres.internal/", "https://a.localhost/", "https://user@push.example.com/",
        "https://push.example.com:5432/", "https://push.example.com:99999/", "https://", "ftp://push.example.com/", "https://[fe80::1]/",
        "https://100.64.0.1/", "https://0.0.0.0/", "https://224.0.0.1/", "https://x.local./",
        "https://[::127.0.0.1]/", "https://[fec0::1]/", "https://192.88.99.1/", "https://8.8.8.8/x", "https://[2001:4860:4860::8888]/x",
    ],
)  # fmt: skip
def test_an_endpoint_inside_our_network_is_none(endpoint: str) -> None:
    assert endpoint_problem(endpoint) is not None


@pytest.mark.parametrize(
    "endpoint",
    ["https://push.example.com/x", "https://updates.push.services.mozilla.com:443/wpush/v2/gA"],
)
def test_an_endpoint_of_a_push_service_is_one(endpoint: str) -> None:
    assert endpoint_problem(endpoint) is None


async def test_a_name_that_leads_inside_is_not_connected_to() -> None:
    resolver = PublicResolver(loopback=False)
    inside = ("::127.0.0.1", "::1", "fec0::1", "fe80::1", "64:ff9b::a00:1", "::ffff:10.0.0.1", "2002:7f00:1::", "192.88.99.1", "10.0.0.1")  # fmt: skip
    assert [name for name in inside if resolver._fits(ip_address(name))] == []
    assert all(resolver._fits(ip_address(name)) for name in ("8.8.8.8", "2001:4860:4860::8888"))
    with pytest.raises(OSError, match="no public address"):
        await resolver.resolve("localhost", 443)
    await resolver.close()


def test_retry_after_is_a_number_or_a_date() -> None:
    clock = ManualClock()
    assert retry_after_s("12") == 12.0
    assert retry_after_s("Fri, 02 Jan 2026 03:04:35 GMT", clock) == 30.0
    assert retry_after_s("Thu, 01 Jan 2026 00:00:00 GMT", clock) == 0.0
    for odd in (None, "", "soon", "-1", "1e9", "9" * 30, "١٢"):
        assert retry_after_s(odd, clock) is None


@pytest.mark.parametrize("account", ["", "{}", "{broken", "/nowhere/account.json", "[]"])
def test_an_account_that_is_none_is_refused_at_start_without_showing_it(account: str) -> None:
    with pytest.raises(ValueError, match="fcm_account"):
        Fcm(account, url="https://fcm.test", clock=ManualClock())


@pytest.mark.parametrize(
    "key", ["", "short", "secret-secret-secret", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"]
)
def test_a_vapid_key_that_is_none_is_refused_at_start_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="vapid_private_key") as refusal:
        WebPush(key, subject="mailto:a@test.invalid", clock=ManualClock())
    assert "secret-" not in str(refusal.value)


def test_settings_that_make_no_door_are_refused_without_a_secret_in_the_message() -> None:
    smtp = {"mail_by": "smtp", "smtp_host": "mail.test"}
    sms = {"sms_by": "http", "sms_url": "https://a.test/x"}
    for given, named in (
        ({"mail_by": "smtp", "smtp_password": "hunter2"}, "smtp_host"),
        ({"sms_by": "http", "sms_url": "gateway"}, "sms_url"),
        ({"sms_by": "http", "sms_url": "ftp://a.test/x"}, "sms_url"),
        ({"sms_by": "http", "sms_url": "https://:x"}, "sms_url"),
        (sms, "sms_from"),
        (sms | {"sms_from": "x", "sms_password": "hunter2"}, "sms_user and sms_password"),
        ({"smtp_host": "mail.test"}, "smtp_host is set"),
        ({"smtp_user": "joe"}, "smtp_user is set"),
        ({"smtp_password": "hunter2"}, "smtp_password is set"),
        (smtp | {"smtp_password": "hunter2"}, "smtp_user and smtp_password"),
        (smtp | {"smtp_user": "joe"}, "smtp_user and smtp_password"),
        ({"sms_url": "https://a.test/x"}, "sms_url is set"),
        ({"storage_key_id": "a", "storage_secret": "hunter2"}, "without storage_bucket"),
        ({"mail_from": "Dispatch"}, "mail_from='Dispatch'"),
        ({"mail_from": "Dispatch <joe>"}, "mail_from"),
        ({"fcm_url": "fcm.googleapis.com"}, "fcm_url='fcm.goog"),
        ({"vapid_private_key": "hunter2"}, "vapid_subject"),
        ({"mail_by": "pigeon"}, "MAIL_BY='pigeon'"),
        ({"jwt_secrets": ["hunter2"]}, "jwt_secrets"),
    ):
        with pytest.raises(BadSettings, match=named) as refusal:
            load(**given)
        assert "hunter2" not in str(refusal.value)
