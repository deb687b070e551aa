"""Typed calls: signing up and in, verification, sessions."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from protocol.http import Http


class AccountCalls:
    """The calls of one `Http`, as its attribute `account`. Those for anyone work with an empty token."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call

    async def sign_up(
        self,
        email: str,
        password: str,
        *,
        first_name: str,
        last_name: str,
        phone_number: str | None = None,
        locale: str | None = None,
    ) -> dict[str, Any]:
        """{"user", "tokens", "verification_token"}. EMAIL_TAKEN after a lost answer: it may be the own one; sign in."""
        body = {
            "email": email,
            "password": password,
            "first_name": first_name,
            "last_name": last_name,
            "phone_number": phone_number,
            "locale": locale,
        }
        return await self._call("POST", "/v1/auth/sign-up", body)

    async def sign_in(self, email: str, password: str) -> dict[str, Any]:
        """{"access_token", "refresh_token", "token_type", "expires_in_s"}."""
        return await self._call("POST", "/v1/auth/sign-in", {"email": email, "password": password})

    async def refresh(self, refresh_token: str) -> dict[str, Any]:
        """New tokens. SESSION_EXPIRED also when an answer was lost on the way: the token had been used; sign in again."""
        return await self._call("POST", "/v1/auth/refresh", {"refresh_token": refresh_token})

    async def sign_out(self, refresh_token: str) -> dict[str, Any]:
        return await self._call("POST", "/v1/auth/sign-out", {"refresh_token": refresh_token})

    async def sign_out_everywhere(self) -> dict[str, Any]:
        """All sessions of the caller, this one too; his sockets close with 4401."""
        return await self._call("POST", "/v1/auth/sign-out-everywhere")

    async def verify_email(self, token: str) -> dict[str, Any]:
        """`token`: that of the link in the mail."""
        return await self._call("POST", "/v1/auth/email/verify", {"token": token})

    async def resend_email(self, verification_token: UUID | str) -> dict[str, Any]:
        return await self._call("POST", "/v1/auth/email/resend", {"verification_token": str(verification_token)})

    async def email_status(self, verification_token: UUID | str) -> dict[str, Any]:
        """{"verified"}."""
        return await self._call("GET", "/v1/auth/email/status", params={"verification_token": verification_token})

    async def forgot_password(self, email: str) -> dict[str, Any]:
        return await self._call("POST", "/v1/auth/password/forgot", {"email": email})

    async def reset_password(self, token: str, password: str) -> dict[str, Any]:
        """`token`: that of the link in the mail. All sessions end."""
        return await self._call("POST", "/v1/auth/password/reset", {"token": token, "password": password})

    async def send_phone_code(self, phone_number: str | None = None) -> dict[str, Any]:
        """{"expires_in_s"}. Without a number: to the own one."""
        return await self._call("POST", "/v1/auth/phone/code", {"phone_number": phone_number})

    async def verify_phone(self, code: str) -> dict[str, Any]:
        """The Me."""
        return await self._call("POST", "/v1/auth/phone/verify", {"code": code})
