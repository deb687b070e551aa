"""Tokens: minting and reading, and what is derived from the server's key. Time and secrets are arguments."""

import base64
import hashlib
import hmac
import ipaddress
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import NAMESPACE_URL, UUID

import jwt

from dispatch.kit.errors import SessionExpired, Unauthenticated
from dispatch.kit.ids import derived_id
from dispatch.kit.phone import e164

ROLES = frozenset({"customer", "partner", "support", "admin"})
_ROLE_SETS: Final[dict[frozenset[str], frozenset[str]]] = {}
"""Each set of these once: a quarter of a KiB for everybody who is connected. At most sixteen."""
OWN_ROLES: Final = ("customer",)
"""What a token of ours says of somebody whose roles no admin has set."""

Shape = Literal["plain", "supabase"]

_REQUIRED: Final = ["exp", "sub", "iss", "aud"]
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_CODES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. Names and addresses are those of first sight only."""

    user_id: UUID
    roles: frozenset[str]
    expires_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    phone_number: str | None = None
    issued_at: float = 0.0
    """Seconds since the epoch. A token that does not say is as old as can be."""
    email: str | None = None
    email_verified: bool = False


def mint(
    user_id: UUID,
    roles: Sequence[str],
    *,
    secret: str,
    issuer: str,
    audience: str,
    roles_claim: str,
    at: datetime,
    ttl_s: int,
    names: Mapping[str, str] | None = None,
) -> str:
    """A token of our own. A negative `ttl_s` gives one that has expired already. `roles_claim` is a dotted path."""
    issued = at if ttl_s >= 0 else at + timedelta(seconds=ttl_s - 1)
    payload: dict[str, Any] = {
        "sub": str(user_id),
        "iss": issuer,
        "aud": audience,
        # With its fraction: signing in within the second of a sign-out everywhere must give a token that counts.
        "iat": issued if issued.microsecond == 0 else issued.timestamp(),
        "exp": at + timedelta(seconds=ttl_s),
        **(names or {}),
    }
    at_path = payload
    *outer, last = roles_claim.split(".")
    for step in outer:
        at_path = at_path.setdefault(step, {})
    at_path[last] = list(roles)
    return jwt.encode(payload, secret, algorithm="HS256")


def verify(token: str, *, secrets: Sequence[str], issuer: str, audience: str, roles_claim: str) -> Claims:
    """Read a token signed with any of `secrets`. The clock is the machine's (PyJWT's), without leeway.

    Raises: SessionExpired for one that was good once, Unauthenticated for anything else.
    """
    for secret in secrets:
        payload = _payload(token, secret, ["HS256"], issuer, audience)
        if payload is not None:
            break
    else:
        raise Unauthenticated("the token is signed with no secret of ours")
    return claims_of(payload, roles_claim=roles_claim)


def verify_foreign(
    token: str,
    key: jwt.PyJWK,
    *,
    issuer: str,
    audience: str,
    roles_claim: str,
    shape: Shape,
    default_roles: Sequence[str],
) -> Claims:
    """Read a token of an outside issuer, signed with `key`. The algorithm is the key's, whatever the token says.

    Raises: as `verify`.
    """
    payload = _payload(token, key, [key.algorithm_name], issuer, audience)
    if payload is None:
        raise Unauthenticated("the signature is not that of the issuer's key")
    return claims_of(payload, roles_claim=roles_claim, shape=shape, space=issuer, default_roles=default_roles)


def _payload(
    token: str, key: "str | jwt.PyJWK", algorithms: list[str], issuer: str, audience: str
) -> dict[str, Any] | None:
    """None: signed with another key."""
    # `iat` is no reason to refuse: it was written by another machine's clock, and is compared with that clock only.
    options: Any = {"require": _REQUIRED, "verify_iat": False}
    try:
        found: dict[str, Any] = jwt.decode(
            token, key, algorithms=algorithms, audience=audience, issuer=issuer, options=options
        )
        return found
    except jwt.ExpiredSignatureError as error:
        raise SessionExpired("the token has expired") from error
    except jwt.InvalidSignatureError:
        return None
    except (jwt.InvalidTokenError, ValueError) as error:
        raise Unauthenticated("the token cannot be used") from error


def claims_of(
    payload: Mapping[str, Any],
    *,
    roles_claim: str,
    shape: Shape = "plain",
    space: str | None = None,
    default_roles: Sequence[str] = (),
) -> Claims:
    """What a payload whose signature is good says. With `space`, a `sub` that is no UUID becomes the same UUID every time.

    Raises: Unauthenticated for a subject or an instant that is none.
    """
    subject = _storable(str(payload["sub"]))
    try:
        user_id = UUID(subject)
    except ValueError as error:
        if space is None or not subject:
            raise Unauthenticated("sub is no UUID") from error
        user_id = derived_id(derived_id(NAMESPACE_URL, space), subject)
    issued = payload.get("iat", 0)
    try:
        expires_at = datetime.fromtimestamp(payload["exp"], UTC)
        issued_at = float(issued)
        datetime.fromtimestamp(issued_at, UTC)
    except (ValueError, OverflowError, OSError, TypeError) as error:
        raise Unauthenticated("exp or iat is no instant") from error
    found = at_path(payload, roles_claim)
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else default_roles
    first, last, phone = _names(payload, shape)
    email = payload.get("email") if space is not None else None
    if not (isinstance(email, str) and len(email) <= 254 and _EMAIL.fullmatch(email) and _storable(email) == email):
        email = None
    roles = frozenset(role for role in named if isinstance(role, str)) & ROLES
    return Claims(
        user_id,
        _ROLE_SETS.setdefault(roles, roles),
        expires_at,
        first,
        last,
        phone,
        issued_at,
        email,
        # Only at the top: what lies in Supabase's user_metadata is written by the person himself.
        email is not None and payload.get("email_verified") is True,
    )


def at_path(payload: Any, path: str) -> Any:
    """What lies at a dotted path, or None."""
    for step in path.split("."):
        payload = payload.get(step) if isinstance(payload, Mapping) else None
    return payload


def _names(payload: Mapping[str, Any], shape: Shape) -> tuple[str | None, str | None, str | None]:
    """(first name, last name, phone)."""
    if shape == "plain":
        return (
            _text(payload, 50, "first_name", "given_name"),
            _text(payload, 50, "last_name", "family_name"),
            _text(payload, 20, "phone_number"),
        )
    about = payload.get("user_metadata")
    about = about if isinstance(about, Mapping) else {}
    first, last = _text(about, 50, "first_name", "given_name"), _text(about, 50, "last_name", "family_name")
    if first is None and (full := _text(about, 101, "full_name", "name")) is not None:
        head, _, rest = full.partition(" ")
        first, last = head[:50], rest.strip()[:50] or None
    phone = _text(payload, 20, "phone")
    if phone is not None and phone.isascii() and phone.isdigit():
        phone = f"+{phone}"  # E.164, which Supabase writes without its plus
    return first, last, phone


def _text(payload: Mapping[str, Any], longest: int, *names: str) -> str | None:
    for name in names:
        value = payload.get(name)
        if isinstance(value, str) and (text := _storable(value).strip()[:longest].strip()):
            return text
    return None


def _storable(text: str) -> str:
    """Without what JSON can say and a text column cannot hold: NUL and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()


