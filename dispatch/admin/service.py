"""Use cases of administration."""

from uuid import UUID

import orjson
import structlog

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, pending
from dispatch.inbox import store as inbox_store
from dispatch.jobs import store as jobs_store
from dispatch.kit.ids import new_word
from dispatch.kit.postgres import Actor
from dispatch.matching import Matching
from dispatch.matching.service import Q as MATCHING
from dispatch.providers import lock_gate, status_set
from dispatch.providers.rules import judged
from protocol.lifecycle import Actor as Role
from protocol.lifecycle import AdminAction, JobStatus, ProviderStatus

log = structlog.get_logger("admin")


class Admin:
    """One per worker."""

    def __init__(self, inbox: Inbox, matching: Matching, idempotency: Idempotency) -> None:
        self._inbox = inbox
        self._matching = matching
        self._once = idempotency.once

    async def act(
        self, actor: Actor, provider_id: UUID, action: AdminAction, reason: str | None, key: str | None
    ) -> Answer:
        """Change a provider's status. Suspension cancels his active job, tells its customer, and withdraws his offers at once.

        Raises: ProviderMissing, IllegalTransition, ReasonRequired.
        """
        body = {"provider_id": provider_id, "action": action, "reason": reason}
        affected: list[UUID] = []
        wake: list[UUID] = []
        async with self._once(actor, key, fingerprint_of("admin.act", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            user_id, status, _ = await lock_gate(tx, provider_id)
            goal = judged(status, action, reason)
            told: list[tuple[UUID, str, bytes]] = []
            if goal is ProviderStatus.SUSPENDED:
                for row in await tx.fetch(MATCHING["jobs_lock_of"], provider_id):
                    job = await jobs_store.locked(tx, row["job_id"])
                    if (
                        job is None
                        or job.provider_id != provider_id
                        or job.status in (JobStatus.COMPLETED, JobStatus.CANCELLED)
                    ):
                        continue
                    facts = await jobs_store.cancelled(
                        tx, job.id, by="system", actor_id=actor.user_id, role=Role.ADMIN, reason="provider_suspended"
                    )
                    told += [(fact["user_id"], fact["name"], fact["body"]) for fact in facts]
                    affected.append(job.id)
                voided = await tx.fetchrow(MATCHING["offers_void"], provider_id, "revoked")
                assert voided is not None
                told += [(fact["user_id"], fact["name"], fact["body"]) for fact in voided["told"]]
                wake = list(voided["wake"])
            view = await status_set(
                tx,
                provider_id,
                goal,
                reason=reason,
                cause="admin" if goal is ProviderStatus.SUSPENDED else None,
                # 40 random bits: a clash with a known uid is one in a million at a million providers, and then a retry away.
                uid=f"PRV-{new_word(10).upper()}" if action is AdminAction.APPROVE else None,
                actor_id=actor.user_id,
            )
            told.append(pending(user_id, "provider.updated", b'{"provider":' + view + b"}"))
            committed = await inbox_store.append(tx, told)
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
