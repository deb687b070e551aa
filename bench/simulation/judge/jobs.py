"""Models of the statements of jobs: create, lock, advance, complete, cancel, release."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from bench.simulation.judge.inbox import Pending, append_pending, idem_begin, idem_finish
from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session
from bench.simulation.judge.views import (
    OPEN,
    is_open,
    job_glance,
    job_set,
    job_view,
    json,
    offer_view,
    services_now,
    stripped,
)
from dispatch.kit.geo import distance_m

_LOCK_FIELDS = [
    "id",
    "market",
    "service_type",
    "status",
    "round",
    "version",
    "customer_id",
    "provider_id",
    "provider_user_id",
    "pickup_lat",
    "pickup_lng",
    "surge_pct",
    "payment_method",
    "currency",
    "trail_m",
    "trail_fixes",
    "started_at",
]

_CREATE_FIELDS = [
    "id",
    "market",
    "service_type",
    "pickup_lat",
    "pickup_lng",
    "pickup_address",
    "dropoff_lat",
    "dropoff_lng",
    "dropoff_address",
    "coarse",
    "unnamed",
    "note",
    "payment_method",
    "currency",
    "surge_pct",
    "distance_m",
    "duration_s",
    "base_minor",
    "distance_minor",
    "time_minor",
    "surge_minor",
    "estimated_earnings_minor",
    "ttl_s",
]

_EMPTY: Row = dict.fromkeys(
    [
        "provider_id",
        "provider_user_id",
        "provider_first_name",
        "provider_rating",
        "provider_vehicle",
        "accept_id",
        "actual_earnings_minor",
        "reported_distance_m",
        "provider_lat",
        "provider_lng",
        "provider_located_at",
        "offer_deadline",
        "accepted_at",
        "arrived_at",
        "started_at",
        "completed_at",
        "cancelled_at",
        "cancelled_by",
        "cancellation_reason",
    ]
)


def step(
    db: Session,
    job: Row,
    version: int,
    was: str | None,
    to: str,
    round: int,
    actor: UUID | None,
    role: str,
    reason: str | None = None,
) -> None:
    """A row of job_events."""
    row = {"job_id": job["id"], "version": version, "from_status": was, "to_status": to, "round": round, "at": db.now}
    if db.get("job_events", (job["id"], version)) is not None:
        raise asyncpg.UniqueViolationError("job_events_pkey")
    db.put("job_events", (job["id"], version), {**row, "actor_id": actor, "actor_role": role, "reason": reason})


def cash_is_not_modelled(job: Row) -> None:
    """payment_fits: a cashless job fits everybody. Money is judged on real processes."""
    assert job["payment_method"] != "cash", "the simulated workload pays cashless"


@models("jobs", "job_create")
def job_create(db: Session, user_id: UUID, key: str | None, fingerprint: str, *given: Any) -> Row:
    db.user = user_id
    if key is not None:
        known = idem_begin(db, user_id, key, fingerprint)
        if known["word"] != "new":
            kept = None if known["response"] is None else known["response"].encode()
            return {"word": known["word"], "view": kept, "facts": []}
    fields = dict(zip(_CREATE_FIELDS, given, strict=True))
    unnamed = fields.pop("unnamed")
    who = db.get("users", user_id)
    assert who is not None, "no user of the simulation is unknown"
    names = [name for name in (who["first_name"], who["last_name"]) if name]
    now = db.now
    row = {
        **_EMPTY,
        **fields,
        "customer_id": user_id,
        "passenger_name": " ".join(names) if who["first_name"] else unnamed,
        "customer_first_name": who["first_name"],
        "customer_phone": who["phone_number"],
        "coarse": orjson.loads(fields["coarse"]),
        "status": "pending",
        "round": 0,
        "version": 1,
        "estimated": True,
        "distance_flagged": False,
        "trail_m": 0.0,
        "trail_fixes": 0,
        "next_search_at": now + timedelta(seconds=1),
        "searched_until": None,
        "expires_at": now + timedelta(seconds=fields["ttl_s"]),
        "created_at": now,
    }
    db.lock("jobs", row["id"])
    view = json(job_view(db.put("jobs", row["id"], row), False))
    step(db, row, 1, None, "pending", 0, user_id, "customer")
    facts = append_pending(db, [(user_id, "job.created", b'{"job":%b}' % view)])
    if key is not None:
        idem_finish(db, user_id, key, fingerprint, 201, view.decode())
    return {"word": "new", "view": view, "facts": facts}


def seen(db: Session, job: Row | None) -> Row | None:
    """Row security: a request sees the jobs of its user, an admin all, the system all."""
    if job is None or db.may(job["customer_id"]) or db.may(job["provider_user_id"]):
        return job
    return None


@models("jobs", "job_lock")
def job_lock(db: Session, job_id: UUID) -> Row | None:
    job = seen(db, db.get("jobs", job_id))
    if job is None:
        return None
    db.lock("jobs", job_id)
    row = {name: job[name] for name in _LOCK_FIELDS}
    return row | {"riding_s": None if job["started_at"] is None else (db.now - job["started_at"]).total_seconds()}


@models("jobs", "job_offer_view")
def job_offer_view(db: Session, user_id: UUID, job_id: UUID, boards: list[str]) -> bytes | None:
    job = db.get("jobs", job_id)
    if job is None or job["status"] not in OPEN or not db.may(user_id):
        return None
    for offer in db.of_job(job_id):
        if offer["provider_user_id"] == user_id and offer["status"] == "live" and offer["expires_at"] > db.now:
            return json(offer_view(offer, job_glance(job)))
    if job["market"] not in boards or job["expires_at"] <= db.now or job["customer_id"] == user_id:
        return None
    for provider in db.all("providers"):
        if provider["user_id"] != user_id:
            continue
        gate = db.get("provider_gate", provider["id"])
        assert gate is not None
        if not is_open(gate) or job["service_type"] not in services_now(db, gate) or provider["last_lat"] is None:
            return None
        away = distance_m(provider["last_lat"], provider["last_lng"], job["pickup_lat"], job["pickup_lng"])
        declined = any(o["provider_id"] == provider["id"] and o["status"] == "declined" for o in db.of_job(job_id))
        if away <= provider["service_radius_m"] and not declined:
            return json({"job": job_glance(job), "round": job["round"]})
    return None


def _place(job: Row, lat: float | None, lng: float | None, at: Any) -> Row:
    return {
        "provider_lat": job["provider_lat"] if lat is None else lat,
        "provider_lng": job["provider_lng"] if lng is None else lng,
        "provider_located_at": job["provider_located_at"] if at is None else at,
    }


def _moved(db: Session, job: Row, was: str, **more: Any) -> Row:
    step(db, job, job["version"], was, job["status"], job["round"], job["provider_user_id"], "provider")
    views = {"own": json(job_view(job, True)), "public": json(job_view(job, False))}
    return {"version": job["version"], "round": job["round"], **more, **views}


@models("jobs", "job_advance")
def job_advance(
    db: Session,
    job_id: UUID,
    status: str,
    metres: float,
    fixes: int,
    lat: float | None,
    lng: float | None,
    at: Any,
    was: str,
) -> Row:
    db.lock("jobs", job_id)
    job = db.get("jobs", job_id)
    assert job is not None
    riding = status == "in_progress"
    job = job_set(
        db,
        job_id,
        status=status,
        version=job["version"] + 1,
        arrived_at=db.now if status == "arrived" else job["arrived_at"],
        started_at=db.now if riding else job["started_at"],
        trail_m=0.0 if riding else job["trail_m"] + metres,
        trail_fixes=0 if riding else job["trail_fixes"] + fixes,
        **_place(job, lat, lng, at),
    )
    return _moved(db, job, was)


@models("jobs", "job_complete")
def job_complete(
    db: Session,
    job_id: UUID,
    distance: int,
    duration: int,
    reported: int | None,
    flagged: bool,
    base: int,
    by_distance: int,
    by_time: int,
    surge: int,
    earnings: int,
    metres: float,
    fixes: int,
    lat: float | None,
    lng: float | None,
    at: Any,
    was: str,
) -> Row:
    db.lock("jobs", job_id)
    job = db.get("jobs", job_id)
    assert job is not None
    job = job_set(
        db,
        job_id,
        status="completed",
        version=job["version"] + 1,
        completed_at=db.now,
        distance_m=distance,
        duration_s=duration,
        reported_distance_m=reported,
        distance_flagged=flagged,
        base_minor=base,
        distance_minor=by_distance,
        time_minor=by_time,
        surge_minor=surge,
        estimated=False,
        actual_earnings_minor=earnings,
        trail_m=job["trail_m"] + metres,
        trail_fixes=job["trail_fixes"] + fixes,
        **_place(job, lat, lng, at),
    )
    return _moved(db, job, was, completed_at=job["completed_at"])


# --- what several functions share


def withdrawn(user_id: UUID, offer_id: UUID, job_id: UUID, reason: str) -> Pending:
    """offer_withdrawn."""
    return user_id, "offer.withdrawn", json({"offer_id": offer_id, "job_id": job_id, "reason": reason})


def settled(db: Session, job_id: UUID, status: str, reason: str) -> list[Row]:
    """offers_settle: the live offers of a job whose row is locked."""
    return [
        db.change("offers", offer["offer_id"], status=status, reason=reason, responded_at=db.now)
        for offer in db.of_job(job_id)
        if offer["status"] == "live"
    ]


def collected(facts: list[Pending]) -> list[Row]:
    """pending_fact[]."""
    return [{"user_id": user_id, "name": name, "body": body} for user_id, name, body in facts]


@models("jobs", "job_cancel")
def jobs_cancel(db: Session, job_id: UUID, by: str, actor: UUID | None, role: str, reason: str | None) -> list[Row]:
    job = db.get("jobs", job_id)
    assert job is not None
    db.require(job["customer_id"], job["provider_user_id"])
    was = job["status"]
    job = job_set(
        db,
        job_id,
        status="cancelled",
        version=job["version"] + 1,
        cancelled_at=db.now,
        cancelled_by=by,
        cancellation_reason=reason,
        offer_deadline=None,
        next_search_at=None,
    )
    step(db, job, job["version"], was, "cancelled", job["round"], actor, role, reason)
    told = [
        withdrawn(offer["provider_user_id"], offer["offer_id"], job_id, "cancelled")
        for offer in settled(db, job_id, "withdrawn", "cancelled")
    ]
    for user_id, contact in ((job["customer_id"], False), (job["provider_user_id"], True)):
        if user_id is not None:
            body = stripped({"job": job_view(job, contact), "by": by, "reason": reason})
            told.append((user_id, "job.cancelled", json(body)))
    return collected(told)


@models("jobs", "job_cancel_told")
def jobs_cancel_told(db: Session, *args: Any) -> list[Row]:
    return append_pending(db, [(row["user_id"], row["name"], row["body"]) for row in jobs_cancel(db, *args)])


@models("jobs", "job_release")
def jobs_release(db: Session, job_id: UUID, by: str, actor: UUID | None, role: str, reason: str | None) -> list[Row]:
    before = db.get("jobs", job_id)
    assert before is not None
    db.require(before["provider_user_id"])
    now = db.now
    job = job_set(
        db,
        job_id,
        status="offered",
        round=before["round"] + 1,
        version=before["version"] + 1,
        next_search_at=now,
        searched_until=None,
        expires_at=now + timedelta(seconds=before["ttl_s"]),
        trail_m=0.0,
        trail_fixes=0,
        **dict.fromkeys(
            [
                "provider_id",
                "provider_user_id",
                "accept_id",
                "provider_first_name",
                "provider_rating",
                "provider_vehicle",
                "accepted_at",
                "arrived_at",
                "provider_lat",
                "provider_lng",
                "provider_located_at",
                "offer_deadline",
            ]
        ),
    )
    step(db, job, job["version"], before["status"], "offered", job["round"], actor, role, reason)
    body = stripped({"job": job_glance(job), "by": by, "reason": reason})
    told = [
        withdrawn(offer["provider_user_id"], offer["offer_id"], job_id, "taken")
        for offer in settled(db, job_id, "withdrawn", "taken")
    ]
    return collected(
        [
            *told,
            (before["provider_user_id"], "job.cancelled", json(body)),
            (job["customer_id"], "job.updated", json({"job": job_view(job, False)})),
        ]
    )


@models("jobs", "job_release_told")
def jobs_release_told(db: Session, *args: Any) -> list[Row]:
    return append_pending(db, [(row["user_id"], row["name"], row["body"]) for row in jobs_release(db, *args)])
