"""Use cases of verification."""

from pathlib import Path
from uuid import UUID

import structlog

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres
from dispatch.kit.sql import Queries
from dispatch.notifications import Notice, Notifications
from dispatch.providers.documents import DocumentMissing
from dispatch.providers.errors import ProviderMissing
from dispatch.providers.review import rules
from dispatch.providers.service import updated
from dispatch.providers.store import cleared, lock_gate, status_set
from dispatch.providers.vehicles import VehicleMissing
from dispatch.providers.vehicles.errors import StaleVersion
from dispatch.providers.vehicles.store import vehicle_row
from protocol.lifecycle import ProviderStatus
from protocol.notices import NoticeType
from protocol.papers import DocumentStatus, ReviewAction
from protocol.resources.papers import ReviewRequest

_Q = Queries(Path(__file__).with_name("queries.sql"))

log = structlog.get_logger("review")


class Review:
    """One per worker."""

    def __init__(self, pg: Postgres, inbox: Inbox, notifications: Notifications, idempotency: Idempotency) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once

    async def document(self, admin: Actor, document_id: UUID, request: ReviewRequest, key: str | None) -> Answer:
        """Approve or reject a document that waits. With the last required one approved again, a suspension for papers ends here.

        Raises: DocumentMissing, ReasonRequired, AlreadyVerified, IllegalTransition.
        """
        action = request.action
        reason = rules.check_reason(action, request.reason)
        body = {"document_id": document_id, "request": request}
        async with self._once(admin, key, fingerprint_of("review.document", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            row = await tx.fetchrow(_Q["document_row"], document_id)
            if row is None:
                raise DocumentMissing(f"no document {document_id}")
            provider_id, user_id = row["provider_id"], row["user_id"]
            _, status, _ = await lock_gate(tx, provider_id)
            row = await tx.fetchrow(_Q["document_row"], document_id)
            assert row is not None
            goal = rules.judged_document(
                DocumentStatus(row["status"]),
                replaced=row["replaced"],
                expiry_date=row["expiry_date"],
                today=row["today"],
                action=action,
            )
            view = await tx.fetchval(_Q["document_review"], document_id, str(goal), reason, admin.user_id)
            kind = NoticeType.DOCUMENT_APPROVED if goal is DocumentStatus.APPROVED else NoticeType.DOCUMENT_REJECTED
            notices = [Notice(user_id, kind, {"document_type": row["document_type"], "reason": reason})]
            over = goal is DocumentStatus.APPROVED and await tx.fetchval(_Q["suspension_over"], provider_id)
            changed = await cleared(tx, provider_id)
            if over:
                changed = await status_set(
                    tx,
                    provider_id,
                    ProviderStatus.APPROVED,
                    reason=None,
                    cause=None,
                    uid=None,
                    actor_id=admin.user_id,
                )
                notices.append(Notice(user_id, NoticeType.ACCOUNT_REACTIVATED, {"reason": None}))
            await audit.write(
                tx,
                admin,
                str(action),
                ("document", document_id),
                before={"status": row["status"]},
                after={"status": str(goal)},
                reason=reason,
            )
            if over:
                await audit.write(
                    tx,
                    admin,
                    "reactivate",
                    ("provider", provider_id),
                    before={"status": status},
                    after={"status": ProviderStatus.APPROVED},
                )
            told = [] if changed is None else [updated(user_id, changed)]
            told += await self._notifications.write(tx, notices)
            facts = await append(tx, told)
            answer = turn.keep(Answer(view))
        self._inbox.deliver(facts)
        log.info("document reviewed", document_id=str(document_id), status=str(goal), by=str(admin.user_id))
        return answer

    async def vehicle(self, admin: Actor, vehicle_id: UUID, request: ReviewRequest, key: str | None) -> Answer:
        """Approve or reject a vehicle that waits. Who has none in use uses this one from now on.

        Raises: VehicleMissing, ReasonRequired, StaleVersion, IllegalTransition.
        """
        action = request.action
        reason = rules.check_reason(action, request.reason)
        body = {"vehicle_id": vehicle_id, "request": request}
        async with self._once(admin, key, fingerprint_of("review.vehicle", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            row = await vehicle_row(tx, vehicle_id, None)
            if row is None:
                raise VehicleMissing(f"no vehicle {vehicle_id}")
            await lock_gate(tx, row.provider_id)
            row = await vehicle_row(tx, vehicle_id, None)
            assert row is not None
            if request.version is not None and request.version != row.version:
                raise StaleVersion(f"version {request.version} is not {row.version}", version=row.version)
            goal = rules.judged_vehicle(row, action)
            view = await tx.fetchval(_Q["vehicle_review"], vehicle_id, str(goal), reason, admin.user_id)
            changed = await cleared(tx, row.provider_id)
            await audit.write(
                tx,
                admin,
                str(action),
                ("vehicle", vehicle_id),
                before={"status": row.status},
                after={"status": goal},
                reason=reason,
            )
            kind = NoticeType.VEHICLE_APPROVED if action is ReviewAction.APPROVE else NoticeType.VEHICLE_REJECTED
            car = f"{row.fields.make} {row.fields.model} {row.fields.plate_number}"
            told = [] if changed is None else [updated(row.user_id, changed)]
            told += await self._notifications.write(tx, [Notice(row.user_id, kind, {"vehicle": car, "reason": reason})])
            facts = await append(tx, told)
            answer = turn.keep(Answer(view))
        self._inbox.deliver(facts)
        log.info("vehicle reviewed", vehicle_id=str(vehicle_id), status=str(goal), by=str(admin.user_id))
        return answer

    async def queue(self, admin: Actor, *, limit: int, cursor: str | None) -> bytes:
        """A page of providers with something to verify, by their oldest submission. Raises: Invalid for a cursor not of ours."""
        after = read_cursor(cursor, oldest_first=True)
        async with self._pg.acting(admin) as tx:
            rows = await tx.fetch(_Q["verification_queue"], *after, limit + 1)
        return page(rows, limit)

    async def onboarding(self, actor: Actor) -> bytes:
        """Where the own application stands, step by step; in every status. Raises: ProviderMissing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(_Q["onboarding"], actor.user_id)
        if view is None:
            raise ProviderMissing("this user is no provider")
        return view
