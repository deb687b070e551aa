"""Signing up, in and out. A sign-in is a family of refresh tokens, each good once."""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from dispatch.accounts.attempts import SEND, SIGN_IN, Attempts
from dispatch.accounts.errors import EmailTaken
from dispatch.accounts.passwords import Passwords
from dispatch.accounts.proofs import Proofs
from dispatch.accounts.rules import OWN_ROLES, hash_of, same_email
from dispatch.kit.errors import Busy, Forbidden, Overloaded, SessionExpired, Unauthenticated
from dispatch.kit.ids import new_id, new_secret
from dispatch.kit.phone import e164
from dispatch.kit.postgres import LOST, STUCK, Actor, Postgres, Tx
from dispatch.kit.sql import Queries
from dispatch.settings import Settings
from protocol.notices import NoticeType
from protocol.resources.accounts import SignUpRequest

log = structlog.get_logger("accounts")

_Q = Queries(Path(__file__).with_name("queries.sql"))

RESET_JOB: Final = "accounts.reset"
_POSTGRES_PAUSE_S: Final = 2.0

Mint = Callable[[UUID, list[str], int, datetime], str]
"""(user, roles, life in seconds, issued at) → access token."""


class Sessions:
    """One per worker."""

    def __init__(self, settings: Settings, pg: Postgres, attempts: Attempts, proofs: Proofs, mint: Mint) -> None:
        self._pg = pg
        self._attempts = attempts
        self._proofs = proofs
        self._mint = mint
        self._access_s = settings.access_ttl_s
        self._refresh_s = float(settings.refresh_ttl_days * 86_400)
        self.passwords = Passwords()

    async def sign_up(self, request: SignUpRequest, address: str) -> tuple[Actor, UUID, dict[str, Any]]:
        """A new user, signed in, with a mail on its way; (user, handle of the mail, tokens).

        Raises: EmailTaken, Limited, PasswordsBusy.
        """
        await self._attempts.take(SEND, whose=same_email(request.email), address=address)
        hashed = await self.passwords.hash(request.password)
        actor = Actor(new_id(), frozenset(OWN_ROLES), request.locale or "th", address)
        phone = None if request.phone_number is None else e164(request.phone_number)
        names = (request.first_name.strip(), request.last_name.strip())
        try:
            async with self._pg.acting(actor) as tx:
                await tx.execute(
                    _Q["user_sign_up"], actor.user_id, request.email, *names, phone, request.locale, hashed
                )
                handle, told = await self._proofs.ask_email(tx, actor.user_id, request.email)
                tokens = await self._opened(tx, actor.user_id, OWN_ROLES)
                facts = await self._proofs.voice.append(tx, told)
        except asyncpg.UniqueViolationError as error:
            raise EmailTaken("another user has this address") from error
        self._proofs.voice.deliver(facts)
        log.info("user signed up", user_id=str(actor.user_id))
        return actor, handle, tokens

    async def sign_in(self, email: str, password: str, address: str) -> dict[str, Any]:
        """Tokens of a new session. An unknown address and a wrong password are answered alike, after the same work.

        Raises: Unauthenticated; Forbidden for a blocked user who knows his password; Limited, PasswordsBusy.
        """
        taken = await self._attempts.take(SIGN_IN, whose=same_email(email), address=address)
        async with self._pg.system() as conn:
            row = await conn.fetchrow(_Q["user_by_email"], email)
        known = None if row is None else row["hash"]
        if not await self.passwords.check(known, password) or row is None or known is None:
            raise Unauthenticated("address or password is wrong")
        await self._attempts.give_back(taken)
        if row["blocked"]:
            raise Forbidden(f"user {row['id']} is blocked")
        async with self._pg.system_tx() as tx:
            if not await tx.fetchval(_Q["password_still"], row["id"], known):
                raise Busy("the password has just been changed")
            tokens = await self._opened(tx, row["id"], row["roles"] or OWN_ROLES)
        if self.passwords.stale(known):
            renewed = await self.passwords.hash(password)
            async with self._pg.system() as conn:
                await conn.execute(_Q["password_renew"], row["id"], known, renewed)
        return tokens

    async def refresh(self, token: str) -> dict[str, Any]:
        """New tokens for a refresh token, which is used up. A used one ends its whole session. Raises: SessionExpired, Unauthenticated."""
        secret = new_secret()
        async with self._pg.system() as conn:
            row = await conn.fetchrow(_Q["session_rotate"], hash_of(token), hash_of(secret), self._refresh_s)
        assert row is not None
        match row["word"]:
            case "ok":
                return self._tokens(row["user_id"], row["roles"] or OWN_ROLES, row["at"], secret)
            case "unknown":
                raise Unauthenticated("no such refresh token")
            case "reused":
                log.warning("a used refresh token came again: session ended", user_id=str(row["user_id"]))
        raise SessionExpired(f"the session is over ({row['word']})")

    async def sign_out(self, token: str) -> None:
        """End the session of a refresh token. One that is unknown or over already is as good."""
        async with self._pg.system() as conn:
            await conn.execute(_Q["session_end"], hash_of(token))

    async def sign_out_everywhere(self, actor: Actor) -> None:
        """End all sessions of this user; tokens made before are refused and his sockets closed, by every worker within a second."""
        async with self._pg.acting(actor) as tx:
            await tx.fetchval(_Q["sessions_end"], actor.user_id, "signed_out")
        log.info("user signed out everywhere", user_id=str(actor.user_id))

    async def forgot(self, email: str, address: str) -> None:
        """Have a mail sent that leads to a new password, if there is such a user; the answer says nothing of it. Raises: Limited.

        Only a job for it is written here, for an unknown address too: how long the answer takes must not say whether there is one, and an
        outage a moment later must not swallow the mail.
        """
        await self._attempts.take(SEND, whose=same_email(email), address=address)
        async with self._pg.system() as conn:
            await conn.execute(_Q["reset_ask"], email, RESET_JOB)

    async def send_reset(self, payload: bytes) -> float | None:
        """A job of the queue: write that mail. Run twice it writes two, and either link does. Raises: ValueError for a payload that is no user."""
        user_id = UUID(payload.decode("ascii"))
        try:
            async with self._pg.system() as conn:
                email = await conn.fetchval(_Q["user_email"], user_id)
            if email is not None:
                await self._proofs.ask_reset(user_id, email)
        except (*LOST, *STUCK, Overloaded) as error:
            log.warning("no Postgres for a mail", user_id=str(user_id), error=repr(error))
            return _POSTGRES_PAUSE_S
        return None

    async def reset(self, token: str, password: str) -> UUID:
        """A new password for whoever reads the mail; all his sessions end. Raises: BadToken, TokenExpired, PasswordsBusy."""
        # The token first: nobody makes us hash without one. And it is judged again when it is used, since hashing holds no lock.
        await self._proofs.look(token, NoticeType.PASSWORD_RESET)
        hashed = await self.passwords.hash(password)
        async with self._pg.system_tx() as tx:
            user_id, told = await self._proofs.use(tx, token, NoticeType.PASSWORD_RESET)
            await tx.execute(_Q["password_set"], user_id, hashed)
            facts = await self._proofs.voice.append(tx, told)
        self._proofs.voice.deliver(facts)
        log.info("password replaced by mail", user_id=str(user_id))
        return user_id

    async def _opened(self, tx: Tx, user_id: UUID, roles: Iterable[str]) -> dict[str, Any]:
        secret = new_secret()
        at = await tx.fetchval(_Q["session_open"], new_id(), user_id, hash_of(secret), self._refresh_s)
        return self._tokens(user_id, roles, at, secret)

    def _tokens(self, user_id: UUID, roles: Iterable[str], at: datetime, secret: str) -> dict[str, Any]:
        return {
            "access_token": self._mint(user_id, list(roles), self._access_s, at),
            "refresh_token": secret,
            "token_type": "Bearer",
            "expires_in_s": self._access_s,
        }
