"""Use cases of identity."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from dispatch.accounts.errors import TicketsUnavailable
from dispatch.accounts.rules import Claims, mint, verify
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Forbidden, Unauthenticated
from dispatch.kit.ids import new_secret
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.sql import Queries
from dispatch.settings import Settings

_Q = Queries(Path(__file__).with_name("queries.sql"))
TICKET_TTL_S = 30
_SEEN_MAX = 100_000
_SEEN_FOR_S = 1.0


class Accounts:
    """Tokens in, actors out; and what a person may change of himself."""

    def __init__(self, settings: Settings, pg: Postgres, redis: Redis, clock: Clock) -> None:
        self._pg = pg
        self._clock = clock
        self._redis = redis
        self._settings = settings
        self._secrets = [secret.get_secret_value() for secret in settings.jwt_secrets]
        # Users asked about within the last second, with their locale (AUT-10 allows that much). Bounded: emptied when full.
        self._seen: dict[UUID, tuple[str, float]] = {}

    def read(self, token: str) -> Claims:
        """Verify `token`; no store is asked. Raises: SessionExpired, Unauthenticated."""
        s = self._settings
        return verify(
            token, secrets=self._secrets, issuer=s.jwt_issuer, audience=s.jwt_audience, roles_claim=s.jwt_roles_claim
        )

    def mint(self, user_id: UUID, roles: list[str], ttl_s: int, at: datetime | None = None) -> str:
        """A token signed with the newest secret."""
        s = self._settings
        return mint(
            user_id,
            roles,
            secret=self._secrets[0],
            issuer=s.jwt_issuer,
            audience=s.jwt_audience,
            roles_claim=s.jwt_roles_claim,
            at=at or self._clock.now(),
            ttl_s=ttl_s,
        )

    async def actor(self, claims: Claims, *, address: str = "", fresh: bool = False) -> Actor:
        """The actor of good claims; his user row exists afterwards. `fresh` asks Postgres whether he is blocked.

        Raises: Forbidden for a blocked user.
        """
        now = self._clock.monotonic()
        locale, until = self._seen.get(claims.user_id, ("", 0.0))
        if fresh or until <= now:
            async with self._pg.app() as conn:
                row = await conn.fetchrow(
                    _Q["user_ensure"], claims.user_id, claims.first_name, claims.last_name, claims.phone_number
                )
            assert row is not None
            if row["blocked"]:
                self._seen.pop(claims.user_id, None)
                raise Forbidden(f"user {claims.user_id} is blocked")
            if len(self._seen) >= _SEEN_MAX:
                self._seen.clear()
            locale = row["locale"]
            self._seen[claims.user_id] = (locale, now + _SEEN_FOR_S)
        return Actor(claims.user_id, claims.roles, locale, address)

    def forget(self, user_ids: list[UUID]) -> None:
        """Ask Postgres again about these users at their next request (they were blocked, or changed their locale)."""
        for user_id in user_ids:
            self._seen.pop(user_id, None)

    async def blocked_lately(self) -> list[UUID]:
        """Users who were blocked within the last hour, and still are."""
        async with self._pg.system() as conn:
            return [row["id"] for row in await conn.fetch(_Q["users_blocked"])]

    async def me(self, actor: Actor) -> dict[str, Any]:
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["user_me"], actor.user_id)
        assert row is not None
        return _me(row, actor)

    async def change_me(
        self,
        actor: Actor,
        *,
        first_name: str | None,
        last_name: str | None,
        phone_number: str | None,
        locale: str | None,
    ) -> dict[str, Any]:
        """Change the given fields of the own user; None keeps a field."""
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["user_patch"], actor.user_id, first_name, last_name, phone_number, locale)
        assert row is not None
        self.forget([actor.user_id])
        return _me(row, actor)

    async def sell_ticket(self, claims: Claims) -> str:
        """A one-use ticket for a socket, good for 30 s, that carries these claims. Raises: TicketsUnavailable."""
        ticket = new_secret()
        body = orjson.dumps([str(claims.user_id), sorted(claims.roles), claims.expires_at.timestamp()])
        try:
            await self._redis.once.set(f"tkt:{ticket}", body, ex=TICKET_TTL_S)
        except DOWN as error:
            raise TicketsUnavailable("tickets cannot be sold without Redis") from error
        return ticket

    async def redeem_ticket(self, ticket: str) -> Claims:
        """The claims a ticket was sold for; it is gone afterwards. Raises: Unauthenticated, TicketsUnavailable."""
        try:
            body = await self._redis.once.getdel(f"tkt:{ticket}")
        except DOWN as error:
            raise TicketsUnavailable("tickets cannot be redeemed without Redis") from error
        if body is None:
            raise Unauthenticated("the ticket is unknown, used or older than 30 s")
        user_id, roles, expires = orjson.loads(body)
        return Claims(UUID(user_id), frozenset(roles), datetime.fromtimestamp(expires, UTC))

    async def forget_request_ids(self, *, hours: int, batch: int = 5_000) -> int:
        """Forget one batch of request ids older than `hours`. Returns how many went."""
        async with self._pg.system() as conn:
            gone = await conn.fetchval(_Q["idem_forget"], hours, batch)
        return int(gone)


def _me(row: Any, actor: Actor) -> dict[str, Any]:
    fields = {key: row[key] for key in ("first_name", "last_name", "phone_number") if row[key] is not None}
    return {"id": str(row["id"]), **fields, "locale": row["locale"], "roles": sorted(actor.roles)}
