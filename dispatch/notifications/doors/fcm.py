"""Push by Firebase Cloud Messaging, HTTP v1."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import orjson

from dispatch.kit.clock import Clock
from dispatch.notifications.doors.http import beginning, not_now, retry_after_s
from dispatch.notifications.model import Device, Gone, Message, NeverDeliverable, NotNow

_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_ASSERTION_S = 3600
_EARLY_S = 300  # a token is renewed this long before it ends


class Fcm:
    """`account` is the JSON of a service account, or the path of a file with it. Its token_uri gives the access token, which is kept."""

    def __init__(self, account: str, *, url: str, clock: Clock) -> None:
        try:
            text = account if account.lstrip().startswith("{") else Path(account).read_text(encoding="utf-8")
            said = orjson.loads(text)
            self._email, self._key = said["client_email"], said["private_key"]
            self._token_url, self._project = said["token_uri"], said["project_id"]
        except (OSError, KeyError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(
                f"fcm_account: not the JSON of a service account, nor a file with it ({type(error).__name__})"
            ) from None
        self._url = f"{url.rstrip('/')}/v1/projects/{self._project}/messages:send"
        self._clock = clock
        self._token = ""
        self._token_until = 0.0
        self._granting = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> None:
        assert isinstance(message.to, Device)
        async with self._granting:  # many that find no token ask for one
            token = await self._access_token()
        body = orjson.dumps({"message": _message(message, message.to.address, int(self._clock.now().timestamp()))})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with self._open().post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            said = _error(await beginning(answer))
            if answer.status == 200:
                return
            # A bare 404 is a wrong address of ours, and must not cost everybody his device.
            if "UNREGISTERED" in said or (answer.status == 404 and '"NOT_FOUND"' in said):
                raise Gone("FCM does not know the device any more")
            if "SENDER_ID_MISMATCH" in said:
                raise Gone("the token is of another Firebase project")
            if answer.status == 401:
                self._token_until = 0.0
                raise not_now(answer, self._clock)
            if answer.status == 400:
                if "INVALID_ARGUMENT" in said and "registration token" in said:
                    raise Gone("FCM says that the token is none")
                raise NeverDeliverable("FCM refused the message with 400")
            raise not_now(answer, self._clock)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    async def _access_token(self) -> str:
        now = self._clock.monotonic()
        if now < self._token_until:
            return self._token
        at = int(self._clock.now().timestamp())
        claims = {"iss": self._email, "scope": _SCOPE, "aud": self._token_url, "iat": at, "exp": at + _ASSERTION_S}
        try:
            assertion = jwt.encode(claims, self._key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise NotNow("the private key of the FCM account cannot be used") from error
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        async with self._open().post(self._token_url, data=form, allow_redirects=False) as answer:
            said = await beginning(answer)
            if answer.status != 200:
                after_s = retry_after_s(answer.headers.get("Retry-After"), self._clock)
                raise NotNow(f"no access token for FCM: status {answer.status}", after_s=after_s)
            try:
                granted: dict[str, Any] = orjson.loads(said)
                self._token, life_s = str(granted["access_token"]), float(granted.get("expires_in", _ASSERTION_S))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise NotNow("no access token for FCM: an answer that is none") from error
        self._token_until = now + max(0.0, life_s - min(_EARLY_S, life_s / 2))
        return self._token


def _message(message: Message, token: str, now: int) -> dict[str, Any]:
    tag = str(message.id)
    android: dict[str, Any] = {"priority": "HIGH" if message.urgent else "NORMAL", "notification": {"tag": tag}}
    apns = {"apns-collapse-id": tag, "apns-priority": "10" if message.urgent else "5"}
    if message.ttl_s is not None:
        # Without it FCM keeps a message for weeks until the phone is switched on.
        android["ttl"] = f"{message.ttl_s}s"
        apns["apns-expiration"] = str(now + message.ttl_s)
    return {
        "token": token,
        "notification": {"title": message.title, "body": message.body},
        "data": dict(message.data),
        # The same tag in every try: shown twice, a message replaces itself.
        "android": android,
        "apns": {"headers": apns},
    }


def _error(said: bytes) -> str:
    """The words of FCM's error that we know, out of a body that may be anything."""
    return said.decode("utf-8", errors="replace") if b"error" in said else ""
