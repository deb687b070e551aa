"""E-mail by an SMTP server."""

import contextlib
from typing import Literal

import aiosmtplib

from dispatch.kit.clock import Clock
from dispatch.notifications.doors.letter import letter
from dispatch.notifications.model import Message, NeverDeliverable, NotNow

Security = Literal["starttls", "tls", "none"]


class Smtp:
    """One connection per message: rare enough, and a server that was restarted is met by nobody's stale line.

    Refused for good is what the server says of the recipient or of the message (5xx to RCPT and DATA). A 5xx to anything else
    (log in, sender) is our configuration: it counts as trouble, so the circuit opens and the messages wait for the operator.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        security: Security,
        user: str | None,
        password: str | None,
        sender: str,
        clock: Clock,
        timeout_s: float,
    ) -> None:
        if not host:
            raise ValueError("smtp_host: e-mail by SMTP needs the server's name")
        self._host, self._port, self._security = host, port, security
        self._user, self._password, self._sender = user, password, sender
        self._clock = clock
        self._timeout_s = timeout_s

    def _client(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._security == "tls",
            start_tls=self._security == "starttls",
            timeout=self._timeout_s,
        )

    async def greet(self) -> None:
        """Connect, encrypt and log in as these settings say, and leave. Raises: NotNow."""
        client = self._client()
        try:
            await client.connect()
            await client.quit(timeout=1.0)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise NotNow(f"{type(error).__name__}: {str(error)[:200]}") from error
        finally:
            client.close()

    async def send(self, message: Message) -> None:
        mail = letter(message, sender=self._sender, at=self._clock.now())
        client = self._client()
        try:
            await client.connect()
            await client.send_message(mail)
            # Taken. What goes wrong from here must not send it again.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=1.0)
        except aiosmtplib.SMTPRecipientsRefused as error:
            # A server that says «later» of one recipient (greylisting, a full mailbox) works.
            _refused("recipient", error.recipients[0].code, healthy=True)
        except aiosmtplib.SMTPDataError as error:
            _refused("message", error.code, healthy=False)
        except aiosmtplib.SMTPNotSupported as error:
            raise NeverDeliverable("the server does not take this address") from error
        except aiosmtplib.SMTPResponseException as error:
            raise NotNow(f"SMTP {error.code}: {type(error).__name__}") from error
        except aiosmtplib.SMTPException as error:
            raise NotNow(type(error).__name__) from error
        finally:
            client.close()

    async def close(self) -> None:
        return None


def _refused(what: str, code: int, *, healthy: bool) -> None:
    """The server's words often repeat the address: its code is enough."""
    if 500 <= code < 600:
        raise NeverDeliverable(f"SMTP {code}: {what} refused")
    raise NotNow(f"SMTP {code}: {what} not taken now", healthy=healthy)
