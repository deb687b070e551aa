"""The end of papers: warnings, documents and vehicles that have run out, and the suspensions that follow.

Every worker sweeps. A provider is one short transaction under his gate, taken only when nobody else has it; what was done shows in the
rows, so nothing is done twice and nobody waits for a sweep. The gate itself refuses what a paper no longer covers from the
very instant (`cleared_until`); the sweep tells people and cleans up.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog

from dispatch.inbox import Fact, append
from dispatch.kit.clock import Clock
from dispatch.kit.postgres import STUCK, Postgres, Tx
from dispatch.kit.sql import Queries
from dispatch.matching import jobs_locked_of, offers_voided
from dispatch.notifications import Notice, Notifications
from dispatch.providers import cleared, online_set, status_set, updated
from protocol.lifecycle import MAY_WORK, ProviderStatus
from protocol.notices import NoticeType

_Q = Queries(Path(__file__).with_name("queries.sql"))
_START: Final = (date(1, 1, 1), UUID(int=0))
BATCH: Final = 200
PAUSE_S: Final = 0.05
"""Between batches at least, and as long as the batch took: half of the time the stores belong to others alone."""
_PASSES: Final = 3
"""Providers who were busy in one pass are asked again in the next; after these, in the next sweep."""

log = structlog.get_logger("expiry")

Told = list[tuple[UUID, str, bytes]]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did."""

    providers: int = 0
    """That had something due."""
    warned: int = 0
    expired: int = 0
    suspended: int = 0
    deferred: int = 0
    """Suspensions that wait for the end of a job."""
    vehicles: int = 0
    restored: int = 0
    """Suspended for papers that are in order again."""
    busy: int = 0
    """Left to the next sweep: somebody held them."""
    batches: int = 0

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


async def suspended_for_documents(
    tx: Tx, provider_id: UUID, user_id: UUID, lost: Sequence[str]
) -> tuple[Notice, Told, list[UUID]]:
    """Suspend a provider who has no active job, with his gate and jobs locked. Returns what he is told, facts yet to be numbered,
    and the jobs to search again after the commit.
    """
    withdrawn, wake = await offers_voided(tx, provider_id, "revoked")
    reason = f"documents expired: {', '.join(sorted(lost))}"  # for the office; he is told in his language
    view = await status_set(
        tx, provider_id, ProviderStatus.SUSPENDED, reason=reason, cause="documents", uid=None, actor_id=None
    )
    notice = Notice(user_id, NoticeType.ACCOUNT_SUSPENDED, {"reason": "documents", "cause": "documents"})
    return notice, [*withdrawn, updated(user_id, view)], wake


