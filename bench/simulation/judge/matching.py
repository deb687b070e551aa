"""Models of the statements of matching: due jobs, rounds, lapses, closes, voids, declines, who is gone, the live state."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from bench.simulation.judge.inbox import Pending, append_pending, head_of
from bench.simulation.judge.jobs import cash_is_not_modelled, collected, settled, step, withdrawn
from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session
from bench.simulation.judge.views import (
    ACTIVE,
    OPEN,
    active_job_of,
    is_open,
    job_glance,
    job_set,
    job_view,
    json,
    offer_view,
    provider_view,
    services_now,
)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@models("matching", "jobs_due")
def jobs_due(
    db: Session, job_id: UUID | None, limit: int, lease_s: float, markets: Sequence[str], cooldowns_s: Sequence[float]
) -> list[Row]:
    now = db.now
    due = [job for job in db.all("jobs") if job["status"] in OPEN]
    due = [job for job in due if job["searched_until"] is None or job["searched_until"] <= now]
    if job_id is None:
        due = [job for job in due if job["next_search_at"] is not None and job["next_search_at"] <= now]
        due.sort(key=lambda job: job["next_search_at"])
    else:
        due = [job for job in due if job["id"] == job_id]
    taken = [job for job in due if db.lock("jobs", job["id"], skip=True)][:limit]
    cooldowns = dict(zip(markets, cooldowns_s, strict=True))
    return [_taken(db, job, now, lease_s, cooldowns.get(job["market"], 0.0)) for job in taken]


def _taken(db: Session, job: Row, now: datetime, lease_s: float, cooldown_s: float) -> Row:
    deadline = job["offer_deadline"]
    standing = deadline is not None and deadline > now
    leased = now + seconds(lease_s)
    job_set(
        db,
        job["id"],
        next_search_at=deadline if standing else leased,
        searched_until=None if standing else leased,
    )
    offers = db.of_job(job["id"])
    lately = now - seconds(cooldown_s)
    excluded = {
        offer["provider_id"]
        for offer in offers
        if offer["status"] in ("declined", "accepted")
        or (offer["responded_at"] is not None and offer["responded_at"] > lately)
    }
    names = ("market", "service_type", "status", "round", "pickup_lat", "pickup_lng")
    return {name: job[name] for name in names} | {
        "job_id": job["id"],
        "expired": job["expires_at"] <= now,
        "lapsed": deadline is not None and deadline <= now,
        "waiting": any(offer["status"] == "live" for offer in offers),
        "excluded": sorted(excluded),
        "silent": sorted({offer["provider_id"] for offer in offers if offer["status"] == "expired"}),
    }


def _eligible(db: Session, job: Row, provider: Row, gate: Row, away_m: int, cooldown_s: float) -> bool:
    """What offers_create asks under its locks (I4)."""
    now = db.now
    cash_is_not_modelled(job)
    if job["service_type"] not in services_now(db, gate) or away_m > provider["service_radius_m"]:
        return False
    if provider["user_id"] == job["customer_id"] or active_job_of(db, provider["id"]) is not None:
        return False
    lately = now - seconds(cooldown_s)
    for offer in db.of_job(job["id"]):
        if offer["provider_id"] == provider["id"] and (
            offer["status"] in ("declined", "accepted")
            or (offer["responded_at"] is not None and offer["responded_at"] > lately)
        ):
            return False
    five = now - seconds(5)
    for socket in db.all("sockets"):
        worker = db.get("workers", socket["worker_id"])
        if (
            socket["user_id"] == provider["user_id"]
            and (socket["lost_at"] is None or socket["lost_at"] > five)
            and worker is not None
            and worker["beat_at"] > five
        ):
            return True
    return False


@models("matching", "offers_create")
def offers_create(
    db: Session,
    job_id: UUID,
    round: int,
    offer_ids: Sequence[UUID],
    providers: Sequence[UUID],
    distances: Sequence[int],
    ttl_s: float,
    at_once: int,
    again_s: float,
    cooldown_s: float,
) -> Row:
    said: Row = {"word": "closed", "offered": [], "offered_to": [], "round": None, "facts": [], "woken": False}
    gates: dict[UUID, Row] = {}
    for provider_id in sorted(set(providers)):
        gate = db.get("provider_gate", provider_id)
        if gate is not None and is_open(gate) and db.lock("provider_gate", provider_id, skip=True):
            gates[provider_id] = gate
    job = db.get("jobs", job_id)
    if job is None:
        return said
    db.lock("jobs", job_id)
    live = [offer for offer in db.of_job(job_id) if offer["status"] == "live"]
    if job["status"] not in OPEN or job["round"] != round or job["expires_at"] <= db.now or live:
        return said
    was, glance, deadline = job["status"], job_glance(job), db.now + seconds(ttl_s)
    made: list[Row] = []
    for offer_id, provider_id, away_m in zip(offer_ids, providers, distances, strict=True):
        provider = db.get("providers", provider_id)
        gate = gates.get(provider_id)
        if provider is None or gate is None or not _eligible(db, job, provider, gate, away_m, cooldown_s):
            continue
        if any(offer["provider_id"] == provider_id for offer in made):
            continue
        slot = _free_slot(db, provider_id, at_once)
        if at_once and slot is None:
            continue
        offer = {
            "offer_id": offer_id,
            "job_id": job_id,
            "round": round + 1,
            "provider_id": provider_id,
            "provider_user_id": provider["user_id"],
            "slot": slot,
            "status": "live",
            "reason": None,
            "pickup_distance_m": away_m,
            "offered_at": db.now,
            "expires_at": deadline,
            "responded_at": None,
        }
        db.lock("offers", offer_id)
        made.append(db.put("offers", offer_id, offer))
    if not made:
        if providers:
            return {**said, "word": "nobody"}
        leased = job["searched_until"]
        woken = leased is not None and job["next_search_at"] < leased
        again = job["next_search_at"] if woken else min(db.now + seconds(again_s), job["expires_at"])
        job_set(db, job_id, next_search_at=again, searched_until=None)
        return {**said, "word": "nobody", "woken": woken}
    job = job_set(
        db,
        job_id,
        status="offered",
        round=round + 1,
        version=job["version"] + 1,
        offer_deadline=deadline,
        next_search_at=min(deadline, job["expires_at"]),
        searched_until=None,
    )
    step(db, job, job["version"], was, "offered", job["round"], None, "system")
    told: list[Pending] = [(o["provider_user_id"], "offer.created", json(offer_view(o, glance))) for o in made]
    told.append((job["customer_id"], "job.updated", json({"job": job_view(job, False)})))
    return {
        "word": "offered",
        "offered": [offer["offer_id"] for offer in made],
        "offered_to": [offer["provider_id"] for offer in made],
        "round": job["round"],
        "facts": append_pending(db, told),
        "woken": False,
    }


def _free_slot(db: Session, provider_id: UUID, at_once: int) -> int | None:
    """The first slot that no live offer of this provider has; None: as many as may be are live, with a slot or without, or unbounded."""
    if not at_once:
        return None
    used = [o["slot"] for o in db.all("offers") if o["provider_id"] == provider_id and o["status"] == "live"]
    return None if len(used) >= at_once else next((slot for slot in range(at_once) if slot not in used), None)


@models("matching", "offers_lapse")
def offers_lapse(db: Session, job_id: UUID) -> list[Row]:
    job = db.get("jobs", job_id)
    if job is None:
        return []
    db.lock("jobs", job_id)
    if job["status"] not in OPEN or job["offer_deadline"] is None or job["offer_deadline"] > db.now:
        return []
    told = [
        withdrawn(offer["provider_user_id"], offer["offer_id"], job_id, "expired")
        for offer in settled(db, job_id, "expired", "expired")
    ]
    job_set(db, job_id, offer_deadline=None, next_search_at=db.now, searched_until=None)
    return append_pending(db, told)


@models("matching", "offers_close")
def offers_close(db: Session, job_id: UUID) -> Row:
    said: Row = {"facts": [], "wake": []}
    job = db.get("jobs", job_id)
    if job is None:
        return said
    touched = {offer["job_id"] for offer in _live_of(db, job["provider_id"])}
    for one in sorted(touched | {job_id}):
        db.lock("jobs", one)
    if job["status"] in OPEN:
        return said
    why = "cancelled" if job["status"] == "cancelled" else "taken"
    offers = settled(db, job_id, "withdrawn", why)
    told = [withdrawn(o["provider_user_id"], o["offer_id"], job_id, why) for o in offers]
    if job["status"] in ACTIVE:
        revoked, said["wake"] = _voided(db, job["provider_id"], "revoked")
        told += revoked
    return {**said, "facts": append_pending(db, told)}


@models("matching", "offers_left_open")
def offers_left_open(db: Session, limit: int) -> list[Row]:
    found: set[UUID] = set()
    for offer in db.all("offers"):
        if offer["status"] == "live":
            job = db.get("jobs", offer["job_id"])
            if job is not None and job["status"] not in OPEN:
                found.add(offer["job_id"])
            if (busy := active_job_of(db, offer["provider_id"])) is not None:
                found.add(busy)
    return [{"job_id": job_id} for job_id in sorted(found)][:limit]


def _live_of(db: Session, provider_id: UUID | None) -> list[Row]:
    return [o for o in db.all("offers") if o["provider_id"] == provider_id and o["status"] == "live"]


def _voided(db: Session, provider_id: UUID, reason: str) -> tuple[list[Pending], list[UUID]]:
    """offers_void: what there is to tell, and the jobs left without a live offer."""
    jobs = sorted({offer["job_id"] for offer in _live_of(db, provider_id)})
    for job_id in jobs:
        db.lock("jobs", job_id)
    told = [
        withdrawn(offer["provider_user_id"], offer["offer_id"], offer["job_id"], reason)
        for offer in _live_of(db, provider_id)
        if offer["job_id"] in jobs
        if db.change("offers", offer["offer_id"], status="withdrawn", reason=reason, responded_at=db.now)
    ]
    wake = []
    for job_id in jobs:
        job = db.get("jobs", job_id)
        assert job is not None
        if job["status"] in OPEN and not any(o["status"] == "live" for o in db.of_job(job_id)):
            job_set(db, job_id, next_search_at=db.now, searched_until=None, offer_deadline=None)
            wake.append(job_id)
    return told, wake


@models("matching", "offers_void")
def offers_void(db: Session, provider_id: UUID, reason: str) -> Row:
    gate = db.get("provider_gate", provider_id)
    db.require(None if gate is None else gate["user_id"])
    told, wake = _voided(db, provider_id, reason)
    return {"told": collected(told), "wake": wake}


@models("matching", "offers_decline")
def offers_decline(db: Session, user_id: UUID, offer_id: UUID, reason: str | None) -> Row:
    db.require(user_id)
    said: Row = {"word": "no_offer", "job_id": None, "exhausted": False, "facts": []}
    offer = db.get("offers", offer_id)
    if offer is None or offer["provider_user_id"] != user_id:
        return said
    said["job_id"] = offer["job_id"]
    db.lock("jobs", offer["job_id"])
    job = db.get("jobs", offer["job_id"])
    offer = db.get("offers", offer_id)
    assert job is not None and offer is not None
    if offer["status"] == "declined":
        return {**said, "word": "declined"}
    if job["status"] == "cancelled":
        return {**said, "word": "cancelled"}
    if job["status"] not in OPEN:
        return {**said, "word": "taken"}
    if offer["status"] != "live" or offer["expires_at"] <= db.now:
        return {**said, "word": "expired"}
    db.change("offers", offer_id, status="declined", reason=reason, responded_at=db.now)
    exhausted = not any(o["status"] == "live" for o in db.of_job(job["id"]))
    if exhausted:
        job_set(db, job["id"], next_search_at=db.now, searched_until=None, offer_deadline=None)
    facts = append_pending(db, [withdrawn(user_id, offer_id, job["id"], "declined")])
    return {**said, "word": "declined", "exhausted": exhausted, "facts": facts}


@models("matching", "jobs_rest")
def jobs_rest(db: Session, job_id: UUID) -> None:
    job = db.get("jobs", job_id)
    if job is not None and job["status"] in OPEN:
        job_set(db, job_id, next_search_at=job["expires_at"], searched_until=None)


@models("matching", "jobs_wake")
def jobs_wake(db: Session, market: str, kinds: Sequence[str], limit: int) -> int:
    now = db.now
    waiting = [
        job
        for job in db.all("jobs")
        if job["market"] == market
        and job["service_type"] in kinds
        and job["status"] in OPEN
        and job["offer_deadline"] is None
        and now < job["next_search_at"] < job["expires_at"]
    ]
    waiting.sort(key=lambda job: job["created_at"])
    woken = [job for job in waiting if db.lock("jobs", job["id"], skip=True)][:limit]
    for job in woken:
        job_set(db, job["id"], next_search_at=now)
    return len(woken)


@models("matching", "jobs_lock_of")
def jobs_lock_of(db: Session, provider_id: UUID) -> list[Row]:
    found = {offer["job_id"] for offer in _live_of(db, provider_id)}
    found |= {job["id"] for job in db.all("jobs") if job["provider_id"] == provider_id and job["status"] in ACTIVE}
    for job_id in sorted(found):
        db.lock("jobs", job_id)
    return [{"job_id": job_id} for job_id in sorted(found)]


@models("matching", "providers_gone")
def providers_gone(db: Session, gone_s: float, limit: int) -> list[Row]:
    since = db.now - seconds(gone_s)
    gone = []
    for gate in db.all("provider_gate"):
        if gate["changed_at"] >= since:
            continue
        waited_for = any(
            job["provider_id"] == gate["provider_id"] and job["status"] in ("accepted", "arrived")
            for job in db.all("jobs")
        )
        if (gate["online"] or waited_for) and not _living(db, gate["user_id"], since):
            gone.append({"provider_id": gate["provider_id"], "user_id": gate["user_id"]})
    return gone[:limit]


def _living(db: Session, user_id: UUID, since: datetime) -> bool:
    for socket in db.all("sockets"):
        if socket["user_id"] == user_id:
            worker = db.get("workers", socket["worker_id"])
            last = socket["lost_at"] or (None if worker is None else worker["beat_at"]) or socket["connected_at"]
            if last > since:
                return True
    return False


@models("matching", "live_state")
def live_state(db: Session, user_id: UUID) -> Row:
    jobs = [
        job
        for job in db.all("jobs")
        if user_id in (job["customer_id"], job["provider_user_id"]) and job["status"] not in ("completed", "cancelled")
    ]
    jobs.sort(key=lambda job: (job["created_at"], job["id"]))
    offers = [
        offer
        for offer in db.all("offers")
        if offer["provider_user_id"] == user_id and offer["status"] == "live" and _job_of(db, offer)["status"] in OPEN
    ]
    offers.sort(key=lambda offer: (offer["offered_at"], offer["offer_id"]))
    provider = next((p for p in db.all("providers") if p["user_id"] == user_id), None)
    return {
        "seq": head_of(db, user_id),
        "provider": None if provider is None else json(provider_view(db, provider)),
        "jobs": [json(job_view(job, job["provider_user_id"] == user_id)) for job in jobs],
        "offers": [json(offer_view(offer, job_glance(_job_of(db, offer)))) for offer in offers],
    }


def _job_of(db: Session, offer: Row) -> dict[str, Any]:
    job = db.get("jobs", offer["job_id"])
    assert job is not None
    return job
