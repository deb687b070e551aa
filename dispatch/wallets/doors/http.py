"""Payouts by an HTTP gateway: POST {base}/payouts under an Idempotency-Key, GET {base}/payouts/{id} to ask what has become of one."""

from typing import Any
from uuid import UUID

import aiohttp
import orjson

from dispatch.wallets.model import Payout, Said, Unclear

_BYTES_MAX = 16 * 1024
_WORD_MAX = 200
_REASON_MAX = 500


class PayoutGateway:
    """`base` is the address before /payouts. What the gateway has not clearly said is Unclear: 5xx, redirects, bodies of another form, and a 4xx
    that does not say `failed` itself, such as one about our secret."""

    def __init__(self, base: str, secret: str) -> None:
        self._base = base.rstrip("/")
        self._headers = {"Authorization": f"Bearer {secret}", "Accept": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, payout: Payout) -> Said:
        body = {
            "id": str(payout.id),
            "amount_minor": payout.amount_minor,
            "currency": payout.currency,
            "bank_code": payout.bank_code,
            "account_number": payout.account_number,
            "account_name": payout.account_name,
        }
        headers = {"Idempotency-Key": str(payout.id), "Content-Type": "application/json"}
        async with self._open().post(
            f"{self._base}/payouts", data=orjson.dumps(body), headers=headers, allow_redirects=False
        ) as answer:
            content = await _beginning(answer)
            if 200 <= answer.status < 300:
                return said_in(content, payout.id)
            if 400 <= answer.status < 500:
                said = said_in(content, payout.id, status=answer.status)
                if said.status == "failed":
                    return said
            raise Unclear(f"status {answer.status}")

    async def query(self, payout_id: UUID) -> Said | None:
        async with self._open().get(f"{self._base}/payouts/{payout_id}", allow_redirects=False) as answer:
            content = await _beginning(answer)
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise Unclear(f"status {answer.status}")
            return said_in(content, payout_id)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def said_in(content: bytes, payout_id: UUID, *, status: int = 200) -> Said:
    """The answer in a body {status, transaction_id?, reason?, id?}. Raises: Unclear for any other, and for one about another payout."""
    try:
        body: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict) or body.get("id", str(payout_id)) != str(payout_id):
        raise Unclear(f"status {status}, and a body of another form")
    transaction, reason = body.get("transaction_id"), body.get("reason")
    # What a bank writes ends up in columns and on phones: no control characters, and no end of it.
    if (
        not (isinstance(transaction, str) and transaction.strip() and transaction.isprintable())
        or len(transaction) > _WORD_MAX
    ):
        transaction = None
    reason = "".join(c for c in reason if c.isprintable())[:_REASON_MAX] if isinstance(reason, str) else ""
    match body.get("status"):
        case "paid" if transaction is not None:
            return Said("paid", transaction)
        case "failed":
            return Said("failed", None, reason.strip() or None)
        case "pending":
            return Said("pending", transaction)
    raise Unclear(f"status {status}, and a body of another form")


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """The whole of a short body; of a long one so little that it is no JSON."""
    found = b""
    while len(found) < _BYTES_MAX and (more := await answer.content.read(_BYTES_MAX - len(found))):
        found += more
    return found