class Expiry:
    """One per worker, or of a command: then nobody listens to `deliver` and `search`, and the servers find out by their own loops."""

    def __init__(
        self,
        pg: Postgres,
        notifications: Notifications,
        clock: Clock,
        *,
        deliver: Callable[[list[Fact]], None] = lambda facts: None,
        search: Callable[[UUID], None] = lambda job_id: None,
    ) -> None:
        self._pg = pg
        self._notifications = notifications
        self._clock = clock
        self._deliver = deliver
        self._search = search

    async def sweep(self) -> Swept:
        """Everything that is due now, batch by batch. Any number of sweepers may run at once."""
        swept = Swept()
        for query in ("documents", "vehicles"):
            for _ in range(_PASSES):
                done = await self._pass(query)
                swept += replace(done, busy=0)
                if not done.busy:
                    break
            else:
                swept += Swept(busy=done.busy)
        async with self._pg.system() as conn:
            over = [row["provider_id"] for row in await conn.fetch(_Q["suspensions_over"], BATCH)]
        for provider_id in over:
            swept += await self._guarded(provider_id, self._judge_over)
        if swept.providers or swept.busy:
            log.info("papers swept", **{name: getattr(swept, name) for name in Swept.__dataclass_fields__})
        return swept

    async def _pass(self, what: str) -> Swept:
        """Once through all that is due, in order, so that nothing met twice stops it."""
        swept, after = Swept(), _START
        while True:
            began = self._clock.monotonic()
            rows = await self._due(what, after)
            for provider_id in dict.fromkeys(row["provider_id"] for row in rows):
                swept += await self._one(provider_id)
            swept += Swept(batches=1 if rows else 0)
            if len(rows) < BATCH:
                return swept
            after = (rows[-1]["day"], rows[-1]["id"])
            await self._clock.sleep(max(PAUSE_S, self._clock.monotonic() - began))

    async def _due(self, what: str, after: tuple[date, UUID]) -> list[Any]:
        query = _Q["documents_due"] if what == "documents" else _Q["vehicles_due"]
        async with self._pg.system() as conn:
            rows: list[Any] = await conn.fetch(query, *after, BATCH)
        return rows

    async def _one(self, provider_id: UUID) -> Swept:
        """Whatever is due of one provider, in one transaction."""
        return await self._guarded(provider_id, self._judge)

    async def suspend_due(self) -> int:
        """Suspend those whose job has ended since their papers did. Returns how many."""
        async with self._pg.system() as conn:
            due = [row["provider_id"] for row in await conn.fetch(_Q["suspend_due"], BATCH)]
        swept = Swept()
        for provider_id in due:
            swept += await self._guarded(provider_id, self._judge_due)
        return swept.suspended

    async def _guarded(
        self,
        provider_id: UUID,
        judge: Callable[[Tx, UUID, Any, list[UUID]], Awaitable[tuple[Swept, list[Notice], Told]]],
    ) -> Swept:
        wake: list[UUID] = []
        try:
            async with self._pg.system_tx() as tx:
                gate = await tx.fetchrow(_Q["gate_claim"], provider_id)
                if gate is None:
                    return Swept(busy=1)
                swept, notices, told = await judge(tx, provider_id, gate, wake)
                told += await self._notifications.write(tx, notices)
                facts = await append(tx, told) if told else []
        except STUCK as error:
            # Somebody holds his job; the others behind him need not wait.
            log.warning("papers not swept", provider_id=str(provider_id), error=repr(error))
            return Swept(busy=1)
        if swept.suspended or swept.deferred:
            log.info("papers ended a shift", provider_id=str(provider_id), suspended=bool(swept.suspended))
        self._deliver(facts)
        for job_id in wake:
            self._search(job_id)
        return swept

    async def _judge(self, tx: Tx, provider_id: UUID, gate: Any, wake: list[UUID]) -> tuple[Swept, list[Notice], Told]:
        user_id = gate["user_id"]
        expired = await tx.fetch(_Q["documents_expire"], provider_id)
        warned = await tx.fetch(_Q["documents_warn"], provider_id)
        vehicles = await tx.fetch(_Q["vehicles_suspend"], provider_id)
        cars = await tx.fetch(_Q["vehicles_warn"], provider_id)
        if not (expired or warned or vehicles or cars):
            return Swept(), [], []
        notices = [
            Notice(
                user_id,
                NoticeType.DOCUMENT_EXPIRING,
                {"document_type": row["document_type"], "days": row["days"]},
                key=f"document_expiring:{row['id']}:{row['warned_days']}",
            )
            for row in warned
        ]
        notices += [
            Notice(
                user_id,
                NoticeType.DOCUMENT_EXPIRING,
                {"document_type": row["document_type"], "days": row["days"], "vehicle_id": str(row["id"])},
                key=f"vehicle_expiring:{row['id']}:{row['day']}:{row['warned_days']}",
            )
            for row in cars
        ]
        notices += [
            Notice(
                user_id,
                NoticeType.DOCUMENT_EXPIRED,
                {"document_type": row["document_type"]},
                key=f"document_expired:{row['id']}",
            )
            for row in expired
        ]
        notices += [
            Notice(
                user_id,
                NoticeType.VEHICLE_SUSPENDED,
                {
                    "vehicle": f"{row['make']} {row['model']} {row['plate_number']}",
                    "reason": row["reason"],
                    "vehicle_id": str(row["id"]),
                },
            )
            for row in vehicles
        ]
        swept = Swept(providers=1, warned=len(warned) + len(cars), expired=len(expired), vehicles=len(vehicles))
        view = await cleared(tx, provider_id) if expired or vehicles else None
        told: Told = []
        lost = {row["document_type"] for row in expired} & set(
            await tx.fetchval(_Q["required_lost"], provider_id) or ()
        )
        if lost and gate["status"] in MAY_WORK:
            # Every job of his first: who ends one of them now waits, and is seen as he will be.
            await jobs_locked_of(tx, provider_id)
            if await tx.fetchval(_Q["active_job"], provider_id) is None:
                notice, told, woken = await suspended_for_documents(tx, provider_id, user_id, sorted(lost))
                notices.append(notice)
                view = None
                swept += Swept(suspended=1)
            else:
                # His passenger is not thrown out: no new work from now on, the suspension when this job has ended.
                view = await online_set(tx, provider_id, False, None, None, "system")
                told, woken = await offers_voided(tx, provider_id, "revoked")
                await tx.execute(_Q["suspend_due_set"], provider_id, True)
                swept += Swept(deferred=1)
            wake += woken
        if view is not None:
            told.append(updated(user_id, view))
        return swept, notices, told

    async def _judge_due(
        self, tx: Tx, provider_id: UUID, gate: Any, wake: list[UUID]
    ) -> tuple[Swept, list[Notice], Told]:
        # Asked again under the lock: another worker may have done it, he may have another job, the office may have approved a renewal.
        if not gate["suspend_due"]:
            return Swept(), [], []
        await jobs_locked_of(tx, provider_id)
        if await tx.fetchval(_Q["active_job"], provider_id) is not None:
            return Swept(), [], []
        lost = await tx.fetchval(_Q["required_lost"], provider_id)
        if not lost or gate["status"] not in MAY_WORK:
            await tx.execute(_Q["suspend_due_set"], provider_id, False)
            return Swept(), [], []
        notice, told, woken = await suspended_for_documents(tx, provider_id, gate["user_id"], lost)
        wake += woken
        return Swept(suspended=1), [notice], told

    async def _judge_over(
        self, tx: Tx, provider_id: UUID, gate: Any, wake: list[UUID]
    ) -> tuple[Swept, list[Notice], Told]:
        if not await tx.fetchval(_Q["suspension_over"], provider_id):
            return Swept(), [], []
        await cleared(tx, provider_id)
        view = await status_set(
            tx, provider_id, ProviderStatus.APPROVED, reason=None, cause=None, uid=None, actor_id=None
        )
        notice = Notice(gate["user_id"], NoticeType.ACCOUNT_REACTIVATED, {"reason": None})
        return Swept(restored=1), [notice], [updated(gate["user_id"], view)]
