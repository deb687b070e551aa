"""The mails that a server with DISPATCH_MAIL_BY=folder writes: who waits for one is given the token of its link."""

import asyncio
import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

LOOK_EVERY_S = 0.05
_LINK = re.compile(r"https?://\S+")


class Mailbox:
    """Everybody's. `watch` has to run beside those who wait; a mail that nobody expects is left alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: set[str] = set()
        self._expected: dict[str, asyncio.Future[str]] = {}

    def expect(self, address: str) -> asyncio.Future[str]:
        """The token of the next mail to this address; to be asked before what causes the mail."""
        return self._expected.setdefault(address, asyncio.get_running_loop().create_future())

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Read what came since the last look. The server puts only whole mails there; the first one makes the folder."""
        if not self._expected or not self._folder.is_dir():
            return
        for path in self._folder.glob("*.eml"):
            if path.name not in self._read:
                self._read.add(path.name)
                address, token = read_mail(path.read_bytes())
                waiting = self._expected.get(address)
                if waiting is not None and token is not None:
                    del self._expected[address]
                    if not waiting.done():
                        waiting.set_result(token)


def read_mail(content: bytes) -> tuple[str, str | None]:
    """(whom it went to, the token of its link). None: it has no link with one."""
    mail = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
    body = mail.get_body(("plain",))
    text = "" if body is None else str(body.get_content())
    tokens = [token for link in _LINK.findall(text) for token in parse_qs(urlsplit(link).query).get("token", [])]
    return parseaddr(str(mail["To"]))[1], tokens[0] if tokens else None
