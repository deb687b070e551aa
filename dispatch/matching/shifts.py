"""Going on and off: the changes of intent, which touch the gate, offers and sometimes a job."""

from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID

import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.jobs import locked, released
from dispatch.kit.postgres import STUCK, Actor, Postgres, Tx
from dispatch.matching.errors import ServiceMismatch
from dispatch.matching.service import Matching
from dispatch.matching.store import Q, jobs_locked_of, offers_voided
from dispatch.presence import Presence
from dispatch.providers import (
    DocumentsIncomplete,
    ProviderMissing,
    ProviderState,
    VehicleRequired,
    check_may_work,
    cleared,
    lack_of,
    lock_gate,
    online_set,
    state_of_user,
    updated,
)
from protocol.lifecycle import Actor as Role
from protocol.lifecycle import JobStatus

log = structlog.get_logger("shifts")

_GONE_MAX = 100


class Shifts:
    """One per worker."""

    def __init__(
        self, pg: Postgres, inbox: Inbox, presence: Presence, matching: Matching, idempotency: Idempotency
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._presence = presence
        self._matching = matching
        self._once = idempotency.once

    async def start(
        self, actor: Actor, place: tuple[float, float] | None, kinds: Sequence[str] | None, key: str | None
    ) -> Answer:
        """Switch on. `place` (lat, lng) counts as a fix; None keeps the last one. `kinds` narrows the service types. The answer's
        body is the provider. Asking again changes only the place. Raises: ProviderMissing, NotApproved, Suspended, ServiceMismatch,
        DocumentsIncomplete, VehicleRequired (cleared for none of the service types that he wants).
        """
        lat, lng = place if place is not None else (None, None)
        body = {"online": True, "lat": lat, "lng": lng, "kinds": kinds}
        facts = []
        async with self._once(actor, key, fingerprint_of("shift", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            state = await self._locked(turn.tx, actor.user_id)
            check_may_work(state.status)
            if kinds is not None and (strange := set(kinds) - set(state.registered_types)):
                raise ServiceMismatch("not among the provider's service types", service_types=sorted(strange))
            wanted = state.registered_types if kinds is None else tuple(kinds)
            if not set(wanted) & set(state.cleared_types):
                # A paper of one of his types may just have run out: the others are his as soon as he is judged again.
                await cleared(turn.tx, state.id)
                state = await self._locked(turn.tx, actor.user_id)
            if not set(wanted) & set(state.cleared_types):
                await self._refuse(turn.tx, state.id, wanted)
            view = await online_set(
                turn.tx, state.id, True, lat, lng, "provider", None if kinds is None else list(kinds)
            )
            if not state.online:
                facts = await append(turn.tx, [updated(actor.user_id, view)])
            answer = turn.keep(Answer(view))
        self._inbox.deliver(facts)
        live = self._presence.of(actor.user_id)
        if live is not None:
            if place is not None:
                self._presence.put(live, *place)
            live.open = True
            live.service_types = tuple(kind for kind in wanted if kind in state.cleared_types)
            self._presence.touch(live)
        if not state.online:
            log.info("provider online", provider_id=str(state.id))
        return answer

    async def _refuse(self, tx: Tx, provider_id: UUID, wanted: Sequence[str]) -> NoReturn:
        """Say what he lacks for the first of the service types: the others lack something too."""
        word, missing = await lack_of(tx, provider_id, wanted[0])
        if word == "vehicle":
            raise VehicleRequired(f"{wanted[0]} needs a vehicle", service_type=wanted[0])
        raise DocumentsIncomplete(f"{wanted[0]} lacks papers", service_type=wanted[0], missing=missing)

    async def end(self, actor: Actor, key: str | None) -> Answer:
        """Switch off: always allowed. An active job goes on; live offers are withdrawn. The answer's body is the provider."""
        async with self._once(actor, key, fingerprint_of("shift", {"online": False})) as turn:
            if turn.replay is not None:
                return turn.replay
            state = await self._locked(turn.tx, actor.user_id)
            view = await online_set(turn.tx, state.id, False, None, None, "provider")
            told, wake = await offers_voided(turn.tx, state.id, "revoked")
            if state.online:
                told.append(updated(actor.user_id, view))
            facts = await append(turn.tx, told)
            answer = turn.keep(Answer(view))
        self._inbox.deliver(facts)
        live = self._presence.of(actor.user_id)
        if live is not None:
            live.open = False
            self._presence.touch(live)
        for job_id in wake:
            self._matching.search(job_id)
        log.info("provider offline", provider_id=str(state.id), by="provider")
        return answer

    async def sweep(self, gone_s: float) -> int:
        """End the shifts of providers who have had no socket for `gone_s`, and take their jobs back before pickup. Returns how many.

        None while nobody can say whose workers live: an outage of Postgres must not end everybody's shift.
        """
        if not self._inbox.beats_tell:
            return 0
        async with self._pg.system() as conn:
            gone = await conn.fetch(Q["providers_gone"], gone_s, _GONE_MAX)
        for row in gone:
            try:
                await self._end_gone(row["provider_id"], row["user_id"], gone_s)
            except STUCK as error:
                # Somebody holds his rows; the others behind him need not wait. He comes again in the next turn.
                log.warning("shift not ended", provider_id=str(row["provider_id"]), error=repr(error))
        return len(gone)

    async def _end_gone(self, provider_id: UUID, user_id: UUID, gone_s: float) -> None:
        async with self._pg.system_tx() as tx:
            _, _, online = await lock_gate(tx, provider_id)
            # Asked again under the lock: another worker may have done it, or he may have come back.
            if not any(
                row["provider_id"] == provider_id for row in await tx.fetch(Q["providers_gone"], gone_s, 10_000)
            ):
                return
            await jobs_locked_of(tx, provider_id)
            view = await online_set(tx, provider_id, False, None, None, "system")
            told, searching = await offers_voided(tx, provider_id, "revoked")
            state = await state_of_user(tx, user_id)
            job = None if state is None or state.active_job is None else await locked(tx, state.active_job)
            if job is not None and job.status in (JobStatus.ACCEPTED, JobStatus.ARRIVED):
                rows = await released(tx, job.id, by="system", actor_id=None, role=Role.SYSTEM, reason="provider_gone")
                told += rows
                searching.append(job.id)
            if online:
                told.append(updated(user_id, view))
            facts = await append(tx, told)
        self._inbox.deliver(facts)
        for job_id in searching:
            self._matching.search(job_id)
        log.info("provider offline", provider_id=str(provider_id), by="system", released=job is not None)

    async def _locked(self, tx: Tx, user_id: UUID) -> ProviderState:
        state = await state_of_user(tx, user_id)
        if state is None:
            raise ProviderMissing("this user is no provider")
        await lock_gate(tx, state.id)
        # Read again: the gate may have changed while we waited for it.
        again = await state_of_user(tx, user_id)
        assert again is not None
        return again
