"""Tokens: what is read, what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from dispatch.accounts.rules import mint, verify
from dispatch.kit.errors import SessionExpired, Unauthenticated

OLD, NEW = "o" * 40, "n" * 40
USER = uuid4()
HOME = {"issuer": "dispatch", "audience": "dispatch", "roles_claim": "roles"}


def minted(**given: Any) -> str:
    defaults: dict[str, Any] = {"secret": NEW, "at": datetime.now(UTC), "ttl_s": 60, **HOME}
    return mint(USER, given.pop("roles", ["customer"]), **{**defaults, **given})


def read(token: str, secrets: tuple[str, ...] = (NEW, OLD), **given: str) -> Any:
    return verify(token, secrets=secrets, **{**HOME, **given})


def test_both_live_secrets_are_good_and_a_retired_one_is_not() -> None:
    assert read(minted(secret=NEW)).user_id == USER
    assert read(minted(secret=OLD)).user_id == USER
    with pytest.raises(Unauthenticated):
        read(minted(secret=OLD), secrets=(NEW,))


def test_an_expired_token_says_so() -> None:
    with pytest.raises(SessionExpired):
        read(minted(ttl_s=-5))


@pytest.mark.parametrize("missing", ["exp", "sub", "iss", "aud"])
def test_a_token_without_a_required_claim_is_refused(missing: str) -> None:
    payload = {"sub": str(USER), "iss": "dispatch", "aud": "dispatch", "exp": datetime.now(UTC) + timedelta(minutes=1)}
    del payload[missing]
    with pytest.raises(Unauthenticated):
        read(jwt.encode(payload, NEW, algorithm="HS256"))


@pytest.mark.parametrize("field", ["issuer", "audience"])
def test_another_house_or_door_is_refused(field: str) -> None:
    with pytest.raises(Unauthenticated):
        read(minted(**{field: "elsewhere"}))


def test_an_unsigned_token_is_refused() -> None:
    payload = {"sub": str(USER), "iss": "dispatch", "aud": "dispatch", "exp": datetime.now(UTC) + timedelta(minutes=1)}
    with pytest.raises(Unauthenticated):
        read(jwt.encode(payload, "", algorithm="none"))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJ.eyJ.x"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        read(token)


def test_a_subject_that_is_no_user_id_is_refused() -> None:
    payload = {"sub": "me", "iss": "dispatch", "aud": "dispatch", "exp": datetime.now(UTC) + timedelta(minutes=1)}
    with pytest.raises(Unauthenticated):
        read(jwt.encode(payload, NEW, algorithm="HS256"))


def test_roles_lie_where_the_setting_says_and_unknown_ones_do_not_count() -> None:
    assert read(minted(roles=["admin", "emperor"])).roles == {"admin"}
    nested = minted(roles_claim="app_metadata.roles", roles=["support"])
    assert read(nested, roles_claim="app_metadata.roles").roles == {"support"}
    assert read(nested).roles == frozenset()


def test_names_of_first_sight_are_trimmed_and_bounded() -> None:
    claims = read(minted(names={"first_name": "  Ann ", "last_name": "x" * 80, "phone_number": ""}))
    assert (claims.first_name, len(claims.last_name), claims.phone_number) == ("Ann", 50, None)
