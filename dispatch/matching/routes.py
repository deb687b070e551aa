"""HTTP door of matching: what is near, what may be taken, going on and off."""

from collections.abc import Sequence

import orjson

from dispatch.kit.errors import Invalid
from dispatch.kit.route import Answered, Call, Route
from dispatch.matching.quotes import Quotes
from dispatch.matching.service import Matching
from dispatch.matching.shifts import Shifts
from dispatch.matching.why import Why
from protocol.errors import OFFLINE_TEXT, ONLINE_TEXT, ErrorCode
from protocol.resources import Offer, OnlineAnswer, OnlineRequest, Page, Quote, QuoteRequest
from protocol.resources.why import Why as WhyAnswer
from protocol.resources.why import WhyNotMe


def routes(matching: Matching, shifts: Shifts, quotes: Quotes, why: Why) -> Sequence[Route]:
    async def available(call: Call) -> Answered:
        raw = call.query.get("max_distance_m")
        if raw is not None and not (raw.isascii() and raw.isdigit() and len(raw) <= 5 and 1 <= int(raw) <= 50_000):
            raise Invalid(
                "max_distance_m", fields=[{"field": "max_distance_m", "problem": "whole metres from 1 to 50000"}]
            )
        return Answered(
            await matching.available(call.actor, max_distance_m=None if raw is None else float(raw), limit=call.limit())
        )

    async def online(call: Call) -> Answered:
        body: OnlineRequest = call.body
        place = None if body.lat is None or body.lng is None else (body.lat, body.lng)
        answer = await (
            shifts.start(call.actor, place, None, call.key) if body.online else shifts.end(call.actor, call.key)
        )
        provider_id = orjson.loads(answer.body)["id"]
        text = ONLINE_TEXT if body.online else OFFLINE_TEXT
        told = {"success": True, "message": text[call.locale], "provider_id": provider_id, "is_online": body.online}
        return Answered(orjson.dumps(told))

    async def quote(call: Call) -> Answered:
        return Answered(await quotes.quote(call.body))

    async def of(call: Call) -> Answered:
        return Answered(await why.of(call.actor, call.id("id"), call.locale))

    async def not_me(call: Call) -> Answered:
        return Answered(await why.mine(call.actor, call.id("id"), call.locale))

    may_not = (ErrorCode.PROVIDER_NOT_FOUND, ErrorCode.PROVIDER_NOT_APPROVED, ErrorCode.PROVIDER_SUSPENDED)
    return [
        Route(
            "GET",
            "/v1/jobs/available",
            available,
            "What the provider may take now, nearest first: his live offers and, where it is on, the open board",
            Page[Offer],
            query={
                "max_distance_m": "at most so far away; his own radius bounds it too",
                "limit": "1-100, 50 unless told",
            },
            errors=(*may_not, ErrorCode.PROVIDER_OFFLINE, ErrorCode.LOCATION_REQUIRED),
        ),
        Route(
            "PUT",
            "/v1/providers/me/online",
            online,
            "Switch on or off; without a position the last one is kept",
            OnlineAnswer,
            body=OnlineRequest,
            errors=(*may_not, ErrorCode.INVALID_COORDINATES),
            idempotent=True,
        ),
        Route(
            "POST",
            "/v1/quotes",
            quote,
            "What a job would cost and how soon somebody could come; stores nothing",
            Quote,
            who="customer",
            body=QuoteRequest,
            errors=(ErrorCode.OUTSIDE_MARKET, ErrorCode.INVALID_COORDINATES),
        ),
        Route(
            "GET",
            "/v1/admin/jobs/{id}/why",
            of,
            "Who was considered for a job, in each round, and what became of him; kept for days",
            WhyAnswer,
            who="admin",
            errors=(ErrorCode.JOB_NOT_FOUND,),
        ),
        Route(
            "GET",
            "/v1/providers/me/jobs/{id}/why",
            not_me,
            "Why a job was offered to the provider himself, or not; of others nothing",
            WhyNotMe,
            errors=(ErrorCode.JOB_NOT_FOUND,),
        ),
    ]
