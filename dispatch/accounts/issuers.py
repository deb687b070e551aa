"""Tokens of outside issuers, by the keys that they publish (JWKS).

Reading a token asks nobody: keys are fetched by a loop, and by a token that names a key nobody knows, for all such tokens together once
in a while. A set that was read stays until a newer one is: an issuer that is down locks nobody out.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import jwt
import orjson
import structlog

from dispatch.accounts.errors import KeysUnavailable
from dispatch.accounts.rules import Claims, verify_foreign
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Unauthenticated
from dispatch.settings import Issuer

log = structlog.get_logger("accounts")

ASK_AGAIN_S: Final = 10.0
"""Between two fetches, however many tokens name keys that nobody knows: a new key is taken within ten seconds, and forgers cause no more."""
OLD_AFTER_S: Final = 600.0
"""A key that its issuer withdrew is trusted no longer than this."""
FETCH_S: Final = 5.0
BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 64


class _KeyUnknown(Exception):
    """No set that was read has this key."""


class KeyRing:
    """The keys of one issuer."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    def read(self, token: str, kid: str | None) -> Claims:
        """Raises: SessionExpired, Unauthenticated; _KeyUnknown."""
        key = self._keys.get(kid)
        if key is None and kid is None and len(self._keys) == 1:
            (key,) = self._keys.values()
        if key is None:
            raise _KeyUnknown
        mine = self._issuer
        return verify_foreign(
            token,
            key,
            issuer=mine.issuer,
            audience=mine.audience,
            roles_claim=mine.roles_claim,
            shape=mine.shape,
            default_roles=mine.default_roles,
        )

    async def read_asking(self, token: str, kid: str | None) -> Claims:
        """The same, after asking the issuer if it is time. Raises: KeysUnavailable besides."""
        await self.refresh(ASK_AGAIN_S)
        try:
            return self.read(token, kid)
        except _KeyUnknown:
            if not self._keys:
                raise KeysUnavailable(f"the keys of {self._issuer.issuer} cannot be read") from None
            raise Unauthenticated("the token is signed with no key of its issuer") from None

    async def refresh(self, older_s: float) -> None:
        """Fetch the keys unless somebody did within `older_s`. A failure keeps those that there are, and is logged."""
        async with self._asking:
            now = self._clock.monotonic()
            if self._asked_at is not None and now - self._asked_at < older_s:
                return
            self._asked_at = now
            try:
                self._keys = usable(await _fetched(self._issuer.jwks_url), self._issuer.algorithms)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, jwt.PyJWTError) as error:
                log.warning("keys of an issuer not read", issuer=self._issuer.issuer, error=repr(error)[:300])

    @property
    def retry_s(self) -> float:
        """How old keys may be: without any, as young as may be."""
        return OLD_AFTER_S if self._keys else ASK_AGAIN_S


class Issuers:
    """All outside issuers, by the `iss` of their tokens."""

    def __init__(self, issuers: Sequence[Issuer], clock: Clock) -> None:
        self._rings = {issuer.issuer: KeyRing(issuer, clock) for issuer in issuers}

    def __bool__(self) -> bool:
        return bool(self._rings)

    def ring_of(self, token: str) -> "tuple[KeyRing, str | None] | None":
        """(ring, kid) of a token that says it is an outside issuer's; None: not one of theirs. Nothing is verified yet."""
        if not self._rings:
            return None
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") == "HS256":  # ours: nobody else shares a secret with us
                return None
            said = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.InvalidTokenError, ValueError):
            return None
        ring = self._rings.get(said) if isinstance(said, str) else None
        if ring is None:
            return None
        kid = header.get("kid")
        return ring, kid if isinstance(kid, str) else None

    async def refresh(self) -> None:
        """One turn of the loop that keeps keys young."""
        for ring in self._rings.values():
            await ring.refresh(ring.retry_s)


async def read(ring: KeyRing, token: str, kid: str | None) -> Claims:
    """Without waiting when the key is known. Raises: SessionExpired, Unauthenticated, KeysUnavailable."""
    try:
        return ring.read(token, kid)
    except _KeyUnknown:
        return await ring.read_asking(token, kid)


def usable(document: Any, algorithms: Sequence[str]) -> dict[str | None, jwt.PyJWK]:
    """The keys of a JWKS that sign with one of `algorithms`, by kid. A shared secret (`oct`) is never among them.

    Raises: ValueError or PyJWTError when none is left: such a set replaces nothing.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JWKS: an object with a list `keys` is expected")  # noqa: TRY004 what came in, not a bug
    found = jwt.PyJWKSet.from_dict({"keys": listed[:KEYS_MAX]}).keys
    keys: dict[str | None, jwt.PyJWK] = {
        key.key_id: key
        for key in found
        if key.algorithm_name in algorithms and key.key_type != "oct" and key.public_key_use in (None, "sig")
    }
    if not keys:
        raise ValueError(f"no key for {', '.join(algorithms)}")
    return keys


async def _fetched(url: str) -> Any:
    """The document at `url`, bounded in time and size. Raises: aiohttp.ClientError, TimeoutError, ValueError."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_S)) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status != 200:
            raise ValueError(f"{url} answered {answer.status}")
        content = bytearray()
        async for chunk in answer.content.iter_chunked(16 * 1024):
            content += chunk
            if len(content) > BYTES_MAX:
                raise ValueError(f"{url} answered more than {BYTES_MAX} bytes")
    return orjson.loads(bytes(content))
