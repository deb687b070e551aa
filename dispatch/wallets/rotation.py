"""Sealing all account numbers with the newest key, so that an older one can be dropped."""

from dataclasses import dataclass
from uuid import UUID

from dispatch.kit.postgres import Postgres
from dispatch.settings import Settings
from dispatch.wallets.store import Q
from dispatch.wallets.vault import Unreadable, Vault

BATCH = 500


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many were sealed anew, and how many no key opens."""

    sealed: int
    unreadable: int


async def rotate(settings: Settings, *, batch: int = BATCH) -> Rotated:
    """Batch after batch, beside running servers. Servers must have the new key before; run it again when the last of them has it."""
    assert settings.database_url is not None
    vault = Vault.of(settings)
    sealed = unreadable = 0
    last = UUID(int=0)
    async with Postgres.open(settings.database_url, size=1) as pg:
        while True:
            ids, seals = [], []
            async with pg.system_tx() as tx:
                rows = await tx.fetch(Q["sealed_before"], vault.key_id, last, batch)
                for row in rows:
                    try:
                        number = vault.open(row["id"], row["sealed"])
                    except Unreadable:
                        unreadable += 1
                        continue
                    ids.append(row["id"])
                    seals.append(vault.seal(row["id"], number))
                await tx.execute(Q["reseal"], ids, seals, vault.key_id)
            sealed += len(ids)
            if len(rows) < batch:
                return Rotated(sealed, unreadable)
            last = rows[-1]["id"]
