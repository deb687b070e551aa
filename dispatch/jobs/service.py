"""Use cases of a job's life, but for winning it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import structlog

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of, refuse
from dispatch.inbox import Fact, Inbox, append, facts_of, pending
from dispatch.jobs import rules, store
from dispatch.jobs.errors import JobMissing, NotYourJob, OutsideMarket
from dispatch.jobs.model import Completed, JobRow, Payroll, Trail, TrailBook
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.markets import Market, Markets, StraightLine, fare, net_minor
from protocol.lifecycle import Actor as Role
from protocol.lifecycle import JobStatus, Stage
from protocol.resources import JobRequest

log = structlog.get_logger("jobs")


class Jobs:
    """Create, read, advance, cancel. `woken` and `ended` are told after the commit, in place of questions downwards."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        markets: Markets,
        idempotency: Idempotency,
        *,
        trails: TrailBook,
        payroll: Payroll,
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._markets = markets
        self._once = idempotency.once
        self._trails = trails
        self._payroll = payroll
        self._boards = [market.code for market in markets if market.open_board]
        self.on_search: list[Callable[[UUID], None]] = []
        """Told the id of a job that looks for a provider now."""

    def market_at(self, lat: float, lng: float) -> Market:
        """Raises: OutsideMarket."""
        market = self._markets.at(lat, lng)
        if market is None:
            raise OutsideMarket("no market holds this pickup", lat=lat, lng=lng)
        return market

    async def create(self, actor: Actor, request: JobRequest, key: str | None) -> Answer:
        """A new job, pending; offers start at once. Raises: OutsideMarket, KeyReused, StillRunning."""
        market = self.market_at(request.pickup.lat, request.pickup.lng)
        route = StraightLine(market.speed_mps, market.detour_factor)
        drop = request.dropoff
        leg = None if drop is None else route.estimate((request.pickup.lat, request.pickup.lng), (drop.lat, drop.lng))
        parts = fare(market.tariff, leg.distance_m if leg else 0, leg.duration_s if leg else 0, market.surge_pct)
        coarse = {"pickup": rules.glimpse(market, request.pickup)} | (
            {} if drop is None else {"dropoff": rules.glimpse(market, drop)}
        )
        job_id = new_id()
        async with self._pg.app() as conn:
            row = await conn.fetchrow(
                store.Q["job_create"],
                actor.user_id,
                key,
                fingerprint_of("jobs.create", request),
                job_id,
                market.code,
                str(request.service_type),
                request.pickup.lat,
                request.pickup.lng,
                request.pickup.address,
                None if drop is None else drop.lat,
                None if drop is None else drop.lng,
                None if drop is None else drop.address,
                orjson.dumps(coarse),
                rules.UNNAMED,
                request.note,
                str(request.payment_method or "cashless"),
                market.currency,
                market.surge_pct,
                leg.distance_m if leg else None,
                leg.duration_s if leg else None,
                parts.base_minor,
                parts.distance_minor,
                parts.time_minor,
                parts.surge_minor,
                net_minor(parts.total_minor, market.platform_fee_percent),
                market.job_ttl_s,
            )
        assert row is not None
        refuse(row["word"], key)
        answer = Answer(row["view"], 201, replayed=row["word"] == "replay")
        if answer.replayed:
            return answer
        facts = facts_of(row["facts"])
        self._inbox.deliver(facts)
        log.info("job created", job_id=str(job_id), market=market.code, service_type=str(request.service_type))
        for listener in self.on_search:
            listener(job_id)
        return answer

    async def read(self, actor: Actor, job_id: UUID) -> bytes:
        """The job as the caller may see it: a party's view, or the offer view. Raises: JobMissing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(store.Q["job_view"], job_id, actor.user_id)
            if view is None:
                view = await tx.fetchval(store.Q["job_offer_view"], actor.user_id, job_id, self._boards)
        if view is None:
            raise JobMissing(f"no job {job_id}")
        return view

    async def page(
        self, actor: Actor, *, status: JobStatus | None, limit: int, cursor: str | None, everybody: bool = False
    ) -> bytes:
        """A page of jobs, newest first: the own ones, or (`everybody`, for admins) all. Raises: Invalid for a cursor not of ours."""
        before_at, before_id = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            if everybody:
                statuses = [str(one) for one in (JobStatus if status is None else (status,))]
                rows = await tx.fetch(store.Q["jobs_all"], statuses, before_at, before_id, limit + 1)
            else:
                own = None if status is None else str(status)
                rows = await tx.fetch(store.Q["jobs_of"], actor.user_id, own, before_at, before_id, limit + 1)
        return page(rows, limit)

    async def stuck(self, actor: Actor, *, limit: int) -> bytes:
        """Jobs that need a person."""
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(store.Q["jobs_stuck"], limit)
        return page(rows, limit)

    async def party(self, actor: Actor, job_id: UUID) -> JobRow:
        """The job's facts, for a party of it. Raises: JobMissing."""
        async with self._pg.acting(actor) as tx:
            row = await store.seen(tx, job_id)
        if row is None:
            raise JobMissing(f"no job {job_id}")
        return row

    async def advance(
        self,
        actor: Actor,
        job_id: UUID,
        to: Stage,
        *,
        distance_m: float | None = None,
        duration_s: float | None = None,
        key: str | None,
    ) -> Answer:
        """Move an own job on: arrived, in_progress, completed. The answer's body is the job.

        `duration_s` is the phone's and kept for nobody: the server's duration counts. Raises: JobMissing, NotYourJob, IllegalTransition.
        """
        goal = JobStatus(str(to))
        body = {"job_id": job_id, "to": goal, "distance_m": distance_m, "duration_s": duration_s}
        async with self._once(actor, key, fingerprint_of("jobs.advance", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            job = await self._lock(turn.tx, actor, job_id)
            role = job.role_of(actor.user_id, admin=actor.admin)
            if role is not Role.PROVIDER or job.provider_user_id != actor.user_id:
                raise NotYourJob("only the assigned provider moves a job on")
            rules.check_move(job.status, goal, Role.PROVIDER)
            trail = self._trails.peek(job_id)
            end = self._settled(job, distance_m, trail) if goal is JobStatus.COMPLETED else None
            done = (
                await self._step(turn.tx, job, goal, trail)
                if end is None
                else await self._complete(turn.tx, job, end, distance_m, trail)
            )
            paid = [] if end is None else await self._payroll.pay(turn.tx, _completed(job, end, done["completed_at"]))
            customer_event = "job.completed" if goal is JobStatus.COMPLETED else "job.updated"
            facts = await append(
                turn.tx,
                [
                    pending(actor.user_id, "job.updated", _job(done["own"])),
                    pending(job.customer_id, customer_event, _job(done["public"])),
                    *paid,
                ],
            )
            answer = turn.keep(Answer(done["own"]))
        self._trails.taken(job_id, trail)
        self._inbox.deliver(facts)
        log.info("job moved", job_id=str(job_id), was=str(job.status), status=str(goal))
        return answer

    async def _step(self, tx: Tx, job: JobRow, goal: JobStatus, trail: Trail) -> Any:
        return await tx.fetchrow(
            store.Q["job_advance"],
            job.id,
            str(goal),
            *_since(job, trail),
        )

    def _settled(self, job: JobRow, reported_m: float | None, trail: Trail) -> rules.Settlement:
        end = rules.settle(
            self._markets[job.market],
            reported_m=reported_m,
            trail_m=job.trail_m + trail.distance_m,
            riding_s=job.riding_s or 0.0,
            surge_pct=job.surge_pct,
        )
        if end.flagged:
            log.warning(
                "distance flagged",
                job_id=str(job.id),
                reported_m=reported_m,
                trail_m=round(job.trail_m + trail.distance_m),
                counted_m=end.distance_m,
            )
        return end

    async def _complete(
        self, tx: Tx, job: JobRow, end: rules.Settlement, reported_m: float | None, trail: Trail
    ) -> Any:
        return await tx.fetchrow(
            store.Q["job_complete"],
            job.id,
            end.distance_m,
            end.duration_s,
            None if reported_m is None else round(reported_m),
            end.flagged,
            end.fare.base_minor,
            end.fare.distance_minor,
            end.fare.time_minor,
            end.fare.surge_minor,
            end.earnings_minor,
            *_since(job, trail),
        )

    async def cancel(self, actor: Actor, job_id: UUID, reason: str | None, key: str | None) -> Answer:
        """End a job as customer, assigned provider or admin. The answer's body is the job.

        Where the market says `redispatch`, a provider's cancellation before pickup opens a new round instead.
        Raises: JobMissing, NotYourJob, ReasonRequired, IllegalTransition.
        """
        end, searching = store.cancelled_and_told, False
        async with self._once(actor, key, fingerprint_of("jobs.cancel", {"job_id": job_id, "reason": reason})) as turn:
            if turn.replay is not None:
                return turn.replay
            job = await self._lock(turn.tx, actor, job_id)
            role = job.role_of(actor.user_id, admin=actor.admin)
            assert role is not None, "row security shows a job to its parties and admins only"
            told = rules.check_reason(role, reason)
            by = "system" if role is Role.ADMIN else str(role)
            if (
                role is Role.PROVIDER
                and self._markets[job.market].redispatch
                and job.status in (JobStatus.ACCEPTED, JobStatus.ARRIVED)
            ):
                rules.check_move(job.status, JobStatus.OFFERED, role)
                end, searching = store.released_and_told, True
            else:
                rules.check_move(job.status, JobStatus.CANCELLED, role)
            if role is Role.ADMIN:
                await self._audited(turn.tx, actor, "cancel", job, JobStatus.CANCELLED, told)
            facts = await end(turn.tx, job_id, by=by, actor_id=actor.user_id, role=role, reason=told)
            answer = turn.keep(Answer(_told_job(facts, actor.user_id, job)))
        self._finish(facts, job_id, searching)
        log.info("job released" if searching else "job cancelled", job_id=str(job_id), by=by, reason=told)
        return answer

    async def _audited(
        self, tx: Tx, admin: Actor, action: str, job: JobRow, goal: JobStatus, reason: str | None
    ) -> None:
        before = {"status": job.status, "provider_id": job.provider_id}
        await audit.write(tx, admin, action, ("job", job.id), before=before, after={"status": goal}, reason=reason)

    async def release(self, actor: Actor, job_id: UUID, reason: str, key: str | None) -> Answer:
        """An admin takes a job back from its provider before pickup. Raises: JobMissing, ReasonRequired, IllegalTransition."""
        async with self._once(actor, key, fingerprint_of("jobs.release", {"job_id": job_id, "reason": reason})) as turn:
            if turn.replay is not None:
                return turn.replay
            job = await self._lock(turn.tx, actor, job_id)
            told = rules.check_reason(Role.ADMIN, reason)
            rules.check_move(job.status, JobStatus.OFFERED, Role.ADMIN)
            await self._audited(turn.tx, actor, "release", job, JobStatus.OFFERED, told)
            facts = await store.released_and_told(
                turn.tx, job_id, by="system", actor_id=actor.user_id, role=Role.ADMIN, reason=told
            )
            answer = turn.keep(Answer(_told_job(facts, job.customer_id, job)))
        self._finish(facts, job_id, True)
        log.info("job released", job_id=str(job_id), by="admin", reason=told)
        return answer

    def _finish(self, facts: list[Fact], job_id: UUID, searching: bool) -> None:
        self._inbox.deliver(facts)
        if searching:
            for listener in self.on_search:
                listener(job_id)

    async def _lock(self, tx: Tx, actor: Actor, job_id: UUID) -> JobRow:
        job = await store.locked(tx, job_id)
        if job is not None:
            return job
        # Somebody with a live offer knows of the job and lacks the right; for everybody else it does not exist.
        if await tx.fetchval(store.Q["job_offer_view"], actor.user_id, job_id, []) is not None:
            raise NotYourJob("an offer gives the right to accept or decline")
        raise JobMissing(f"no job {job_id}")


def _completed(job: JobRow, end: rules.Settlement, at: datetime) -> Completed:
    assert job.provider_id is not None and job.provider_user_id is not None
    return Completed(
        job.id,
        job.market,
        job.service_type,
        job.provider_id,
        job.provider_user_id,
        job.customer_id,
        job.pickup_lat,
        job.pickup_lng,
        job.payment_method,
        job.currency,
        end.fare,
        end.fee_minor,
        at,
    )


def _since(job: JobRow, trail: Trail) -> tuple[object, ...]:
    """What both moves are told last: what was seen of the trip since the last flush, and where the job stood."""
    return trail.distance_m, trail.fixes, trail.lat, trail.lng, trail.at, str(job.status)


def _job(view: bytes) -> bytes:
    return b'{"job":' + view + b"}"


def _told_job(facts: list[Fact], user_id: UUID, job: JobRow) -> bytes:
    """The job as this user is told of it; an admin reads what the customer reads."""
    whose = user_id if user_id in (job.customer_id, job.provider_user_id) else job.customer_id
    body = next(fact.body for fact in facts if fact.user_id == whose and fact.name.startswith("job."))
    return orjson.dumps(orjson.loads(body)["job"])
