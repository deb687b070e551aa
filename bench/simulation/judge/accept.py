"""Models of the statements of claims: the accept and what is asked around it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from bench.simulation.judge.inbox import Pending, append_pending
from bench.simulation.judge.jobs import cash_is_not_modelled, step, withdrawn
from bench.simulation.judge.providers import lack
from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session, unique
from bench.simulation.judge.views import (
    OPEN,
    active_job_of,
    cleared_now,
    is_open,
    job_set,
    job_view,
    json,
    provider_card,
    services_now,
)


@models("claims", "accept_job")
def accept_job(
    db: Session,
    user_id: UUID,
    job_id: UUID,
    offer_id: UUID | None,
    round: int | None,
    accept_id: UUID,
    key: str | None,
    fingerprint: str,
    board: bool,
    board_offer: UUID | None,
    away_m: int,
    lat: float | None,
    lng: float | None,
    located_at: datetime | None,
) -> Row:
    said: Row = {"word": None, "status": None, "round": None, "job": None, "facts": []}
    db.user = user_id
    known = db.get("idem", (user_id, key))
    if known is not None:
        if known["fingerprint"] != fingerprint:
            return {**said, "word": "reused"}
        return {**said, "word": "replay", "job": known["response"].encode()}
    gate = next((gate for gate in db.all("provider_gate") if gate["user_id"] == user_id), None)
    if gate is None:
        return {**said, "word": "no_provider"}
    provider_id = gate["provider_id"]
    db.lock("provider_gate", provider_id, share=True)
    job = db.get("jobs", job_id)
    if job is None:
        return {**said, "word": "no_job"}
    db.lock("jobs", job_id)
    if job["provider_id"] == provider_id and job["status"] != "cancelled" and round in (None, job["round"]):
        kept = _kept_or_keep(db, user_id, key, fingerprint, json(job_view(job, True)))
        if kept is None:
            return {**said, "word": "reused", "round": job["round"]}
        return {**said, "word": "accepted", "round": job["round"], "job": kept}
    offer = _offer(db, job_id, provider_id, offer_id)
    refusal = _refusal(db, gate, job, offer, user_id, offer_id, round, board)
    if refusal == "board":
        offer, refusal = None, None
    if refusal is not None:
        return {**said, "word": refusal, "status": gate["status"] if refusal == "closed" else None}
    if job["service_type"] not in cleared_now(db, gate):
        word = lack(db, provider_id, job["service_type"])["word"]
        return {**said, "word": word or ("documents" if gate["suspend_due"] else "unjudged")}
    cash_is_not_modelled(job)
    return _win(db, job, offer, gate, user_id, accept_id, key, fingerprint, board_offer, away_m, lat, lng, located_at)


def _offer(db: Session, job_id: UUID, provider_id: UUID, offer_id: UUID | None) -> Row | None:
    mine = [offer for offer in db.of_job(job_id) if offer["provider_id"] == provider_id]
    if offer_id is not None:
        return next((offer for offer in mine if offer["offer_id"] == offer_id), None)
    return max(mine, key=lambda offer: offer["round"], default=None)


def _refusal(
    db: Session,
    gate: Row,
    job: Row,
    offer: Row | None,
    user_id: UUID,
    offer_id: UUID | None,
    round: int | None,
    board: bool,
) -> str | None:
    """The word of a no; "board": from the open board; None: by his live offer of the standing round."""
    if offer is None and (offer_id is not None or not board or job["customer_id"] == user_id):
        return "no_offer"
    if gate["status"] not in ("approved", "active"):
        return "closed"
    if job["status"] == "cancelled":
        return "cancelled"
    if job["status"] not in OPEN:
        return "taken"
    if not is_open(gate):
        return "offline"
    if active_job_of(db, gate["provider_id"]) is not None:
        return "busy_provider"
    if job["expires_at"] <= db.now:
        return "expired"
    named = round is None or round == job["round"]
    if standing(db, job, offer, named):
        return None
    if board and offer_id is None and named and (offer is None or offer["status"] in ("expired", "withdrawn")):
        kind = job["service_type"]
        if kind not in services_now(db, gate) and kind in cleared_now(db, gate):
            return "mismatch"
        return "board"
    return "expired"


def standing(db: Session, job: Row, offer: Row | None, named: bool) -> bool:
    """Whether this is a live offer of the round that stands, in time. `named`: the accept names no other round."""
    return (
        offer is not None
        and offer["status"] == "live"
        and offer["round"] == job["round"]
        and named
        and job["offer_deadline"] is not None
        and job["offer_deadline"] > db.now
    )


def _win(
    db: Session,
    job: Row,
    offer: Row | None,
    gate: Row,
    user_id: UUID,
    accept_id: UUID,
    key: str | None,
    fingerprint: str,
    board_offer: UUID | None,
    away_m: int,
    lat: float | None,
    lng: float | None,
    located_at: datetime | None,
) -> Row:
    was, provider_id = job["status"], gate["provider_id"]
    provider = db.get("providers", provider_id)
    assert provider is not None
    job = job_set(
        db,
        job["id"],
        status="accepted",
        provider_id=provider_id,
        provider_first_name=provider["first_name"],
        provider_rating=provider["rating"],
        provider_vehicle=None,
        provider_user_id=user_id,
        accept_id=accept_id,
        version=job["version"] + (2 if was == "pending" else 1),
        round=max(job["round"], 1),
        accepted_at=db.now,
        offer_deadline=None,
        next_search_at=None,
        provider_lat=lat,
        provider_lng=lng,
        provider_located_at=located_at,
        trail_m=0.0,
        trail_fixes=0,
    )
    told: list[Pending] = []
    if offer is None:
        _from_board(db, job, gate, board_offer, away_m)
    else:
        db.change("offers", offer["offer_id"], status="accepted", reason="accepted", responded_at=db.now)
        told.append(withdrawn(user_id, offer["offer_id"], job["id"], "accepted"))
    own = job_view(job, True)
    told.append((user_id, "job.updated", json({"job": own})))
    public = {"job": job_view(job, False), "provider": provider_card(job)}
    told.append((job["customer_id"], "job.accepted", json(public)))
    facts = append_pending(db, told)
    if was == "pending":
        step(db, job, job["version"] - 1, "pending", "offered", job["round"], None, "system", "board")
    step(db, job, job["version"], "offered", "accepted", job["round"], user_id, "provider")
    view = json(own)
    _keep(db, user_id, key, fingerprint, view)
    return {"word": "accepted", "status": None, "round": job["round"], "job": view, "facts": facts}


def _keep(db: Session, user_id: UUID, key: str | None, fingerprint: str, view: bytes) -> None:
    """The answer, under its request id."""
    if key is None:
        return
    db.lock("idem", (user_id, key))
    if db.get("idem", (user_id, key)) is not None:
        raise unique("idem_pkey")
    row = {"fingerprint": fingerprint, "status": 200, "response": view.decode(), "at": db.now}
    db.put("idem", (user_id, key), {"user_id": user_id, "key": key, **row})


def _kept_or_keep(db: Session, user_id: UUID, key: str | None, fingerprint: str, view: bytes) -> bytes | None:
    """The answer under this id, the one there was if there was one; None: it was another request's."""
    if key is None:
        return view
    db.lock("idem", (user_id, key))
    known = db.get("idem", (user_id, key))
    if known is None:
        _keep(db, user_id, key, fingerprint, view)
        return view
    stored: str = known["response"]
    return stored.encode() if known["fingerprint"] == fingerprint else None


