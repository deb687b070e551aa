"""Proofs: that a person reads an e-mail address, that he holds a phone.

What is sent is derived from the id of a row with the server's key. So the transaction that causes a mail writes an id, the mail is made
whenever it goes out, and neither the notification nor a table ever holds the secret.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

from dispatch.accounts.attempts import CODE, SEND, Attempts
from dispatch.accounts.errors import BadToken, TokenExpired
from dispatch.accounts.model import Contact, OnVerified, Pending, Voice
from dispatch.accounts.rules import hash_of, link_token, one_number, phone_code, same_email
from dispatch.kit.errors import Invalid, Limited
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.sql import Queries
from dispatch.settings import Settings
from protocol.notices import NoticeType

_Q = Queries(Path(__file__).with_name("queries.sql"))

LINK_TTL_S: Final = 24 * 3600
CODE_TTL_S: Final = 300
CODE_TRIES: Final = 5
"""A guesser of six digits has one chance in 200,000 per code."""
RESET_TTL_S: Final = 3600
HANDLE: Final = "handle"
"""The one field of these notices' data: which row the secret is made of."""


_PURPOSE: Final = {NoticeType.EMAIL_VERIFICATION: "verify", NoticeType.PASSWORD_RESET: "reset"}


class Proofs:
    """One per worker."""

    def __init__(self, settings: Settings, pg: Postgres, attempts: Attempts, key: bytes) -> None:
        self._pg = pg
        self._attempts = attempts
        self._key = key
        self._links = {
            NoticeType.EMAIL_VERIFICATION: settings.email_link_template,
            NoticeType.PASSWORD_RESET: settings.password_link_template,
        }
        self.on_verified: list[OnVerified] = []
        self.voice: Voice

    # --- e-mail

    async def ask_email(self, tx: Tx, user_id: UUID, email: str) -> tuple[UUID, list[Pending]]:
        """Have a link sent that proves `email` to be this user's, in the caller's transaction, which must act for him.

        Returns the handle (for resend and status; it proves nothing) and the facts to append. An address that he has proved
        before is not asked again.
        """
        return await self._ask(tx, user_id, email, NoticeType.EMAIL_VERIFICATION, LINK_TTL_S)

    async def ask_reset(self, user_id: UUID, email: str) -> None:
        """Have a link sent to a user's own address that lets its reader set a new password."""
        async with self._pg.acting(Actor(user_id)) as tx:
            _, told = await self._ask(tx, user_id, email, NoticeType.PASSWORD_RESET, RESET_TTL_S)
            facts = await self.voice.append(tx, told)
        self.voice.deliver(facts)

    async def _ask(self, tx: Tx, user_id: UUID, email: str, kind: NoticeType, ttl_s: int) -> tuple[UUID, list[Pending]]:
        handle = new_id()
        token = hash_of(link_token(self._key, handle))
        if await tx.fetchval(_Q["email_ask"], handle, user_id, email, _PURPOSE[kind], token, float(ttl_s)):
            return handle, []
        return handle, await self.voice.tell(tx, user_id, kind, {HANDLE: str(handle)}, None)

    async def look(self, token: str, kind: NoticeType) -> None:
        """Whether `use` would take this token now; nothing is held. Raises: BadToken, TokenExpired."""
        async with self._pg.system() as conn:
            _judge(await conn.fetchval(_Q["email_look"], hash_of(token), _PURPOSE[kind]))

    async def use(self, tx: Tx, token: str, kind: NoticeType) -> tuple[UUID, list[Pending]]:
        """Use a token of a mail; (whose it is, facts). Its address counts as proved. Raises: BadToken, TokenExpired."""
        row = await tx.fetchrow(_Q["email_use"], hash_of(token), _PURPOSE[kind])
        assert row is not None
        _judge(row["word"])
        told: list[Pending] = []
        if row["fresh"]:
            for hook in self.on_verified:
                told += await hook(tx, row["user_id"], row["email"])
        return row["user_id"], told

    async def verify_email(self, token: str) -> None:
        """Raises: BadToken, TokenExpired."""
        async with self._pg.system_tx() as tx:
            _, told = await self.use(tx, token, NoticeType.EMAIL_VERIFICATION)
            facts = await self.voice.append(tx, told)
        self.voice.deliver(facts)

    async def resend(self, handle: str, address: str) -> None:
        """Send another link. Says nothing of whether there is such a handle: a mailbox that has got enough gets no more, in silence.

        Raises: Limited by this handle, known or not.
        """
        known = _uuid(handle)
        await self._attempts.take(SEND, whose=handle if known is None else str(known), address=address)
        row = None
        if known is not None:
            async with self._pg.system() as conn:
                row = await conn.fetchrow(_Q["email_handle"], known)
        if row is None or row["verified"]:
            return
        try:
            # One count with sign-up and forgotten passwords, however many handles lead to this mailbox.
            await self._attempts.take(SEND, whose=same_email(row["email"]), address="")
        except Limited:
            return
        async with self._pg.acting(Actor(row["user_id"])) as tx:
            _, told = await self.ask_email(tx, row["user_id"], row["email"])
            facts = await self.voice.append(tx, told)
        self.voice.deliver(facts)

    async def verified(self, handle: str) -> bool:
        """Whether the address behind a handle is proved. False also for a handle that never was."""
        if (known := _uuid(handle)) is None:
            return False
        async with self._pg.system() as conn:
            row = await conn.fetchrow(_Q["email_handle"], known)
        return row is not None and bool(row["verified"])

    # --- phone

    async def ask_code(self, actor: Actor, phone_number: str | None) -> None:
        """Send a code to this number, or to the own one. What was sent before is void. Raises: Invalid without any, Limited."""
        if phone_number is None:
            async with self._pg.acting(actor) as tx:
                row = await tx.fetchrow(_Q["user_me"], actor.user_id)
            phone_number = None if row is None else row["phone_number"]
        if phone_number is None:
            problem = "you have none yet: say which"
            raise Invalid("phone_number", fields=[{"field": "phone_number", "problem": problem}])
        # Of this number too: many users together send it no more than one could.
        number = one_number(phone_number)
        await self._attempts.take(SEND, whose=str(actor.user_id), address=actor.address, target=number)
        async with self._pg.acting(actor) as tx:
            code_id = new_id()
            await tx.execute(_Q["phone_code_ask"], actor.user_id, code_id, phone_number, float(CODE_TTL_S))
            told = await self.voice.tell(tx, actor.user_id, NoticeType.PHONE_VERIFICATION, {HANDLE: str(code_id)}, None)
            facts = await self.voice.append(tx, told)
        self.voice.deliver(facts)

    async def verify_code(self, actor: Actor, code: str) -> None:
        """The number that the newest code went to is this user's from now on. Raises: BadToken, TokenExpired, Limited."""
        taken = await self._attempts.take(CODE, whose=str(actor.user_id), address=actor.address)
        # The try commits before anybody looks: however many come at once, five are looked at.
        async with self._pg.acting(actor) as tx:
            row = await tx.fetchrow(_Q["phone_code_try"], actor.user_id, CODE_TRIES)
        assert row is not None
        match row["word"]:
            case "expired":
                raise TokenExpired("the code is older than five minutes")
            case "tries":
                raise Limited(f"this code was tried {CODE_TRIES} times: ask for a new one", retry_after_s=row["left_s"])
            case "none":
                raise BadToken("there is no code to verify")
        if not hmac.compare_digest(phone_code(self._key, row["id"]).encode(), code.encode()):
            raise BadToken("the code is wrong")
        async with self._pg.acting(actor) as tx:
            if not await tx.fetchval(_Q["phone_code_use"], actor.user_id, row["id"]):
                raise BadToken("the code was used, or a newer one was sent")
        await self._attempts.give_back(taken)

    # --- for whoever delivers

    async def secret_of(self, conn: Tx, kind: NoticeType, data: Mapping[str, object]) -> dict[str, str]:
        """What a message of this type carries besides its text, and where it must go: {"link", "address"} or {"code", "address"}.

        Empty for every other type; and when what was to be sent is used, void or expired, so that there is nothing left to send.
        """
        handle = _uuid(str(data.get(HANDLE, "")))
        if handle is None:
            return {}
        if kind is NoticeType.PHONE_VERIFICATION:
            number = await conn.fetchval(_Q["phone_secret"], handle)
            return {} if number is None else {"code": phone_code(self._key, handle), "address": number}
        if kind in self._links:
            email = await conn.fetchval(_Q["email_secret"], handle, _PURPOSE[kind])
            if email is not None:
                link = self._links[kind].replace("{token}", link_token(self._key, handle))
                return {"link": link, "address": email}
        return {}

    async def contact_of(self, conn: Tx, user_id: UUID) -> Contact | None:
        """Where a person is reached, by what he has proved. None: there is no such user."""
        row = await conn.fetchrow(_Q["user_contact"], user_id)
        if row is None:
            return None
        return Contact(row["locale"], row["email"], row["phone_number"], row["first_name"])


def _judge(word: str) -> None:
    if word == "expired":
        raise TokenExpired("the link is older than its life")
    if word != "ok":
        raise BadToken("no such link, or a used one")


def _uuid(text: str) -> UUID | None:
    """Only in the plain spelling of 36 characters, in any case: what is counted by its name has one name."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
