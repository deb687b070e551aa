"""Small real servers that answer like other companies': FCM v1 with its token office, a browser's push service, an SMS gateway.

One server on loopback plays all of them. `script` is what the next messages are answered with, then all are taken; a status of 0 hangs.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import http_ece
import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_VAPID = ec.generate_private_key(ec.SECP256R1())
SMS_USER, SMS_PASSWORD = "AC0123", "sms-secret"


@dataclass
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


class Browser:
    """A subscription whose keys the test holds, so that it can read what was pushed."""

    def __init__(self, url: str, name: str = "b1") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = bytes(range(16))
        self.endpoint = f"{url}/push/{name}"

    @property
    def subscription(self) -> dict[str, Any]:
        point = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return {"endpoint": self.endpoint, "keys": {"p256dh": _b64(point), "auth": _b64(self._auth)}}

    def read(self, body: bytes) -> dict[str, Any]:
        """What was pushed, decrypted."""
        plain = http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth, version="aes128gcm")
        said: dict[str, Any] = json.loads(plain)
        return said


class Gateways:
    """What came: `fcm` messages, `sms` forms, `pushes` (path, headers, body)."""

    def __init__(self) -> None:
        self.port = 0
        self.script: list[Reply | int] = []
        self.by_token: dict[str, Reply | int] = {}
        """FCM's answers to these tokens, always."""
        self.fcm: list[dict[str, Any]] = []
        self.sms: list[dict[str, str]] = []
        self.pushes: list[tuple[str, dict[str, str], bytes]] = []
        self.grants = 0
        self.asked = 0
        self.arrived = asyncio.Event()
        self.tokens_granted: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def browser(self, name: str = "b1") -> Browser:
        return Browser(self.url, name)

    def account(self) -> str:
        """The JSON of a service account whose token office is here."""
        pem = _RSA.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "project_id": "demo",
                "client_email": "sender@demo.test.invalid",
                "private_key": pem.decode(),
                "token_uri": f"{self.url}/token",
            }
        )

    @staticmethod
    def vapid_key() -> str:
        return _b64(_VAPID.private_numbers().private_value.to_bytes(32, "big"))

    def settings(self, *channels: str) -> dict[str, Any]:
        """Settings of a server that sends these here: push, sms."""
        given: dict[str, Any] = {}
        if "push" in channels:
            given |= {
                "fcm_account": self.account(),
                "fcm_url": self.url,
                "vapid_private_key": self.vapid_key(),
                "vapid_subject": "mailto:ops@test.invalid",
                "webpush_loopback": True,
            }
        if "sms" in channels:
            given |= {
                "sms_by": "http",
                "sms_url": f"{self.url}/Messages.json",
                "sms_user": SMS_USER,
                "sms_password": SMS_PASSWORD,
                "sms_from": "Dispatch",
            }
        return given

    async def _scripted(self, otherwise: Reply | int | None = None) -> web.Response | None:
        self.asked += 1
        self.arrived.set()
        said = otherwise if otherwise is not None else self.script.pop(0) if self.script else None
        if said is None:
            return None
        reply = said if isinstance(said, Reply) else Reply(said)
        if reply.status == 0:
            await asyncio.Event().wait()
        return web.json_response(reply.body or {}, status=reply.status, headers=reply.headers)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        claims = jwt.decode(
            str(form["assertion"]), _RSA.public_key(), algorithms=["RS256"], audience=f"{self.url}/token"
        )
        assert claims["iss"] == "sender@demo.test.invalid" and "firebase.messaging" in claims["scope"]
        self.grants += 1
        token = f"granted-{self.grants}"
        self.tokens_granted.add(f"Bearer {token}")
        return web.json_response({"access_token": token, "expires_in": 3600, "token_type": "Bearer"})

    async def _send(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in self.tokens_granted:
            return web.json_response({"error": {"status": "UNAUTHENTICATED"}}, status=401)
        message = (await request.json())["message"]
        refused = await self._scripted(self.by_token.get(message["token"]))
        if refused is not None and refused.status >= 300:
            return refused
        self.fcm.append(message)
        return web.json_response({"name": f"projects/demo/messages/{len(self.fcm)}"})

    async def _push(self, request: web.Request) -> web.Response:
        body = await request.read()
        refused = await self._scripted()
        if refused is not None and refused.status >= 300:
            return refused
        self.pushes.append((request.path, dict(request.headers), body))
        return web.Response(status=201)

    async def _text(self, request: web.Request) -> web.Response:
        wanted = base64.b64encode(f"{SMS_USER}:{SMS_PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {wanted}":
            return web.json_response({"code": 20003}, status=401)
        form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
        refused = await self._scripted()
        if refused is not None and refused.status >= 300:
            return refused
        self.sms.append(form)
        return web.json_response({"sid": "SM1"}, status=201)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_post("/v1/projects/demo/messages:send", self._send)
        app.router.add_post("/push/{name}", self._push)
        app.router.add_post("/Messages.json", self._text)
        return app


@asynccontextmanager
async def gateways() -> AsyncIterator[Gateways]:
    """Listens on loopback while the block lasts."""
    double = Gateways()
    runner = web.AppRunner(double.app(), shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.port = runner.addresses[0][1]
    try:
        yield double
    finally:
        await runner.cleanup()


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
