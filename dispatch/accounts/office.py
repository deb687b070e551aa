"""The first admin: made by the operator, since nobody else could."""

from pathlib import Path
from uuid import UUID

from dispatch.accounts.passwords import Passwords
from dispatch.kit.ids import new_id, new_secret
from dispatch.kit.postgres import Postgres
from dispatch.kit.sql import Queries
from dispatch.settings import Settings

_Q = Queries(Path(__file__).with_name("queries.sql"))


async def first_admin(settings: Settings, email: str) -> tuple[UUID, str | None]:
    """Make the user of this address an admin, or make him; (user id, his password if he was made)."""
    if settings.database_url is None:
        raise ValueError("making an admin needs a database")
    passwords = Passwords()
    try:
        async with Postgres.open(settings.database_url, size=2) as pg, pg.system_tx() as tx:
            row = await tx.fetchrow(_Q["admin_of"], email)
            password = None
            if row is None:
                user_id, password = new_id(), new_secret()[:20]
                hashed = await passwords.hash(password)
                await tx.execute(_Q["user_sign_up"], user_id, email, None, None, None, None, hashed)
                # Whoever runs this command reads and writes the database: his word is proof enough.
                await tx.execute(_Q["email_vouch"], user_id, email)
                roles = {"admin", "customer"}
            else:
                user_id, roles = row["id"], {"admin", *(row["roles"] or ["customer"])}
            await tx.fetchrow(_Q["user_roles_set"], user_id, sorted(roles))
            return user_id, password
    finally:
        passwords.close()
