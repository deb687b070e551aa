"""What the doors over HTTP share: how an answer is read."""

import aiohttp

from dispatch.kit.clock import Clock
from dispatch.notifications.model import NotNow

_BYTES_MAX = 4096


async def beginning(answer: aiohttp.ClientResponse) -> bytes:
    """The first bytes of an answer's body: what a stranger's server sends is not read to its end."""
    found = b""
    while len(found) < _BYTES_MAX and (more := await answer.content.read(_BYTES_MAX - len(found))):
        found += more
    return found


def not_now(answer: aiohttp.ClientResponse, clock: Clock | None = None) -> NotNow:
    """For an answer that is neither yes nor a final no."""
    return NotNow(
        f"status {answer.status}",
        after_s=retry_after_s(answer.headers.get("Retry-After"), clock),
        healthy=answer.status == 429,
    )


def retry_after_s(value: str | None, clock: Clock | None = None) -> float | None:
    """Seconds out of a Retry-After, which is a number or a date; None for anything else."""
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 9:
        return float(value)
    if clock is not None:
        from email.utils import parsedate_to_datetime

        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        if at.tzinfo is not None:
            return max(0.0, (at - clock.now()).total_seconds())
    return None
