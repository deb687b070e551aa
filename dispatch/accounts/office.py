"""The first admin: made by the operator, since nobody else could."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from dispatch.accounts.passwords import Passwords
from dispatch.kit.ids import new_id, new_secret
from dispatch.kit.postgres import Postgres
from dispatch.kit.sql import Queries
from dispatch.settings import Settings

_Q = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class MadeAdmin:
    """What became of an address."""

    user_id: UUID
    existed: bool
    password: str | None
    """A new one: he was made, or his address was not proved. None: his own still counts."""


async def first_admin(settings: Settings, email: str) -> MadeAdmin:
    """Make the user of this address an admin, or make him.

    An account whose address nobody has proved may be a stranger's, who waited for this: it changes hands. Its password is replaced
    and its sessions and tokens end, in the transaction that makes it an admin's.
    """
    if settings.database_url is None:
        raise ValueError("making an admin needs a database")
    passwords = Passwords()
    try:
        fresh = new_secret()[:20]
        hashed = await passwords.hash(fresh)
        async with Postgres.open(settings.database_url, size=2) as pg, pg.system_tx() as tx:
            row = await tx.fetchrow(_Q["admin_of"], email)
            if row is None:
                user_id, roles = new_id(), {"admin", "customer"}
                await tx.execute(_Q["user_sign_up"], user_id, email, None, None, None, None, hashed)
            else:
                user_id, roles = row["id"], {"admin", *(row["roles"] or ["customer"])}
                if not row["proved"]:
                    await tx.execute(_Q["password_set"], user_id, hashed)
            proved = row is not None and row["proved"]
            if not proved:
                # Whoever runs this command reads and writes the database: his word is proof enough.
                await tx.execute(_Q["email_vouch"], user_id, email)
            await tx.fetchrow(_Q["user_roles_set"], user_id, sorted(roles))
            return MadeAdmin(user_id, row is not None, None if proved else fresh)
    finally:
        passwords.close()
