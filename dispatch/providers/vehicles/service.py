"""Use cases of a provider's own vehicles."""

from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Fact, Inbox, append
from dispatch.kit.errors import Invalid
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.providers.documents import DocumentMissing
from dispatch.providers.errors import AlreadyBusy, ProviderMissing
from dispatch.providers.service import updated
from dispatch.providers.store import check_not_banned, cleared, lock_gate
from dispatch.providers.vehicles import rules
from dispatch.providers.vehicles.errors import PlateTaken, StaleVersion, VehicleMissing, VehicleNotApproved
from dispatch.providers.vehicles.model import Fields, VehicleRow
from dispatch.providers.vehicles.store import Q, vehicle_row
from protocol.papers import DocumentType, VehicleStatus
from protocol.resources.papers import VehiclePatch, VehicleRequest

VEHICLES_MAX = 20
"""Of one provider, rejected ones too: those can be put right."""

log = structlog.get_logger("vehicles")


class Vehicles:
    """One per worker."""

    def __init__(self, pg: Postgres, inbox: Inbox, idempotency: Idempotency) -> None:
        self._pg = pg
        self._inbox = inbox
        self._once = idempotency.once

    async def add(self, actor: Actor, request: VehicleRequest, key: str | None) -> Answer:
        """Register a vehicle; it waits for the office. Raises: ProviderMissing, Invalid, PlateTaken, DocumentMissing."""
        fields = Fields(**msgspec.structs.asdict(request))
        mark = rules.plate_key(fields.plate_number)
        try:
            async with self._once(actor, key, fingerprint_of("vehicles.add", request)) as turn:
                if turn.replay is not None:
                    return turn.replay
                owner = await turn.tx.fetchrow(Q["vehicle_owner"], actor.user_id)
                if owner is None:
                    raise ProviderMissing("this user is no provider")
                rules.check(fields, owner["today"])
                await lock_gate(turn.tx, owner["id"])
                await check_not_banned(turn.tx, actor.user_id)
                # Counted again under the lock: two at once must not both be the last.
                again = await turn.tx.fetchrow(Q["vehicle_owner"], actor.user_id)
                if again is None or again["vehicles"] >= VEHICLES_MAX:
                    raise Invalid(
                        "too many vehicles", fields=[{"field": "vehicles", "problem": f"at most {VEHICLES_MAX}"}]
                    )
                await self._check_registration(turn.tx, actor, fields.registration_document_id)
                view = await turn.tx.fetchval(Q["vehicle_add"], new_id(), owner["id"], *_values(fields, mark))
                facts = await self._judged(turn.tx, owner["id"], actor.user_id)
                answer = turn.keep(Answer(view, 201))
        except asyncpg.UniqueViolationError as error:
            raise PlateTaken("a vehicle with this plate is registered") from error
        self._inbox.deliver(facts)
        log.info("vehicle registered", provider_id=str(owner["id"]))
        return answer

    async def mine(self, actor: Actor) -> bytes:
        """The own vehicles, newest first. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            if await tx.fetchrow(Q["vehicle_owner"], actor.user_id) is None:
                raise ProviderMissing("this user is no provider")
            rows = await tx.fetch(Q["vehicles_own"], actor.user_id, VEHICLES_MAX)
        return b'{"items":[' + b",".join(row["body"] for row in rows) + b"]}"

    async def change(self, actor: Actor, vehicle_id: UUID, patch: VehiclePatch) -> bytes:
        """Change an own vehicle. What says which vehicle it is sends it back to the office and out of use: not during a job.

        Raises: VehicleMissing, StaleVersion, Invalid, PlateTaken, DocumentMissing, AlreadyBusy.
        """
        told: dict[str, Any] = {
            name: value
            for name, value in msgspec.structs.asdict(patch).items()
            if value is not None and name != "version"
        }
        try:
            async with self._pg.acting(actor) as tx:
                row = await self._locked(tx, vehicle_id, actor)
                if patch.version is not None and patch.version != row.version:
                    raise StaleVersion(f"version {patch.version} is not {row.version}", version=row.version)
                fields, again = rules.changed(row, told)
                if fields == row.fields:
                    same: bytes = await tx.fetchval(Q["vehicle_view"], vehicle_id)
                    return same
                if fields.registration_document_id != row.fields.registration_document_id:
                    await self._check_registration(tx, actor, fields.registration_document_id)
                if again and row.is_active:
                    await self._check_idle(tx, row.provider_id)
                view: bytes = await tx.fetchval(
                    Q["vehicle_change"], vehicle_id, *_values(fields, rules.plate_key(fields.plate_number)), again
                )
                facts = await self._judged(tx, row.provider_id, actor.user_id)
        except asyncpg.UniqueViolationError as error:
            raise PlateTaken("a vehicle with this plate is registered") from error
        self._inbox.deliver(facts)
        log.info("vehicle changed", vehicle_id=str(vehicle_id), again=again)
        return view

    async def activate(self, actor: Actor, vehicle_id: UUID) -> bytes:
        """Put an own approved vehicle into use instead of the other. Again is fine.

        Raises: VehicleMissing, VehicleNotApproved, AlreadyBusy.
        """
        async with self._pg.acting(actor) as tx:
            row = await self._locked(tx, vehicle_id, actor)
            if row.status is not VehicleStatus.APPROVED or row.run_out:
                raise VehicleNotApproved(f"the vehicle is {row.status}", status=row.status)
            if not row.is_active:
                await self._check_idle(tx, row.provider_id)
            view: bytes = await tx.fetchval(Q["vehicle_activate"], vehicle_id)
            facts = await self._judged(tx, row.provider_id, actor.user_id)
        self._inbox.deliver(facts)
        return view

    async def _locked(self, tx: Tx, vehicle_id: UUID, actor: Actor) -> VehicleRow:
        """The own vehicle as it is once the gate is locked."""
        row = await vehicle_row(tx, vehicle_id, actor.user_id)
        if row is None:
            raise VehicleMissing(f"no vehicle {vehicle_id}")
        await lock_gate(tx, row.provider_id)
        await check_not_banned(tx, actor.user_id)
        again = await vehicle_row(tx, vehicle_id, actor.user_id)
        assert again is not None
        return again

    async def _check_idle(self, tx: Tx, provider_id: UUID) -> None:
        # The gate is locked, so no accept of his is under way.
        if await tx.fetchval(Q["active_job"], provider_id) is not None:
            raise AlreadyBusy("his vehicle is on the road")

    async def _check_registration(self, tx: Tx, actor: Actor, document_id: UUID | None) -> None:
        if document_id is None:
            return
        kind = await tx.fetchval(Q["registration_kind"], document_id, actor.user_id)
        if kind is None:
            raise DocumentMissing(f"no document {document_id}")
        if kind != DocumentType.VEHICLE_REGISTRATION:
            problem = f"a {kind}, not a {DocumentType.VEHICLE_REGISTRATION}"
            raise Invalid("another document", fields=[{"field": "registration_document_id", "problem": problem}])

    async def _judged(self, tx: Tx, provider_id: UUID, user_id: UUID) -> list[Fact]:
        view = await cleared(tx, provider_id)
        return [] if view is None else await append(tx, [updated(user_id, view)])


def _values(fields: Fields, mark: str) -> tuple[Any, ...]:
    """In the order of the functions of the judge."""
    return (
        fields.vehicle_type,
        fields.make,
        fields.model,
        fields.year,
        fields.plate_number,
        mark,
        fields.color,
        fields.registration_expiry,
        fields.insurance_expiry,
        fields.registration_document_id,
    )
