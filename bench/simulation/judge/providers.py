"""Models of the statements of providers: state, gate, intent, status. No service type asks for papers here."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session
from bench.simulation.judge.views import active_job_of, cleared_now, is_open, json, provider_view, services_now


def _state(db: Session, provider: Row) -> Row:
    gate = db.get("provider_gate", provider["id"])
    assert gate is not None
    return {
        "id": provider["id"],
        "user_id": provider["user_id"],
        "status": gate["status"],
        "online": gate["online"],
        "service_types": services_now(db, gate),
        "cleared_types": cleared_now(db, gate),
        "registered_types": list(provider["service_types"]),
        "service_radius_m": provider["service_radius_m"],
        "active_job": active_job_of(db, provider["id"]),
        "last_lat": provider["last_lat"],
        "last_lng": provider["last_lng"],
        "located_at": provider["located_at"],
    }


def _of_user(db: Session, user_id: UUID) -> Row | None:
    return next((provider for provider in db.all("providers") if provider["user_id"] == user_id), None)


@models("providers", "provider_state")
def provider_state(db: Session, user_id: UUID) -> Row | None:
    provider = _of_user(db, user_id)
    return None if provider is None or not db.may(user_id) else _state(db, provider)


@models("providers", "provider_states")
def provider_states(db: Session, users: Sequence[UUID]) -> list[Row]:
    found = (_of_user(db, user_id) for user_id in users)
    return [_state(db, provider) for provider in found if provider is not None]


@models("providers", "gate_lock")
def gate_lock(db: Session, provider_id: UUID) -> Row | None:
    gate = db.get("provider_gate", provider_id)
    if gate is None:
        return None
    db.lock("provider_gate", provider_id)
    return {name: gate[name] for name in ("provider_id", "user_id", "status", "online", "status_ver")}


@models("providers", "suspension_cause")
def suspension_cause(db: Session, provider_id: UUID) -> str | None:
    provider = db.get("providers", provider_id)
    cause: str | None = None if provider is None else provider["suspension_cause"]
    return cause


@models("providers", "application")
def application(db: Session, provider_id: UUID) -> Row | None:
    provider = db.get("providers", provider_id)
    return None if provider is None else {"email": provider["email"], "verified": False, "missing": []}


@models("providers", "lack")
def lack(db: Session, provider_id: UUID, kind: str) -> Row:
    provider = db.get("providers", provider_id)
    fits = provider is not None and kind in provider["service_types"]
    return {"word": None if fits else "mismatch", "missing": []}


@models("providers", "clear")
def clear(db: Session, provider_id: UUID) -> bytes | None:
    provider, gate = db.get("providers", provider_id), db.get("provider_gate", provider_id)
    assert provider is not None and gate is not None
    before = list(gate["cleared"])
    kinds = list(provider["service_types"])
    if before == kinds:
        return None
    db.change("provider_gate", provider_id, cleared=kinds, cleared_until=None, status_ver=gate["status_ver"] + 1)
    return json(provider_view(db, provider))


@models("providers", "status_set")
def status_set(
    db: Session,
    provider_id: UUID,
    status: str,
    reason: str | None,
    cause: str | None,
    uid: str | None,
    actor: UUID | None,
) -> bytes:
    db.require()
    now = db.now
    gate, provider = db.get("provider_gate", provider_id), db.get("providers", provider_id)
    assert gate is not None and provider is not None
    db.change(
        "provider_gate",
        provider_id,
        status=status,
        status_ver=gate["status_ver"] + 1,
        changed_at=now,
        suspend_due=False,
        online=gate["online"] and status in ("approved", "active"),
    )
    suspended = status == "suspended"
    row = db.change(
        "providers",
        provider_id,
        status=status,
        updated_at=now,
        provider_uid=provider["provider_uid"] or uid,
        approved_at=(provider["approved_at"] or now) if status == "approved" else provider["approved_at"],
        suspended_at=now if suspended else None,
        suspension_reason=reason if suspended else None,
        suspension_cause=cause if suspended else None,
        rejection_reason=reason if status == "rejected" else None,
    )
    _log(db, provider_id, status, actor, "system" if actor is None else "admin", reason)
    return json(provider_view(db, row))


@models("providers", "online_set")
def online_set(
    db: Session,
    provider_id: UUID,
    online: bool,
    lat: float | None,
    lng: float | None,
    role: str,
    narrowed: Sequence[str] | None,
) -> bytes:
    now = db.now
    gate, provider = db.get("provider_gate", provider_id), db.get("providers", provider_id)
    assert gate is not None and provider is not None
    db.require(gate["user_id"])
    status = "active" if online and gate["status"] == "approved" else gate["status"]
    db.change(
        "provider_gate",
        provider_id,
        online=online,
        status=status,
        status_ver=gate["status_ver"] + 1,
        changed_at=now,
        narrowed=None if not online or narrowed is None else list(narrowed),
    )
    row = db.change(
        "providers",
        provider_id,
        updated_at=now,
        status=status,
        last_lat=provider["last_lat"] if lat is None else lat,
        last_lng=provider["last_lng"] if lng is None else lng,
        located_at=provider["located_at"] if lat is None else now,
    )
    if gate["online"] != online:
        actor = None if role == "system" else provider["user_id"]
        _log(db, provider_id, "online" if online else "offline", actor, role, None)
    return json(provider_view(db, row))


def _log(db: Session, provider_id: UUID, what: str, actor: UUID | None, role: str, reason: str | None) -> None:
    row: dict[str, Any] = {"provider_id": provider_id, "at": db.now, "what": what, "actor_id": actor}
    number = len(db.tables.rows["provider_log"]) + sum(1 for _ in db.all("provider_log"))
    db.put("provider_log", (provider_id, db.now, what, number), {**row, "actor_role": role, "reason": reason})


@models("providers", "last_place")
def last_place(db: Session, user_id: UUID) -> Row | None:
    provider = _of_user(db, user_id)
    return None if provider is None else {name: provider[name] for name in ("last_lat", "last_lng")}


def gate_of(provider: Row, cleared: Sequence[str], now: Any) -> Row:
    """A gate as the trigger opens it, already judged."""
    return {
        "provider_id": provider["id"],
        "user_id": provider["user_id"],
        "status": provider["status"],
        "online": False,
        "narrowed": None,
        "cleared": list(cleared),
        "cleared_until": None,
        "suspend_due": False,
        "status_ver": 1,
        "changed_at": now,
    }


__all__ = ["gate_of", "is_open", "lack"]
