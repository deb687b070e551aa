"""Tokens: what is read, what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from dispatch.accounts.rules import address_of, link_token, mint, same_email, subject_of, verify
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


def test_a_token_tells_when_it_was_made_to_the_microsecond_where_that_is_known() -> None:
    at = datetime.now(UTC).replace(microsecond=123456)
    assert read(minted(at=at)).issued_at == at.timestamp()
    whole = at.replace(microsecond=0)
    assert jwt.decode(minted(at=whole), options={"verify_signature": False})["iat"] == int(whole.timestamp())


@pytest.mark.parametrize("iat", ["soon", 1e300, [], {}])
def test_a_token_made_at_no_instant_is_refused(iat: Any) -> None:
    later = datetime.now(UTC) + timedelta(minutes=1)
    payload = {"sub": str(USER), "iss": "dispatch", "aud": "dispatch", "exp": later, "iat": iat}
    with pytest.raises(Unauthenticated):
        read(jwt.encode(payload, NEW, algorithm="HS256"))


def test_a_token_made_by_a_clock_ahead_of_ours_is_good() -> None:
    assert read(minted(at=datetime.now(UTC) + timedelta(seconds=30))).user_id == USER


def test_an_address_is_one_customer() -> None:
    assert address_of("192.0.2.7") == address_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_of("2001:db8:1:2::1") == address_of("2001:db8:1:2:ffff::9%eth0") != address_of("2001:db8:1:3::1")
    assert address_of("unix:") == "unix:"


def test_what_is_derived_hangs_on_key_purpose_and_row() -> None:
    row = uuid4()
    assert link_token(b"k", row) == link_token(b"k", row) != link_token(b"l", row)
    assert len(link_token(b"k", row)) == 43
    assert len({subject_of(b"k", "a", "bc"), subject_of(b"k", "ab", "c"), subject_of(b"l", "a", "bc")}) == 3
    assert same_email("ÅNN@Example.com") == same_email("A\u030ann@example.COM")


def test_the_same_roles_are_kept_once() -> None:
    """One of these is held for each connection."""
    assert read(minted(roles=["customer", "partner"])).roles is read(minted(roles=["partner", "customer"])).roles
    assert read(minted()).roles == {"customer"}
