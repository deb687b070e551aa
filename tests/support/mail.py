"""A mail server on loopback, in the test's loop, that answers by script."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """What came, whole. `answers` are given to the next recipients (RCPT) one after the other; then 250 to everybody.

    `hold`: while it is set, nothing is answered to DATA.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answers: list[str] = []
        self.data_answers: list[str] = []
        self.asked = 0
        self.host = "127.0.0.1"
        self.port = 0
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.arrived.set()
        await self.release.wait()
        if self.data_answers:
            return self.data_answers.pop(0)
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def settings(self) -> dict[str, Any]:
        """Settings of a server that sends its mail here."""
        return {
            "mail_by": "smtp",
            "smtp_host": self.host,
            "smtp_port": self.port,
            "smtp_security": "none",
            "mail_from": "Dispatch <noreply@test.invalid>",
        }


@asynccontextmanager
async def mail_server(port: int = 0) -> AsyncIterator[MailServer]:
    """Listens on loopback while the block lasts."""
    double = MailServer()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: SMTP(double, hostname="mail.test.invalid", enable_SMTPUTF8=True, loop=loop), double.host, port
    )
    double.port = listener.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        double.release.set()
        listener.close()
        await listener.wait_closed()


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    """The part of this kind, plain or html."""
    part = mail.get_body((kind,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content
