"""Use cases of administration."""

from uuid import UUID

import orjson
import structlog

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append
from dispatch.jobs import cancelled, locked
from dispatch.kit.postgres import Actor
from dispatch.matching import Matching, jobs_locked_of, offers_voided
from dispatch.notifications import Notice, Notifications
from dispatch.providers import (
    check_application,
    check_papers,
    free_uid,
    judged,
    lock_gate,
    status_set,
    suspension_cause,
    updated,
)
from protocol.lifecycle import Actor as Role
from protocol.lifecycle import AdminAction, JobStatus, ProviderStatus
from protocol.notices import NoticeType

log = structlog.get_logger("admin")

_TOLD = {
    AdminAction.APPROVE: NoticeType.APPLICATION_APPROVED,
    AdminAction.REJECT: NoticeType.APPLICATION_REJECTED,
    AdminAction.SUSPEND: NoticeType.ACCOUNT_SUSPENDED,
    AdminAction.REACTIVATE: NoticeType.ACCOUNT_REACTIVATED,
}


class Admin:
    """One per worker."""

    def __init__(
        self, inbox: Inbox, matching: Matching, notifications: Notifications, idempotency: Idempotency
    ) -> None:
        self._inbox = inbox
        self._matching = matching
        self._notifications = notifications
        self._once = idempotency.once

    async def act(
        self, actor: Actor, provider_id: UUID, action: AdminAction, reason: str | None, key: str | None
    ) -> Answer:
        """Change a provider's status. Suspension cancels his active job, tells its customer, and withdraws his offers at once.

        Raises: ProviderMissing, IllegalTransition, ReasonRequired, EmailNotVerified, DocumentsIncomplete.
        """
        body = {"provider_id": provider_id, "action": action, "reason": reason}
        affected: list[UUID] = []
        wake: list[UUID] = []
        async with self._once(actor, key, fingerprint_of("admin.act", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            user_id, status, _ = await lock_gate(tx, provider_id)
            harder = (
                action is AdminAction.SUSPEND
                and status is ProviderStatus.SUSPENDED
                and await suspension_cause(tx, provider_id) == "documents"
            )
            # Suspended for papers, and now for more: approving the papers must not let him in again.
            goal = judged(ProviderStatus.ACTIVE if harder else status, action, reason)
            if action is AdminAction.APPROVE:
                await check_application(tx, provider_id)
            if action is AdminAction.REACTIVATE:
                await check_papers(tx, provider_id)
            told: list[tuple[UUID, str, bytes]] = []
            if goal is ProviderStatus.SUSPENDED:
                for job_id in await jobs_locked_of(tx, provider_id):
                    job = await locked(tx, job_id)
                    if (
                        job is None
                        or job.provider_id != provider_id
                        or job.status in (JobStatus.COMPLETED, JobStatus.CANCELLED)
                    ):
                        continue
                    told += await cancelled(
                        tx, job.id, by="system", actor_id=actor.user_id, role=Role.ADMIN, reason="provider_suspended"
                    )
                    affected.append(job.id)
                withdrawn, wake = await offers_voided(tx, provider_id, "revoked")
                told += withdrawn
            view = await status_set(
                tx,
                provider_id,
                goal,
                reason=reason,
                cause="admin" if goal is ProviderStatus.SUSPENDED else None,
                uid=await free_uid(tx) if action is AdminAction.APPROVE else None,
                actor_id=actor.user_id,
            )
            told.append(updated(user_id, view))
            told += await self._notifications.write(tx, [Notice(user_id, _TOLD[action], {"reason": reason})])
            await audit.write(
                tx,
                actor,
                str(action),
                ("provider", provider_id),
                before={"status": status},
                after={"status": goal, "affected_jobs": affected},
                reason=reason,
            )
            committed = await append(tx, told)
            jobs = orjson.dumps([str(job_id) for job_id in affected])
            answer = turn.keep(Answer(b'{"success":true,"provider":' + view + b',"affected_jobs":' + jobs + b"}"))
        self._inbox.deliver(committed)
        for job_id in wake:
            self._matching.search(job_id)
        log.info(
            "provider status",
            provider_id=str(provider_id),
            was=str(status),
            status=str(goal),
            by=str(actor.user_id),
            reason=reason,
        )
        return answer
