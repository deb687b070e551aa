"""Tokens: minting and reading, with time and secrets as arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt

from dispatch.kit.errors import SessionExpired, Unauthenticated

ROLES = frozenset({"customer", "partner", "support", "admin"})


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. Names are those of first sight only."""

    user_id: UUID
    roles: frozenset[str]
    expires_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    phone_number: str | None = None


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
    payload: dict[str, Any] = {
        "sub": str(user_id),
        "iss": issuer,
        "aud": audience,
        "iat": at,
        "exp": at + timedelta(seconds=ttl_s),
        **(names or {}),
    }
    if ttl_s < 0:
        payload["iat"] = payload["exp"] - timedelta(seconds=1)
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
    payload: dict[str, Any] | None = None
    for secret in secrets:
        try:
            payload = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                audience=audience,
                issuer=issuer,
                options={"require": ["exp", "sub", "iss", "aud"]},
            )
            break
        except jwt.ExpiredSignatureError as error:
            raise SessionExpired("the token has expired") from error
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Unauthenticated("the token cannot be used") from error
    if payload is None:
        raise Unauthenticated("the token is signed with no secret of ours")
    try:
        user_id = UUID(str(payload["sub"]))
    except ValueError as error:
        raise Unauthenticated("sub is no UUID") from error
    try:
        expires_at = datetime.fromtimestamp(payload["exp"], UTC)
    except (ValueError, OverflowError, OSError, TypeError) as error:
        raise Unauthenticated("exp is no instant") from error
    found: Any = payload
    for step in roles_claim.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else []

    def name(key: str, longest: int) -> str | None:
        value = payload.get(key)
        return value.strip()[:longest] or None if isinstance(value, str) else None

    return Claims(
        user_id,
        frozenset(role for role in named if isinstance(role, str)) & ROLES,
        expires_at,
        name("first_name", 50),
        name("last_name", 50),
        name("phone_number", 20),
    )
