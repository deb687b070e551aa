"""Canaries: words that only one person knows, driven through the real server at log level debug. None may turn up in logs, metrics, the
body of a refusal, or (but for the copy of an inbox, which its owner reads) Redis.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import orjson
import redis.asyncio as aioredis

from dispatch.accounts import mint
from dispatch.kit.clock import SystemClock
from dispatch.settings import Settings
from protocol.client import Client
from protocol.errors import Denied
from protocol.http import Http
from protocol.lifecycle import AdminAction, ServiceType, Stage
from tests.support.server import WITHIN_S, Inbox

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 60.0
LAT, LNG = 13.7512873, 100.5098731
PLACES = ("13.75128", "100.50987")
"""A metre is five decimals. What a search rounds to 200 m is nobody's place."""


class Kept:
    """Everything that must stay secret, and every refusal that was read."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {"latitude": PLACES[0], "longitude": PLACES[1]}
        self.refusals: list[str] = []

    def secret(self, what: str, word: str) -> str:
        assert len(word) >= 8, f"{word} would be found by chance"
        self.words[what] = word
        return word

    def found_in(self, text: str, *, but: tuple[str, ...] = ()) -> dict[str, str]:
        """What of it stands in this text, with what is around."""
        found = {}
        for what, word in self.words.items():
            at = text.find(word)
            if at >= 0 and not what.startswith(but or ("\0",)):
                found[what] = text[max(0, at - 200) : at + 100]
        return found


@asynccontextmanager
async def loud(database_url: str, redis_url: str, folder: Path) -> AsyncIterator[tuple[str, Path]]:
    """`dispatch serve` that logs all it can; (its address, its log)."""
    log = folder / "server.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("DISPATCH_")} | {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "DISPATCH_LOG_LEVEL": "debug", "DISPATCH_ADDRESS_RATE": "0", "DISPATCH_DRAIN_S": "0",
        "DISPATCH_REQUIRED_DOCUMENTS": "{}", "DISPATCH_DATA_DIR": str(folder / "data"), "DISPATCH_MAIL_BY": "folder", "DISPATCH_SMS_BY": "folder",
        "PYTHONASYNCIODEBUG": "0",
    }  # fmt: skip
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dispatch", "serve", "--workers", "1", "--port", "0", cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=errors
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while not (line := await process.stdout.readline()).startswith(b"ready: "):
                    assert line, log.read_text()
            yield line.split()[1].decode(), log
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(30):
                        await process.communicate()
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()


def token_of(user: UUID, *roles: str) -> str:
    s = Settings()
    return mint(
        user, list(roles) or ["customer"], secret=s.jwt_secrets[0].get_secret_value(), issuer=s.jwt_issuer, audience=s.jwt_audience,
        roles_claim=s.jwt_roles_claim, at=SystemClock().now(), ttl_s=600,
    )  # fmt: skip


async def sql(url: str, query: str, *args: object) -> list[asyncpg.Record]:
    conn = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
    try:
        rows: list[asyncpg.Record] = await conn.fetch(query, *args)
        return rows
    finally:
        await conn.close()


async def refused(kept: Kept, work: Any) -> None:
    """Somebody is told no; what he is told is kept. AssertionError when he is told yes."""
    try:
        answer = await work
    except Denied as no:
        kept.refusals.append(f"{no.code} {no.message} {no.details}")
    else:
        raise AssertionError(f"not refused: {answer}")


async def people_come_and_prove_who_they_are(kept: Kept, url: str, mail: Path) -> str:
    """Sign-up, sessions, proofs, each right once and wrong once; the customer's access token."""
    email = kept.secret("e-mail", f"canary.{uuid4().hex}@secret.invalid")
    password = kept.secret("password", f"Canary-{uuid4().hex}")
    phone = kept.secret("phone", "+66812793651")
    async with Http(url, "") as anyone:
        made = await anyone.account.sign_up(email, password, first_name="Canary", last_name="Bird", phone_number=phone)
        for name, token in made["tokens"].items():
            if isinstance(token, str) and len(token) > 20:
                kept.secret(f"{name} of sign-up", token)
        kept.secret("verification token", made["verification_token"])
        await refused(kept, anyone.account.sign_up(email, password, first_name="x", last_name="y"))
        await refused(kept, anyone.account.sign_in(email, kept.secret("wrong password", f"Wrong-{uuid4().hex}")))
        again = await anyone.account.sign_in(email, password)
        kept.secret("access token", again["access_token"])
        kept.secret("refresh token", again["refresh_token"])
        fresh = await anyone.account.refresh(again["refresh_token"])
        kept.secret("fresh access token", fresh["access_token"])
        kept.secret("fresh refresh token", fresh["refresh_token"])
        await anyone.account.forgot_password(email)
        await refused(kept, anyone.account.verify_email(kept.secret("wrong link", uuid4().hex * 2)))
        await refused(kept, anyone.account.reset_password(kept.secret("wrong reset", uuid4().hex * 2), password))
    token: str = fresh["access_token"]
    async with Http(url, token) as customer:
        await customer.account.send_phone_code()
        await refused(kept, customer.account.verify_phone("000000"))
        await customer.patch_me(phone_number=phone)
    async with asyncio.timeout(WITHIN_S):
        while not (mails := [path.read_text(errors="replace") for path in mail.rglob("*") if path.is_file()]):
            await asyncio.sleep(0.05)
    assert all(mails)
    return token


