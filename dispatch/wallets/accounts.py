"""Bank accounts: linked to a paper before it is reviewed, good while that paper is."""

from uuid import UUID

import orjson
import structlog

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.kit.errors import Invalid
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Postgres
from dispatch.providers import ProviderMissing
from dispatch.providers.documents import DocumentMissing
from dispatch.providers.review.errors import AlreadyVerified
from dispatch.wallets.errors import BankAccountMissing
from dispatch.wallets.store import Q, gate
from dispatch.wallets.vault import Unreadable, Vault
from protocol.resources.wallets import BankAccountRequest

log = structlog.get_logger("wallets")

LISTED_MAX = 100


class BankAccounts:
    """One per worker."""

    def __init__(self, pg: Postgres, idempotency: Idempotency, vault: Vault) -> None:
        self._pg = pg
        self._once = idempotency.once
        self._vault = vault

    async def add(self, actor: Actor, request: BankAccountRequest, key: str | None) -> Answer:
        """Link an account to an own paper that waits for its review: whoever reviews it sees the number beside it.

        Raises: ProviderMissing, DocumentMissing, Invalid (another type of paper), AlreadyVerified (too late for this paper).
        """
        account_id = new_id()
        number = request.account_number
        asked = {
            "bank_code": request.bank_code,
            "account_number": self._vault.blind(number),  # ten digits behind a plain hash are ten digits
            "account_name": request.account_name,
            "document_id": request.document_id,
        }
        async with self._once(actor, key, fingerprint_of("bank_accounts.add", asked)) as turn:
            if turn.replay is not None:
                return turn.replay
            await gate(turn.tx, actor.user_id)
            row = await turn.tx.fetchrow(
                Q["account_add"],
                account_id,
                actor.user_id,
                request.bank_code,
                request.account_name,
                self._vault.seal(account_id, number),
                self._vault.key_id,
                number[-4:],
                request.document_id,
            )
            assert row is not None
            match row["word"]:
                case "document":
                    raise DocumentMissing(f"no document {request.document_id} of this user")
                case "type":
                    problem = "a document of type bank_account"
                    raise Invalid("document_id", fields=[{"field": "document_id", "problem": problem}])
                case "late":
                    raise AlreadyVerified("this document does not wait for its review, or shows another account")
            answer = turn.keep(Answer(row["view"], 201))
        log.info("bank account linked", bank_account_id=str(account_id))
        return answer

    async def mine(self, actor: Actor) -> bytes:
        """The own ones that are not removed, newest first."""
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(Q["accounts_of"], actor.user_id, LISTED_MAX)
        return b'{"items":[' + b",".join(row["view"] for row in rows) + b"]}"

    async def remove(self, actor: Actor, account_id: UUID) -> None:
        """No money goes there any more; what was asked for before still does. Raises: BankAccountMissing."""
        async with self._pg.acting(actor) as tx:
            if not await tx.fetchval(Q["account_remove"], account_id, actor.user_id):
                raise BankAccountMissing(f"no bank account {account_id} of this user")

    async def of_provider(self, admin: Actor, provider_id: UUID) -> bytes:
        """All of a provider's, with their numbers; that they were read is written down. Raises: ProviderMissing."""
        async with self._pg.acting(admin) as tx:
            if not await tx.fetchval(Q["provider_known"], provider_id):
                raise ProviderMissing(f"no provider {provider_id}")
            rows = await tx.fetch(Q["accounts_file"], provider_id, LISTED_MAX)
            await audit.write(tx, admin, "read_bank_accounts", ("provider", provider_id))
        items = [orjson.loads(row["view"]) | number_of(self._vault, row["id"], row["sealed"]) for row in rows]
        return orjson.dumps({"items": items})


def number_of(vault: Vault, account_id: UUID, sealed: bytes) -> dict[str, str]:
    """{"account_number"}; nothing where no key opens it, which the log says."""
    try:
        return {"account_number": vault.open(account_id, sealed)}
    except Unreadable as error:
        log.error("a bank account cannot be read: set the key that it was sealed with", error=str(error))
        return {}