def _from_board(db: Session, job: Row, gate: Row, board_offer: UUID | None, away_m: int) -> None:
    mine = [o for o in db.of_job(job["id"]) if o["provider_id"] == gate["provider_id"] and o["round"] == job["round"]]
    if mine:
        db.change("offers", mine[0]["offer_id"], status="accepted", reason="board", responded_at=db.now)
        return
    fields: dict[str, Any] = {
        "offer_id": board_offer,
        "job_id": job["id"],
        "round": job["round"],
        "provider_id": gate["provider_id"],
        "provider_user_id": gate["user_id"],
        "slot": None,
        "status": "accepted",
        "reason": "board",
        "pickup_distance_m": away_m,
        "offered_at": db.now,
        "expires_at": db.now,
        "responded_at": db.now,
    }
    db.lock("offers", board_offer)
    db.put("offers", board_offer, fields)


@models("claims", "accept_known")
def accept_known(db: Session, job_id: UUID) -> Row | None:
    job = db.get("jobs", job_id)
    if job is None:
        return None
    db.lock("jobs", job_id)
    return {name: job[name] for name in ("round", "accept_id", "provider_user_id")}


@models("claims", "accept_kept")
def accept_kept(db: Session, user_id: UUID, key: str, fingerprint: str) -> bytes | None:
    known = db.get("idem", (user_id, key))
    if known is None or known["fingerprint"] != fingerprint:
        return None
    return bytes(known["response"].encode())


@models("claims", "job_facts")
def job_facts(db: Session, job_id: UUID) -> Row | None:
    job = db.get("jobs", job_id)
    if job is None:
        return None
    names = ("round", "market", "pickup_lat", "pickup_lng")
    return {name: job[name] for name in names} | {"open": job["status"] in OPEN}