async def a_ride_is_given(kept: Kept, url: str, database_url: str, customer_token: str) -> None:
    """From the driver's papers to his money: bank number, device, places, notes, a ticket in an address."""
    user = uuid4()
    driver_token, office_token = (
        kept.secret("driver's token", token_of(user)),
        kept.secret("admin's token", token_of(uuid4(), "admin")),
    )
    told, inbox = Inbox(), Inbox()
    async with (
        Http(url, driver_token) as driver,
        Http(url, office_token) as office,
        Http(url, customer_token) as customer,
    ):
        made = await driver.register(
            first_name="Driver", last_name="Canary", email=kept.secret("driver's e-mail", f"driver.{uuid4().hex}@secret.invalid"),
            phone_number=kept.secret("driver's phone", "0891726354"), service_types=["ride"],
        )  # fmt: skip
        await sql(database_url, "INSERT INTO verified_emails VALUES ($1, $2)", user, kept.words["driver's e-mail"])
        await office.provider_action(made["provider_id"], AdminAction.APPROVE)
        await driver.notices.register_fcm(kept.secret("device token", f"fcm-{uuid4().hex}"))
        document = (await driver.papers.upload("bank_account", b"%PDF-1.7\n"))["document_id"]
        await driver.wallet.add_bank_account(
            bank_code="KBANK", account_number=kept.secret("bank number", "7539518264"), account_name="Driver Canary", document_id=document
        )  # fmt: skip
        await refused(kept, driver.wallet.withdraw(10_000, str(uuid4())))
        link = await driver.papers.link(document)
        kept.secret("file link", link["url"].rsplit("/", 1)[1])
        async with (
            Client(url, driver_token, device="d", on_event=told.event) as phone,
            Client(url, customer_token, device="c", on_event=inbox.event) as app,
        ):
            await phone.online(LAT, LNG)
            phone.locate(LAT, LNG)
            place = {"lat": LAT, "lng": LNG, "address": kept.secret("address", f"{uuid4().hex} Canary Road")}
            job = await customer.create_job(
                ServiceType.RIDE, place, place | {"lat": LAT + 0.02}, note=kept.secret("note", f"the key lies under {uuid4().hex}")
            )  # fmt: skip
            offer = (await told.named("offer.created")).data
            await phone.accept(UUID(job["id"]), UUID(offer["offer_id"]), offer["round"])
            await app.track(UUID(job["id"]))
            phone.locate(LAT, LNG)
            for stage in (Stage.ARRIVED, Stage.IN_PROGRESS, Stage.COMPLETED):
                await phone.advance(UUID(job["id"]), stage)
            await inbox.status(job["id"], "completed")
            await refused(
                kept, phone.auth(kept.secret("nobody's token", f"eyJhbGciOiJIUzI1NiJ9.{uuid4().hex}.{uuid4().hex}"))
            )
        await office.provider_action(made["provider_id"], AdminAction.SUSPEND, "canary")


