"""SMS by an HTTP gateway of the widespread form: POST of To, From and Body, basic authentication, JSON back."""

import aiohttp

from dispatch.notifications.doors.http import beginning, not_now
from dispatch.notifications.model import Message, NeverDeliverable

_NEVER = frozenset({400, 404, 410, 422})
"""The gateway's word on the message or the number. 401 and 403 are our configuration, and trouble."""


class SmsGateway:
    """`url` is where messages are posted to."""

    def __init__(self, url: str, *, user: str | None, password: str | None, sender: str) -> None:
        if not url.startswith(("https://", "http://")):
            raise ValueError("sms_url: SMS by HTTP needs the gateway's address, such as https://…/Messages.json")
        self._url = url
        self._sender = sender
        self._auth = None if user is None else aiohttp.encode_basic_auth(user, password or "")
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> None:
        if self._session is None:
            headers = {} if self._auth is None else {"Authorization": self._auth}
            self._session = aiohttp.ClientSession(headers=headers)
        form = {"To": str(message.to), "From": self._sender, "Body": message.body}
        async with self._session.post(self._url, data=form, allow_redirects=False) as answer:
            await beginning(answer)
            if answer.status < 300:
                return
            if answer.status in _NEVER:
                raise NeverDeliverable(f"the gateway refused it with {answer.status}")
            raise not_now(answer)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
