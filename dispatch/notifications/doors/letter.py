"""One message as an e-mail: plain text, and the same as HTML that reads from the right where the language does."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from html import escape

from dispatch.notifications.model import Message, NeverDeliverable

_RIGHT_TO_LEFT = {"ar"}


def letter(message: Message, *, sender: str, at: datetime) -> EmailMessage:
    """Raises: NeverDeliverable for an address that no header can hold."""
    name, from_address = parseaddr(sender)
    mail = EmailMessage()
    try:
        mail["From"] = Address(name, addr_spec=from_address)
        mail["To"] = Address(addr_spec=str(message.to))
    except Exception as error:  # the parser of addresses raises what it likes for what it cannot read
        raise NeverDeliverable("the address is none") from error
    mail["Subject"] = message.title
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{message.id}@{from_address.rpartition('@')[2] or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["Content-Language"] = message.locale
    mail.set_content(message.body + "\n", cte="base64")
    mail.add_alternative(html_of(message), subtype="html", cte="base64")
    return mail


def html_of(message: Message) -> str:
    """Everything that came from people is escaped; the only link is the one the server made."""
    way = "rtl" if message.locale in _RIGHT_TO_LEFT else "ltr"
    paragraphs = "".join(f"<p>{_with_link(line, message.link)}</p>\n" for line in message.body.splitlines() if line)
    return (
        f'<!doctype html>\n<html lang="{escape(message.locale)}" dir="{way}">\n<head><meta charset="utf-8">'
        f"<title>{escape(message.title)}</title></head>\n"
        f'<body style="font-family: sans-serif; max-width: 40em; margin: 2em auto">\n<h2>{escape(message.title)}</h2>\n{paragraphs}</body>\n</html>\n'
    )


def _with_link(line: str, link: str | None) -> str:
    if link is None or not link.startswith(("https://", "http://")) or link not in line:
        return escape(line)
    before, _, after = line.partition(link)
    return f'{escape(before)}<a href="{escape(link)}" dir="ltr">{escape(link)}</a>{escape(after)}'
