"""HTTP door of jobs."""

from collections.abc import Sequence

from dispatch.accounts import Answer
from dispatch.jobs.service import Jobs
from dispatch.kit.paging import QUERY
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.lifecycle import JobStatus
from protocol.resources import AdvanceRequest, CancelRequest, Job, JobRequest, Page, ReleaseRequest


def _out(answer: Answer) -> Answered:
    return Answered(answer.body, answer.status)


def routes(jobs: Jobs) -> Sequence[Route]:
    async def create(call: Call) -> Answered:
        return _out(await jobs.create(call.actor, call.body, call.key))

    async def read(call: Call) -> Answered:
        return Answered(await jobs.read(call.actor, call.id("id")))

    async def mine(call: Call) -> Answered:
        status = call.one_of("status", JobStatus)
        return Answered(await jobs.page(call.actor, status=status, limit=call.limit(), cursor=call.query.get("cursor")))

    async def cancel(call: Call) -> Answered:
        body: CancelRequest = call.body
        return _out(await jobs.cancel(call.actor, call.id("id"), body.reason, call.key))

    async def advance(call: Call) -> Answered:
        body: AdvanceRequest = call.body
        return _out(
            await jobs.advance(
                call.actor, call.id("id"), body.to, distance_m=body.distance_m, duration_s=body.duration_s, key=call.key
            )
        )

    async def every(call: Call) -> Answered:
        if call.flag("stuck"):
            return Answered(await jobs.stuck(call.actor, limit=call.limit()))
        status = call.one_of("status", JobStatus)
        return Answered(
            await jobs.page(
                call.actor, status=status, limit=call.limit(), cursor=call.query.get("cursor"), everybody=True
            )
        )

    async def release(call: Call) -> Answered:
        body: ReleaseRequest = call.body
        return _out(await jobs.release(call.actor, call.id("id"), body.reason, call.key))

    missing = ErrorCode.JOB_NOT_FOUND
    moved = (missing, ErrorCode.INVALID_STATUS_TRANSITION, ErrorCode.FORBIDDEN)
    return [
        Route(
            "POST",
            "/v1/jobs",
            create,
            "Ask for a provider; offers start at once",
            Job,
            who="customer",
            body=JobRequest,
            status=201,
            errors=(ErrorCode.OUTSIDE_MARKET, ErrorCode.INVALID_COORDINATES),
            idempotent=True,
        ),
        Route(
            "GET", "/v1/jobs", mine, "The own jobs, newest first", Page[Job], query={"status": "only these", **QUERY}
        ),
        Route("GET", "/v1/jobs/{id}", read, "One job; with a live offer only its offer view", Job, errors=(missing,)),
        Route(
            "POST",
            "/v1/jobs/{id}/cancel",
            cancel,
            "End a job; provider and admin must say why",
            Job,
            body=CancelRequest,
            errors=(*moved, ErrorCode.REASON_REQUIRED),
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/jobs/{id}/advance",
            advance,
            "Move an own job on: arrived, in_progress, completed",
            Job,
            body=AdvanceRequest,
            errors=moved,
            idempotent=True,
        ),
        Route(
            "GET",
            "/v1/admin/jobs",
            every,
            "All jobs, newest first; with stuck=true those that need a person",
            Page[Job],
            who="admin",
            query={"status": "only these", "stuck": "true: only those that need a person", **QUERY},
        ),
        Route(
            "POST",
            "/v1/admin/jobs/{id}/release",
            release,
            "Take a job from its provider before pickup and open a new round",
            Job,
            who="admin",
            body=ReleaseRequest,
            errors=(*moved, ErrorCode.REASON_REQUIRED),
            idempotent=True,
        ),
    ]
