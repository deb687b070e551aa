"""Bank accounts for some of the providers, as the office would have approved them: what withdrawals need."""

from collections.abc import Sequence
from uuid import UUID, uuid4

from bench.chaos.stores import Judge
from bench.demo.stage import Person
from dispatch.settings import load
from dispatch.wallets import Vault

NUMBER = "1234567890"


async def bank_accounts(judge: Judge, people: Sequence[Person]) -> list[str]:
    """An account with an approved document for each; their ids, in the order of `people`."""
    vault = Vault(load(environ={}).bank_secrets)
    conn = await judge.connect()
    made: list[str] = []
    try:
        for person in people:
            user = UUID(person.user_id)
            provider = await conn.fetchval("SELECT id FROM providers WHERE user_id = $1", user)
            document, account = uuid4(), uuid4()
            await conn.execute(
                "INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, status) "
                "VALUES ($1, $2, $3, 'bank_account', $4, 'image/png', 1, $4, 'approved')",
                document,
                provider,
                user,
                str(document),
            )
            await conn.execute(
                "INSERT INTO bank_accounts (id, provider_id, user_id, bank_code, account_name, sealed, key_id, last_four, document_id) "
                "VALUES ($1, $2, $3, 'SCB', 'chaos', $4, $5, '7890', $6)",
                account,
                provider,
                user,
                vault.seal(account, NUMBER),
                vault.key_id,
                document,
            )
            made.append(str(account))
    finally:
        await conn.close()
    return made
