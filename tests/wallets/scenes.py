"""Providers with money and a bank account: what the tests of wallets stand on."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

from dispatch.ledger import Kind, credited, post, purse
from tests.support.server import WITHIN_S, Person, Server

NUMBER = "1234567890"


async def fund(server: Server, user: UUID, amount_minor: int, currency: str = "THB") -> None:
    """Earned somewhere: straight through the ledger's own door."""
    async with server.app.pg.system_tx() as tx:
        before = await purse(tx, user, currency)
        await post(tx, "earning", f"test:{uuid4()}", currency, credited(before, amount_minor, Kind.RIDE_CLEARING))


async def paper(server: Server, person: Person, kind: str = "bank_account") -> UUID:
    """A document of his that waits for its review."""
    new = uuid4()
    await server.sql(
        """INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256)
           VALUES ($1, $2, $3, $4, $5, 'image/png', 10, 'x')""",
        new,
        UUID(str(person.provider_id)),
        person.user_id,
        kind,
        f"documents/{new}",
    )
    return new


async def reviewed(server: Server, document: UUID, status: str = "approved") -> None:
    """The judge's books, past the office: tests of reviews are elsewhere."""
    reason = "blurred" if status == "rejected" else None
    await server.sql(
        "UPDATE provider_documents SET status = $2, rejection_reason = $3 WHERE id = $1", document, status, reason
    )


async def account(server: Server, person: Person, *, number: str = NUMBER, verified: bool = True) -> str:
    """A bank account of his, verified unless told otherwise."""
    document = await paper(server, person)
    made = await person.http.wallet.add_bank_account(
        bank_code="KBANK", account_number=number, account_name="Somchai Jaidee", document_id=document
    )
    if verified:
        await reviewed(server, document)
    return str(made["id"])


async def rich(server: Server, amount_minor: int = 100_000, **given: Any) -> tuple[Person, str]:
    """An approved provider with so much in his wallet, and his verified bank account."""
    person = await server.provider(**given)
    bank = await account(server, person)
    if amount_minor:
        await fund(server, person.user_id, amount_minor)
    return person, bank


async def has(person: Person, currency: str | None = None) -> tuple[int, int]:
    """(available, held), minor units."""
    found = await person.http.wallet.wallet(currency)
    assert found["balance_minor"] == found["available_minor"] + found["held_minor"]
    return found["available_minor"], found["held_minor"]


async def until_status(person: Person, withdrawal_id: str, status: str) -> dict[str, Any]:
    """Until a withdrawal has come so far; the withdrawal."""
    async with asyncio.timeout(WITHIN_S):
        while (found := await person.http.wallet.withdrawal(withdrawal_id))["status"] != status:
            await asyncio.sleep(0.01)
    return found


async def books_are_right(server: Server) -> None:
    """What every test of payouts ends with: held is what is asked for, each account is its entries, all sums are zero."""
    from dispatch.wallets import held_off

    async with server.app.pg.system() as conn:
        assert list(await held_off(conn)) == []
        assert not await conn.fetch(
            """SELECT a.id FROM ledger_account a LEFT JOIN ledger_entry e ON e.account_id = a.id
               GROUP BY a.id HAVING a.balance <> coalesce(sum(e.amount), 0) OR a.version <> count(e.seq)"""
        )
        assert not await conn.fetch("SELECT asset FROM ledger_account GROUP BY asset HAVING sum(balance) <> 0")
        assert not await conn.fetch(
            """SELECT w.id FROM withdrawals w JOIN ledger_txn t ON t.ref = 'wd:' || w.id
               GROUP BY w.id, w.status HAVING count(*) <> CASE WHEN w.status IN ('pending', 'processing') THEN 1 ELSE 2 END"""
        )
