"""A driver's account, as his app holds it."""

import asyncio
import time
from typing import Any

from protocol.client import Http
from protocol.errors import Denied, ErrorCode

# An app asks for its next token when this much of the life of the old one is over.
RENEW_AFTER = 2 / 3
# When that did not work out.
ANOTHER_TRY_S = 2.0


class Account:
    """Who he is, and a token that is good as long as somebody calls `renew` again and again."""

    def __init__(self, user_id: str, email: str, password: str, tokens: dict[str, Any]) -> None:
        """`tokens` as sign-up or sign-in answers them."""
        self.user_id = user_id
        self._email = email
        self._password = password
        self._keep(tokens)

    def _keep(self, tokens: dict[str, Any]) -> None:
        self._access, self._refresh = str(tokens["access_token"]), str(tokens["refresh_token"])
        self._renew_at = time.monotonic() + float(tokens["expires_in_s"]) * RENEW_AFTER

    def token(self) -> str:
        """The newest access token."""
        return self._access

    async def renew(self, anyone: Http) -> None:
        """Wait until it is time, and get the next token. `anyone` calls without a token. Raises: Denied; call again then."""
        await asyncio.sleep(max(0.0, self._renew_at - time.monotonic()))
        self._renew_at = time.monotonic() + ANOTHER_TRY_S
        try:
            tokens = await anyone.account.refresh(self._refresh)
        except Denied as no:
            # Also when an answer was lost and the token had been used: apps sign in again then.
            if no.code != ErrorCode.SESSION_EXPIRED:
                raise
            tokens = await anyone.account.sign_in(self._email, self._password)
        self._keep(tokens)