def hash_of(secret: str) -> bytes:
    """What is kept of a token of 256 random bits: its SHA-256."""
    return hashlib.sha256(secret.encode()).digest()


def link_token(key: bytes, token_id: UUID) -> str:
    """The token of a link, out of the id of its row: 256 bits that stand nowhere."""
    return base64.urlsafe_b64encode(_derived(key, b"link", token_id.bytes)).rstrip(b"=").decode()


def phone_code(key: bytes, code_id: UUID) -> str:
    """Six digits, out of the id of the code's row."""
    return f"{int.from_bytes(_derived(key, b'code', code_id.bytes)[:8], 'big') % _CODES:06d}"


def subject_of(key: bytes, purpose: str, whose: str) -> bytes:
    """Under which name tries are counted: nobody who reads the table learns an address from it."""
    return _derived(key, purpose.encode(), whose.encode())


def address_of(remote: str) -> str:
    """What counts as one address: an IPv6 customer has a whole /64."""
    try:
        found = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def same_email(email: str) -> str:
    """One spelling for counting tries. Postgres decides by lower() whose address it is."""
    return unicodedata.normalize("NFC", email).casefold()


def one_number(phone_number: str) -> str:
    """One spelling for counting what is sent to a number: an outside issuer writes it as it likes."""
    return "".join(letter for letter in e164(phone_number) if letter in "0123456789")


def canonical_password(password: str) -> str:
    """NFC: the same letters typed on two systems are the same password. Not NFKC, which makes letters equal that look different."""
    return unicodedata.normalize("NFC", password)


def _derived(key: bytes, purpose: bytes, what: bytes) -> bytes:
    return hmac.new(key, purpose + b"\0" + what, hashlib.sha256).digest()
