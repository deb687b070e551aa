"""Tips: a customer's thanks for a completed job, all of it the provider's."""

from uuid import UUID

import orjson

from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.earnings import store
from dispatch.earnings.errors import TipExists
from dispatch.earnings.model import Row
from dispatch.earnings.payroll import earned
from dispatch.inbox import Inbox, append
from dispatch.jobs import JobMissing, JobNotCompleted, NotYourJob
from dispatch.kit.errors import Invalid, KeyReused, TooLate
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Tx
from dispatch.kit.postgres import Row as Record
from dispatch.ledger import Kind, Leg, credited, post, purse, wallet_told
from dispatch.markets import Markets
from dispatch.notifications import Notice, Notifications
from protocol.lifecycle import JobStatus
from protocol.notices import NoticeType
from protocol.resources.money import TipRequest

WITHIN_S = 7 * 24 * 3600.0


class Tips:
    """One per worker."""

    def __init__(self, inbox: Inbox, markets: Markets, notifications: Notifications, idempotency: Idempotency) -> None:
        self._inbox = inbox
        self._markets = markets
        self._notifications = notifications
        self._once = idempotency.once

    async def give(self, actor: Actor, job_id: UUID, request: TipRequest, key: str | None) -> Answer:
        """The customer of a completed job gives its provider a tip, once. What the provider owes is repaid out of it first.

        Raises: JobMissing, NotYourJob, JobNotCompleted, TooLate, TipExists, Invalid for another currency than the job's.
        """
        async with self._once(actor, key, fingerprint_of("tips.give", {"job_id": job_id, "tip": request})) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            job = await self._tippable(tx, actor, job_id, request)
            earner = job["provider_user_id"]
            before = await purse(tx, earner, job["currency"], tell=(earner,))
            legs = credited(before, request.amount_minor, Kind.RIDE_CLEARING)
            txn = await _posted(tx, job_id, job["currency"], legs, request.amount_minor)
            row = Row(
                new_id(),
                job["provider_id"],
                earner,
                "tip",
                job["market"],
                job["currency"],
                job_id=job_id,
                service_type=job["service_type"],
                tip_minor=request.amount_minor,
            )
            view = await store.add(tx, row, txn, str(self._markets[job["market"]].timezone))
            data = {"amount_minor": request.amount_minor, "currency": job["currency"], "job_id": str(job_id)}
            notices = [Notice(earner, NoticeType.TIP_RECEIVED, data, f"tip:{job_id}")]
            told = [earned(earner, view), wallet_told(before.after(legs))]
            facts = await append(tx, [*told, *await self._notifications.write(tx, notices)])
            answer = turn.keep(Answer(orjson.dumps(data), 201))
        self._inbox.deliver(facts)
        return answer

    async def _tippable(self, tx: Tx, actor: Actor, job_id: UUID, request: TipRequest) -> Record:
        job = await tx.fetchrow(store.Q["tip_job"], job_id, WITHIN_S)
        if job is None:
            raise JobMissing(f"no job {job_id}")
        if job["customer_id"] != actor.user_id:
            raise NotYourJob("only the customer of a job gives a tip for it")
        if job["status"] != JobStatus.COMPLETED:
            raise JobNotCompleted("the job is not completed", status=job["status"])
        if request.currency not in (None, job["currency"]):
            problem = f"the job is paid in {job['currency']}"
            raise Invalid("currency", fields=[{"field": "currency", "problem": problem}])
        if job["late"]:
            raise TooLate("a tip is given within seven days")
        return job


async def _posted(tx: Tx, job_id: UUID, currency: str, legs: list[Leg], amount_minor: int) -> int:
    try:
        posted = await post(tx, "tip", f"tip:{job_id}", currency, legs, ref=f"job:{job_id}", asked=[amount_minor])
    except KeyReused as error:
        raise TipExists("the job was tipped before, with another amount") from error
    if posted.replayed:
        raise TipExists("the job was tipped before")
    return posted.txn_id
