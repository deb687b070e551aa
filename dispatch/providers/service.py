"""Use cases of a provider's own record. Status and shift changes touch jobs and offers too: they live above, in matching and admin."""

from uuid import UUID

import asyncpg
import orjson

from dispatch.accounts import Answer, EmailTaken, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append, pending
from dispatch.kit.ids import new_id
from dispatch.kit.phone import e164
from dispatch.kit.postgres import Actor, Postgres
from dispatch.notifications import Notifications
from dispatch.providers import store
from dispatch.providers.errors import BadReferral, PhoneTaken, ProviderExists, ProviderMissing
from dispatch.providers.model import ProviderState
from protocol.resources import ProviderPatch, ProviderRequest

_TAKEN = {
    "providers_user_id_key": ProviderExists,
    "providers_email": EmailTaken,
    "providers_phone_number_key": PhoneTaken,
}


class Providers:
    """Registration and the own record."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications, idempotency: Idempotency) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once

    async def register(self, actor: Actor, request: ProviderRequest, key: str | None) -> Answer:
        """A new provider, pending. Raises: ProviderExists, EmailTaken, PhoneTaken, BadReferral."""
        provider_id = new_id()
        try:
            async with self._once(actor, key, fingerprint_of("providers.register", request)) as turn:
                if turn.replay is not None:
                    return turn.replay
                if request.referral_code is not None and not await turn.tx.fetchval(
                    store.Q["provider_uid_known"], request.referral_code
                ):
                    raise BadReferral("no provider has this uid")
                await turn.tx.execute(
                    store.Q["provider_register"],
                    provider_id,
                    actor.user_id,
                    request.first_name,
                    request.last_name,
                    request.email,
                    e164(request.phone_number),
                    [str(kind) for kind in request.service_types],
                    request.referral_code,
                )
                view = await turn.tx.fetchval(store.Q["provider_mine"], actor.user_id)
                facts = await append(
                    turn.tx, [pending(actor.user_id, "provider.updated", b'{"provider":' + view + b"}")]
                )
                answer = turn.keep(Answer(orjson.dumps({"provider_id": str(provider_id), "status": "pending"}), 201))
        except asyncpg.UniqueViolationError as error:
            raise _TAKEN.get(error.constraint_name or "", ProviderExists)("taken") from error
        self._inbox.deliver(facts)
        return answer

    async def mine(self, actor: Actor) -> bytes:
        """The own record as wire JSON. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(store.Q["provider_mine"], actor.user_id)
        if view is None:
            raise ProviderMissing("this user is no provider")
        return view

    async def change(self, actor: Actor, patch: ProviderPatch) -> bytes:
        """Change profile fields of the own record. Raises: ProviderMissing, PhoneTaken."""
        kinds = None if patch.service_types is None else [str(kind) for kind in patch.service_types]
        phone = None if patch.phone_number is None else e164(patch.phone_number)
        try:
            async with self._pg.acting(actor) as tx:
                view: bytes | None = await tx.fetchval(
                    store.Q["provider_patch"],
                    actor.user_id,
                    patch.first_name,
                    patch.last_name,
                    phone,
                    kinds,
                    patch.service_radius_m,
                )
                if view is None:
                    raise ProviderMissing("this user is no provider")
                facts = await append(tx, [pending(actor.user_id, "provider.updated", b'{"provider":' + view + b"}")])
        except asyncpg.UniqueViolationError as error:
            raise PhoneTaken("another provider has this number") from error
        self._inbox.deliver(facts)
        return view

    async def state(self, user_id: UUID) -> ProviderState | None:
        """What dispatch must know of this user as a provider; None: he is none."""
        async with self._pg.system() as conn:
            return await store.state_of_user(conn, user_id)

    async def states(self, user_ids: list[UUID]) -> list[ProviderState]:
        async with self._pg.system() as conn:
            return await store.states_of_users(conn, user_ids)

    async def last_place(self, user_id: UUID) -> tuple[float, float] | None:
        """Where Postgres last saw him: at going online or a change of state. (lat, lng)"""
        async with self._pg.system() as conn:
            row = await conn.fetchrow(store.Q["last_place"], user_id)
        return None if row is None or row["last_lat"] is None else (row["last_lat"], row["last_lng"])
