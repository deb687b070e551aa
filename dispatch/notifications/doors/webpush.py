"""Push to browsers: encrypted for the one that subscribed, signed with our VAPID key.

The address is whatever a user's browser told us, so it is a door for requests into our own network. It must be https on a public
name; the name is looked up by ourselves and only public addresses are connected to; redirects are not followed; answers are not read
beyond their beginning.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from dispatch.kit.clock import Clock
from dispatch.notifications.doors.http import beginning, not_now
from dispatch.notifications.model import Device, Gone, Message, NeverDeliverable

_TTL_S = 24 * 3600
_CLAIM_S = 12 * 3600
_PRIVATE_NAMES = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home", ".arpa", ".test", ".invalid")


def endpoint_problem(endpoint: str, *, loopback: bool = False) -> str | None:
    """Why this is no endpoint that we would post to; None: it may be one. Names are looked up later, when they are used."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "not an address"
    if loopback and host in ("127.0.0.1", "localhost", "::1"):
        return None
    if parts.scheme != "https":
        return "must begin with https://"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "an address without user and fragment"
    if port not in (None, 443):
        return "on the port of https"
    # Push services have names. A last label that is a number would be read as an IPv4 address in one of its many spellings
    # (127.1, 0x7f.1, 2130706433); a colon is of IPv6.
    last = host.rstrip(".").rpartition(".")[2]
    if "." not in host.strip(".") or ":" in host or not last.isascii() or last[:1].isdigit():
        return "a public host by its name"
    return "a public host" if host.rstrip(".").endswith(_PRIVATE_NAMES) else None


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if (
            address not in _UNICAST
        ):  # so neither NAT64, nor a site's own (fec0::), nor IPv4 in an old dress (::127.0.0.1)
            return False
    elif address in _RELAYS:
        return False
    return address.is_global and not address.is_multicast


_UNICAST = ipaddress.IPv6Network("2000::/3")
_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")  # 6to4's: whoever is the next one


class PublicResolver(AbstractResolver):
    """Looks names up and gives public addresses only: what was checked is what is connected to."""

    def __init__(self, *, loopback: bool) -> None:
        self._resolver = ThreadedResolver()
        self._loopback = loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        fit = [one for one in found if self._fits(ipaddress.ip_address(one["host"].partition("%")[0]))]
        if not fit:
            raise OSError("the name has no public address")
        return fit

    def _fits(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return _public(address) or (self._loopback and address.is_loopback)

    async def close(self) -> None:
        await self._resolver.close()


class WebPush:
    """`key` is the VAPID private key: base64url of its 32 bytes, or a PEM. `subject` is where a push service finds us: mailto: or https:."""

    def __init__(self, key: str, *, subject: str, clock: Clock, loopback: bool = False) -> None:
        from py_vapid import Vapid02  # type: ignore[import-untyped]

        if not subject.startswith(("mailto:", "https:")):
            raise ValueError("vapid_subject: push services want to know whom to write to: mailto:… or https:…")
        try:
            self._vapid: Any = (
                Vapid02.from_pem(key.encode()) if key.lstrip().startswith("-----") else Vapid02.from_string(key)
            )
        except Exception as error:  # noqa: BLE001 whatever the library's parsers raise: it is not a key
            raise ValueError(f"vapid_private_key: not a P-256 private key ({type(error).__name__})") from None
        self._subject = subject
        self._clock = clock
        self._loopback = loopback
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> None:
        from pywebpush import WebPusher, WebPushException  # type: ignore[import-untyped]

        device = message.to
        assert isinstance(device, Device)
        if (problem := endpoint_problem(device.address, loopback=self._loopback)) is not None:
            raise Gone(f"the endpoint is not {problem}")
        parts = urlsplit(device.address)
        payload = {
            "id": message.data.get("id", str(message.id)),
            "title": message.title,
            "body": message.body,
            "lang": message.locale,
            "data": dict(message.data),
        }
        try:
            pusher = WebPusher({"endpoint": device.address, "keys": {"p256dh": device.p256dh, "auth": device.auth}})
            body = pusher.encode(orjson.dumps(payload))["body"]
        except (WebPushException, ValueError, TypeError) as error:
            raise Gone("the subscription's keys are none") from error
        claims = {
            "sub": self._subject,
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(self._clock.now().timestamp()) + _CLAIM_S,
        }
        headers = {
            **self._vapid.sign(claims),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(_TTL_S if message.ttl_s is None else message.ttl_s),
            "Urgency": "high" if message.urgent else "normal",
            "Topic": message.id.hex[:32],  # a second try replaces the first while it waits for the browser
        }
        async with self._open().post(device.address, data=body, headers=headers, allow_redirects=False) as answer:
            await beginning(answer)
            if answer.status in (200, 201, 202, 204):
                return
            if answer.status in (404, 410):
                raise Gone("the push service does not know the browser any more")
            if answer.status < 500 and answer.status not in (408, 425, 429):
                # Also 401 and 403: this browser subscribed to another key than ours. A stranger can bring that about, so it is
                # no trouble that others should feel.
                raise NeverDeliverable(f"the push service refused the message with {answer.status}")
            raise not_now(answer, self._clock)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Unlike the other doors' peers, these are strangers: no cookies, few connections to each.
            connector = aiohttp.TCPConnector(resolver=PublicResolver(loopback=self._loopback), limit_per_host=20)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session