async def nonsense_is_asked(kept: Kept, url: str, token: str) -> None:
    """Refusals of every layer, with secrets in every place that a request has."""
    ticket = ""
    async with aiohttp.ClientSession() as session:
        mine = {"Authorization": f"Bearer {token}"}
        async with session.post(f"{url}/v1/socket/tickets", headers=mine) as answer:
            ticket = kept.secret("ticket", (await answer.json())["ticket"])
        for _ in range(2):  # the second time it is used up
            async with session.ws_connect(f"{url}/v1/socket?ticket={ticket}", protocols=["dispatch.v1"]) as ws:
                await ws.send_str('{"type":"hello","device":"t","attempt":1}')
                await ws.receive()
        words = {what: word for what, word in kept.words.items()}
        bodies: list[Any] = [
            {"email": words["e-mail"], "password": {"is": words["password"]}},
            {"email": [words["e-mail"]], "password": words["password"], "phone_number": words["phone"]},
            f'{{"email":"{words["e-mail"]}","password":"{words["password"]}"',
            {"token": words["access token"], "code": words["password"]},
            {"account_number": int(words["bank number"]), "bank_code": words["bank number"]},
            {"pickup": {"lat": f"{LAT}", "lng": LNG, "address": 7}, "service_type": "ride"},
        ]
        for path in (
            "/v1/auth/sign-in",
            "/v1/auth/sign-up",
            "/v1/jobs",
            "/v1/quotes",
            "/v1/providers",
            "/v1/providers/me/bank-accounts",
            "/v1/devices",
        ):
            for body in bodies:
                data = body if isinstance(body, str) else orjson.dumps(body)
                async with session.post(
                    f"{url}{path}?token={words['access token']}", data=data, headers=mine
                ) as answer:
                    kept.refusals.append(await answer.text())
                    assert answer.status >= 400, (path, body)
                async with session.post(f"{url}{path}", data=data, headers=mine) as answer:
                    kept.refusals.append(await answer.text())
                    assert answer.status >= 400, (path, body)
        for header in (words["nobody's token"], words["access token"][:-4] + "AAAA", words["refresh token"]):
            for path in ("/v1/me", "/v1/socket", f"/v1/files/{header[:60]}"):
                async with session.get(f"{url}{path}", headers={"Authorization": f"Bearer {header}"}) as answer:
                    kept.refusals.append(await answer.text())


async def test_no_secret_is_told_to_anybody_who_need_not_know(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    kept = Kept()
    async with loud(database_url, redis_url, tmp_path) as (url, log):
        customer = await people_come_and_prove_who_they_are(kept, url, tmp_path / "data" / "mail")
        await a_ride_is_given(kept, url, database_url, customer)
        await nonsense_is_asked(kept, url, customer)
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
            metrics = await answer.text()
        in_redis = await everything_in(redis_url)
    assert len(kept.words) > 20 and len(kept.refusals) > 50
    assert log.stat().st_size > 1_000, "nothing was logged: nothing was looked at"
    assert kept.found_in(log.read_text(errors="replace")) == {}
    assert kept.found_in(metrics) == {}
    for refusal in kept.refusals:
        assert kept.found_in(refusal) == {}, refusal
    # The copy of an inbox is what its owner is told: the other's phone, the address, the note. Positions are what Redis is for.
    for key, value in in_redis.items():
        but = (
            ("phone", "driver's phone", "address", "note", "driver's e-mail", "latitude", "longitude", "e-mail")
            if ":in" in key
            else ()
        )
        assert kept.found_in(f"{key} {value}", but=but or ("latitude", "longitude")) == {}, key


async def everything_in(redis_url: str) -> dict[str, str]:
    """Every key of this database with what it holds, as text."""
    found = {}
    async with aioredis.Redis.from_url(redis_url) as client:
        async for key in client.scan_iter(count=1000):
            match await client.type(key):
                case b"string":
                    value: Any = await client.get(key)
                case b"hash":
                    value = await client.hgetall(key)
                case b"zset":
                    value = await client.zrange(key, 0, -1, withscores=True)
                case b"stream":
                    value = await client.xrange(key)
                case b"set":
                    value = await client.smembers(key)
                case b"list":
                    value = await client.lrange(key, 0, -1)
                case other:
                    raise AssertionError(f"teach me {other!r} of {key!r}")
            found[key.decode()] = repr(value)
    assert found
    return found
