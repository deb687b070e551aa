"""Use cases of a provider's own record. Status and shift changes touch jobs and offers too: they live above, in matching and admin."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import msgspec
import orjson
import structlog

from dispatch.accounts import Accounts, Answer, EmailTaken, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append, pending
from dispatch.kit.errors import IllegalTransition
from dispatch.kit.ids import new_id
from dispatch.kit.phone import e164
from dispatch.kit.postgres import Actor, Postgres
from dispatch.notifications import Notifications
from dispatch.providers import store
from dispatch.providers.errors import (
    BadReferral,
    DocumentsIncomplete,
    PhoneTaken,
    ProviderExists,
    ProviderMissing,
)
from dispatch.providers.model import ProviderState
from protocol.lifecycle import MAY_WORK, ProviderStatus, ServiceType
from protocol.papers import DocumentType
from protocol.resources import ProviderPatch, ProviderRequest

_TAKEN = {
    "providers_user_id_key": ProviderExists,
    "providers_email": EmailTaken,
    "providers_phone_number_key": PhoneTaken,
}


log = structlog.get_logger("providers")


class _Status(msgspec.Struct):
    status: str


_STATUS = msgspec.json.Decoder(_Status)


def updated(user_id: UUID, view: bytes) -> tuple[UUID, str, bytes]:
    """The fact that tells a provider of a change of his record."""
    return pending(user_id, "provider.updated", b'{"provider":' + view + b"}")


class Providers:
    """Registration and the own record."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        accounts: Accounts,
        notifications: Notifications,
        idempotency: Idempotency,
    ) -> None:
        self._pg = pg
        self._accounts = accounts
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once

    async def register(self, actor: Actor, request: ProviderRequest, key: str | None) -> Answer:
        """A new provider, pending, and a mail that asks him to prove his address. `verification_token` is a handle for asking how that
        stands, or for another mail: the secret travels by mail alone. Raises: ProviderExists, EmailTaken, PhoneTaken, BadReferral.
        """
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
                await store.lock_gate(turn.tx, provider_id)
                await store.cleared(turn.tx, provider_id)
                # Where nothing is required there is nothing to wait for.
                await store.submitted(turn.tx, provider_id)
                view = await turn.tx.fetchval(store.Q["provider_mine"], actor.user_id)
                handle, told = await self._accounts.ask_email(turn.tx, actor.user_id, request.email)
                facts = await append(turn.tx, [updated(actor.user_id, view), *told])
                made = {
                    "provider_id": str(provider_id),
                    "status": _STATUS.decode(view).status,
                    "verification_token": str(handle),
                }
                answer = turn.keep(Answer(orjson.dumps(made), 201))
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
        """Change profile fields of the own record. A service type is added when its papers are there: before approval it may wait for
        them. Raises: ProviderMissing, PhoneTaken, DocumentsIncomplete, Suspended.
        """
        kinds = None if patch.service_types is None else [str(kind) for kind in patch.service_types]
        phone = None if patch.phone_number is None else e164(patch.phone_number)
        try:
            async with self._pg.acting(actor) as tx:
                state = await store.state_of_user(tx, actor.user_id)
                if state is None:
                    raise ProviderMissing("this user is no provider")
                _, status, _ = await store.lock_gate(tx, state.id)
                await store.check_not_banned(tx, actor.user_id)
                if kinds is not None and status in (*MAY_WORK, ProviderStatus.SUSPENDED):
                    new = [kind for kind in kinds if kind not in state.registered_types]
                    if missing := await store.documents_missing(tx, state.id, new, uploaded=False):
                        raise DocumentsIncomplete("papers of the new service types are missing", missing=missing)
                await tx.execute(
                    store.Q["provider_patch"],
                    actor.user_id,
                    patch.first_name,
                    patch.last_name,
                    phone,
                    kinds,
                    patch.service_radius_m,
                )
                if kinds is not None:
                    await store.cleared(tx, state.id)
                    await store.submitted(tx, state.id)
                view: bytes = await tx.fetchval(store.Q["provider_mine"], actor.user_id)
                facts = await append(tx, [updated(actor.user_id, view)])
        except asyncpg.UniqueViolationError as error:
            raise PhoneTaken("another provider has this number") from error
        self._inbox.deliver(facts)
        return view

    async def reapply(self, actor: Actor) -> bytes:
        """A rejected provider is pending again; with all papers there he goes to review at once. Returns his record.

        Raises: ProviderMissing, IllegalTransition.
        """
        async with self._pg.acting(actor) as tx:
            state = await store.state_of_user(tx, actor.user_id)
            if state is None:
                raise ProviderMissing("this user is no provider")
            _, status, _ = await store.lock_gate(tx, state.id)
            view: bytes | None = await tx.fetchval(store.Q["reapply"], state.id)
            if view is None:
                raise IllegalTransition(f"apply again from {status}", status=status)
            view = await store.submitted(tx, state.id) or view
            facts = await append(tx, [updated(actor.user_id, view)])
        self._inbox.deliver(facts)
        return view

    async def require(
        self, documents: Mapping[ServiceType, Sequence[DocumentType]], vehicles: Sequence[ServiceType]
    ) -> None:
        """Write what each service type asks for. Gates judged by other requirements are judged again by `rejudge`."""
        if await store.require(self._pg, documents, vehicles):
            log.info("requirements changed; every provider is judged again")

    async def rejudge(self, limit: int = 200) -> int:
        """Judge again up to `limit` providers whose gate is out of date: a paper ran out, or requirements changed. Returns how many were.

        A gate that somebody holds is left alone: he comes again in the next turn, and those behind him now.
        """
        async with self._pg.system() as conn:
            stale = [row["provider_id"] for row in await conn.fetch(store.Q["gates_stale"], limit)]
        judged = 0
        for provider_id in stale:
            judged += await self._judge(provider_id)
        return judged

    async def judge_again(self, user_id: UUID) -> None:
        """Judge this user's papers now, as a provider; nothing if he is none."""
        async with self._pg.system() as conn:
            state = await store.state_of_user(conn, user_id)
        if state is not None:
            await self._judge(state.id)

    async def _judge(self, provider_id: UUID) -> bool:
        async with self._pg.system_tx() as tx:
            user_id: UUID | None = await tx.fetchval(store.Q["gate_try"], provider_id)
            if user_id is None:
                return False
            view = await store.cleared(tx, provider_id)
            # With fewer papers asked for, an application may have all of them now.
            view = await store.submitted(tx, provider_id) or view
            facts = [] if view is None else await append(tx, [updated(user_id, view)])
        self._inbox.deliver(facts)
        return True

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
