"""HTTP bodies of accounts. The rules of `protocol.resources` hold here."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from protocol.resources import Email, Locale, Me, Name, Phone

Password = Annotated[
    str, Meta(min_length=8, max_length=200, description="any characters; the same letters count as the same (NFC)")
]
Secret = Annotated[str, Meta(min_length=1, max_length=200)]
Code = Annotated[str, Meta(pattern=r"^[0-9]{6}(?!\n)$", description="six digits")]


class SignUpRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    email: Email
    password: Password
    first_name: Name
    last_name: Name
    phone_number: Phone | None = None
    locale: Locale | None = None


class SignInRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The password is of any length here: what is too short for a new one is just wrong."""

    email: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=200)]


class RefreshRequest(Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Secret


class Tokens(Struct, frozen=True):
    """The refresh token is good once: it comes back with another. Sent a second time, it ends the session."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in_s: int


class SignedUp(Struct, frozen=True):
    """`verification_token` names the mail that was sent, for resend and status. It verifies nothing."""

    user: Me
    tokens: Tokens
    verification_token: UUID


class EmailVerifyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The token of the link in the mail."""

    token: Secret


class EmailResendRequest(Struct, frozen=True, forbid_unknown_fields=True):
    verification_token: Secret


class EmailStatus(Struct, frozen=True):
    verified: bool


class ForgotRequest(Struct, frozen=True, forbid_unknown_fields=True):
    email: Email


class ResetRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The token of the link in the mail."""

    token: Secret
    password: Password


class PhoneCodeRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without a number: the own one."""

    phone_number: Phone | None = None


class PhoneCodeSent(Struct, frozen=True):
    expires_in_s: int


class PhoneVerifyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    code: Code


class Done(Struct, frozen=True):
    success: Literal[True]
