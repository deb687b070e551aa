"""Use cases of identity."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from dispatch.accounts import issuers
from dispatch.accounts.attempts import Attempts
from dispatch.accounts.errors import TicketsUnavailable, UserMissing
from dispatch.accounts.issuers import Issuers
from dispatch.accounts.model import Access, Contact, OnVerified, Pending, Voice
from dispatch.accounts.proofs import Proofs
from dispatch.accounts.rules import Claims, mint, verify
from dispatch.accounts.sessions import Sessions
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Forbidden, SessionExpired, Unauthenticated
from dispatch.kit.ids import new_secret
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.redis import DOWN, Redis
from dispatch.kit.sql import Queries
from dispatch.settings import Settings
from protocol.notices import NoticeType

_Q = Queries(Path(__file__).with_name("queries.sql"))
TICKET_TTL_S = 30
_SEEN_MAX = 100_000
_SEEN_FOR_S = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What Postgres said of a user."""

    locale: str
    roles: frozenset[str] | None
    valid_after: float | None
    until: float


class Accounts:
    """Tokens in, actors out; what a person may change of himself, and an admin of him. Sessions and proofs have rooms of their own."""

    def __init__(self, settings: Settings, pg: Postgres, redis: Redis, clock: Clock) -> None:
        self._pg = pg
        self._clock = clock
        self._redis = redis
        self._settings = settings
        self._secrets = [secret.get_secret_value() for secret in settings.jwt_secrets]
        self._issuers = Issuers(settings.issuers, clock)
        attempts = Attempts(settings, pg, settings.link_key)
        self.proofs = Proofs(settings, pg, attempts, settings.link_key)
        self.sessions = Sessions(settings, pg, attempts, self.proofs, self.mint)
        # Users asked about within the last second (AUT-10 allows that much), the first to be forgotten first. Bounded: emptied when full.
        self._seen: OrderedDict[UUID, _Seen] = OrderedDict()

    def speak(self, voice: Voice) -> None:
        """How to tell people things. Set once, while the server is put together."""
        self.proofs.voice = voice

    def close(self) -> None:
        """Let go of the threads."""
        self.sessions.passwords.close()

    # --- who somebody is

    async def read(self, token: str) -> Claims:
        """Verify `token`, ours or an outside issuer's. Nothing is waited for unless it names a key that nobody has seen yet.

        Raises: SessionExpired, Unauthenticated, KeysUnavailable.
        """
        foreign = self._issuers.ring_of(token)
        if foreign is not None:
            ring, kid = foreign
            return await issuers.read(ring, token, kid)
        s = self._settings
        return verify(
            token, secrets=self._secrets, issuer=s.jwt_issuer, audience=s.jwt_audience, roles_claim=s.jwt_roles_claim
        )

    async def refresh_keys(self) -> None:
        """One turn of the loop that keeps outside issuers' keys young."""
        await self._issuers.refresh()

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
        """The actor of good claims; his user row exists afterwards. `fresh` asks Postgres instead of what it said within a second.

        Raises: Forbidden for a blocked user, SessionExpired for a token of before he signed out everywhere.
        """
        now = self._clock.monotonic()
        seen = self._seen.get(claims.user_id)
        if fresh or seen is None or seen.until <= now:
            async with self._pg.app() as conn:
                row = await conn.fetchrow(
                    _Q["user_ensure"],
                    claims.user_id,
                    claims.first_name,
                    claims.last_name,
                    claims.phone_number,
                    claims.email,
                    claims.email_verified,
                )
            assert row is not None
            if row["blocked"]:
                self._seen.pop(claims.user_id, None)
                raise Forbidden(f"user {claims.user_id} is blocked")
            self._age(now)
            after = None if row["valid_after"] is None else row["valid_after"].timestamp()
            seen = _Seen(row["locale"], _roles(row["roles"]), after, now + _SEEN_FOR_S)
            self._seen[claims.user_id] = seen
            self._seen.move_to_end(claims.user_id)
        if seen.valid_after is not None and claims.issued_at < seen.valid_after:
            raise SessionExpired("the token was made before its user signed out everywhere")
        return Actor(claims.user_id, claims.roles if seen.roles is None else seen.roles, seen.locale, address)

    def _age(self, now: float) -> None:
        """Make room: for each line that was ever opened, an answer that nobody may use any more would be a quarter of a KiB."""
        while self._seen and next(iter(self._seen.values())).until <= now:
            self._seen.popitem(last=False)
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()

    def forget(self, user_ids: Sequence[UUID]) -> None:
        """Ask Postgres again about these users at their next request (their rights or their locale changed)."""
        for user_id in user_ids:
            self._seen.pop(user_id, None)

    async def changed_lately(self) -> list[Access]:
        """Whose rights changed within the last hour, as they are now."""
        async with self._pg.system() as conn:
            rows = await conn.fetch(_Q["users_changed"])
        return [
            Access(
                row["id"],
                row["blocked"],
                None if row["valid_after"] is None else row["valid_after"].timestamp(),
                _roles(row["roles"]),
            )
            for row in rows
        ]

    # --- for other slices

    @property
    def on_verified(self) -> list[OnVerified]:
        """Called when a user proves an e-mail address, in the transaction that notes it. Append while the server is put together."""
        return self.proofs.on_verified

    async def ask_email(self, tx: Tx, user_id: UUID, email: str) -> tuple[UUID, list[Pending]]:
        """Have a link sent that proves `email` to be this user's; see `Proofs.ask_email`. (handle, facts to append)"""
        return await self.proofs.ask_email(tx, user_id, email)

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, object]) -> dict[str, str]:
        """What a message carries besides its text, for whoever delivers it; see `Proofs.secret_of`."""
        return await self.proofs.secret_of(conn, kind, data)

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact | None:
        """Where a person is reached. `conn` is the server's own, or acts for him or for an admin."""
        return await self.proofs.contact_of(conn, user_id)

    async def roles_set(self, tx: Tx, user_id: UUID, roles: Sequence[str] | None) -> list[str] | None:
        """Give a user these roles, whatever his token says; None: as it says. Returns what was set before.

        In an admin's transaction; call `forget` after it commits, other workers notice within a second. Raises: UserMissing.
        """
        row = await tx.fetchrow(_Q["user_roles_set"], user_id, None if roles is None else sorted(set(roles)))
        if row is None or not row["known"]:
            raise UserMissing(f"no user {user_id}")
        return None if row["before"] is None else list(row["before"])

    async def blocked_set(self, tx: Tx, user_id: UUID, blocked: bool, reason: str | None) -> bool:
        """Block a user or let him in again. Blocking ends his sessions and closes his sockets. Returns whether he was blocked.

        In an admin's transaction; call `forget` after it commits. Raises: UserMissing.
        """
        row = await tx.fetchrow(_Q["user_blocked_set"], user_id, blocked, reason)
        if row is None or not row["known"]:
            raise UserMissing(f"no user {user_id}")
        return bool(row["before"])

    # --- the own user

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

    async def sign_out_everywhere(self, actor: Actor) -> None:
        """End all sessions of this user, here at once and on other workers within a second."""
        await self.sessions.sign_out_everywhere(actor)
        self.forget([actor.user_id])

    async def reset_password(self, token: str, password: str) -> None:
        """See `Sessions.reset`."""
        self.forget([await self.sessions.reset(token, password)])

    # --- tickets

    async def sell_ticket(self, claims: Claims) -> str:
        """A one-use ticket for a socket, good for 30 s, that carries these claims. Raises: TicketsUnavailable."""
        ticket = new_secret()
        claimed = [str(claims.user_id), sorted(claims.roles), claims.expires_at.timestamp(), claims.issued_at]
        body = orjson.dumps(claimed)
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
        user_id, roles, expires, issued_at = orjson.loads(body)
        return Claims(UUID(user_id), frozenset(roles), datetime.fromtimestamp(expires, UTC), issued_at=issued_at)

    async def forget_request_ids(self, *, hours: int, batch: int = 5_000) -> int:
        """Forget one batch of request ids older than `hours`. Returns how many went."""
        async with self._pg.system() as conn:
            gone = await conn.fetchval(_Q["idem_forget"], hours, batch)
        return int(gone)

    async def forget_proofs(self, *, batch: int = 5_000) -> int:
        """Forget one batch of counted tries, tokens and codes that can decide nothing any more. Returns how many went."""
        async with self._pg.system() as conn:
            return int(await conn.fetchval(_Q["accounts_forget"], batch))


def _me(row: Any, actor: Actor) -> dict[str, Any]:
    fields = {key: row[key] for key in ("first_name", "last_name", "email", "phone_number") if row[key] is not None}
    proved = {key: row[key] for key in ("email_verified", "phone_verified")}
    return {"id": str(row["id"]), **fields, **proved, "locale": row["locale"], "roles": sorted(actor.roles)}


def _roles(found: list[str] | None) -> frozenset[str] | None:
    return None if found is None else frozenset(found)
