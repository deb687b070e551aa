"""Wire JSON as the SQL functions make it: job_view, offer_view, provider_view and their parts. Dicts here; bytes at the end."""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from bench.simulation.judge.tables import Row, Session
from dispatch.kit.geo import distance_m
from protocol.codec import wire_time

ACTIVE = ("accepted", "arrived", "in_progress")
OPEN = ("pending", "offered")


def json(value: Any) -> bytes:
    """A json value as asyncpg hands it over here: its bytes."""
    return orjson.dumps(value)


def stripped(value: dict[str, Any]) -> dict[str, Any]:
    """json_strip_nulls."""
    return {
        name: stripped(field) if isinstance(field, dict) else field
        for name, field in value.items()
        if field is not None
    }


def wire_at(at: datetime | None) -> str | None:
    return None if at is None else wire_time(at)


def job_fare(j: Row) -> dict[str, Any]:
    parts = {name: j[name] for name in ("base_minor", "distance_minor", "time_minor", "surge_minor")}
    return parts | {"total_minor": sum(parts.values()), "currency": j["currency"], "estimated": j["estimated"]}


def provider_card(j: Row) -> dict[str, Any]:
    return stripped(
        {
            "id": j["provider_id"],
            "first_name": j["provider_first_name"],
            "rating": j["provider_rating"],
            "vehicle": j["provider_vehicle"],
            "location": None
            if j["provider_lat"] is None
            else {"lat": j["provider_lat"], "lng": j["provider_lng"], "at": wire_at(j["provider_located_at"])},
        }
    )


def job_view(j: Row, contact: bool) -> dict[str, Any]:
    return stripped(
        {
            "id": j["id"],
            "market": j["market"],
            "service_type": j["service_type"],
            "status": j["status"],
            "round": j["round"],
            "version": j["version"],
            "customer_id": j["customer_id"],
            "provider": None if j["provider_id"] is None else provider_card(j),
            "customer": {"first_name": j["customer_first_name"], "phone_number": j["customer_phone"]}
            if contact and j["status"] in ACTIVE
            else None,
            "pickup": {"lat": j["pickup_lat"], "lng": j["pickup_lng"], "address": j["pickup_address"]},
            "dropoff": None
            if j["dropoff_lat"] is None
            else {"lat": j["dropoff_lat"], "lng": j["dropoff_lng"], "address": j["dropoff_address"]},
            "note": j["note"],
            "distance_m": j["distance_m"],
            "duration_s": j["duration_s"],
            "payment_method": j["payment_method"],
            "surge_multiplier": j["surge_pct"] / 100.0,
            "fare": job_fare(j),
            "estimated_earnings_minor": j["estimated_earnings_minor"],
            "actual_earnings_minor": j["actual_earnings_minor"],
            "created_at": wire_at(j["created_at"]),
            "accepted_at": wire_at(j["accepted_at"]),
            "arrived_at": wire_at(j["arrived_at"]),
            "started_at": wire_at(j["started_at"]),
            "completed_at": wire_at(j["completed_at"]),
            "cancelled_at": wire_at(j["cancelled_at"]),
            "cancelled_by": j["cancelled_by"],
            "cancellation_reason": j["cancellation_reason"],
        }
    )


def job_glance(j: Row) -> dict[str, Any]:
    return stripped(
        {
            "id": j["id"],
            "service_type": j["service_type"],
            "pickup": j["coarse"].get("pickup"),
            "dropoff": j["coarse"].get("dropoff"),
            "distance_m": j["distance_m"],
            "fare": job_fare(j),
            "estimated_earnings_minor": j["estimated_earnings_minor"],
            "passenger_name": j["passenger_name"],
        }
    )


def offer_view(o: Row, glance: dict[str, Any]) -> dict[str, Any]:
    return {
        "offer_id": o["offer_id"],
        "job": glance,
        "pickup_distance_m": o["pickup_distance_m"],
        "expires_at": wire_at(o["expires_at"]),
        "round": o["round"],
    }


def provider_view(db: Session, p: Row) -> dict[str, Any]:
    gate = db.get("provider_gate", p["id"])
    assert gate is not None
    suspended = p["status"] == "suspended"
    return stripped(
        {
            "id": p["id"],
            "user_id": p["user_id"],
            "provider_uid": p["provider_uid"],
            "status": p["status"],
            "first_name": p["first_name"],
            "last_name": p["last_name"],
            "email": p["email"],
            "phone_number": p["phone_number"],
            "service_types": list(p["service_types"]),
            "service_radius_m": p["service_radius_m"],
            "is_online": gate["online"],
            "cleared_service_types": list(gate["cleared"]),
            "rating": p["rating"],
            "created_at": wire_at(p["created_at"]),
            "approved_at": wire_at(p["approved_at"]),
            "suspended_at": wire_at(p["suspended_at"]) if suspended else None,
            "suspension_cause": p["suspension_cause"] if suspended else None,
            "suspension_reason": p["suspension_reason"] if suspended else None,
            "rejection_reason": p["rejection_reason"] if p["status"] == "rejected" else None,
        }
    )


def is_open(gate: Row) -> bool:
    """`provider_gate.open`, a generated column."""
    return bool(gate["online"]) and gate["status"] in ("approved", "active")


def cleared_now(db: Session, gate: Row) -> list[str]:
    if gate["suspend_due"] or (gate["cleared_until"] is not None and gate["cleared_until"] <= db.now):
        return []
    return list(gate["cleared"])


def services_now(db: Session, gate: Row) -> list[str]:
    cleared = cleared_now(db, gate)
    return cleared if gate["narrowed"] is None else [kind for kind in gate["narrowed"] if kind in cleared]


def active_job_of(db: Session, provider_id: UUID) -> UUID | None:
    for job in db.all("jobs"):
        if job["provider_id"] == provider_id and job["status"] in ACTIVE:
            found: UUID = job["id"]
            return found
    return None


def away_m(lat1: float, lng1: float, lat2: float, lng2: float) -> float:
    """distance_between."""
    return distance_m(lat1, lng1, lat2, lng2)


def job_set(db: Session, job_id: UUID, **fields: Any) -> Row:
    """UPDATE jobs, under the index `jobs_one_active`: a second active job of a provider is refused, and one in the making waited for."""
    row = db.change("jobs", job_id, **fields)
    if row["provider_id"] is not None and row["status"] in ACTIVE:
        one_active(db, row)
    return row


def one_active(db: Session, row: Row) -> None:
    """The index's own judgement. Apart, so that a mutant can take it away."""
    from bench.simulation.judge.tables import unique

    db.lock("jobs_one_active", row["provider_id"])
    for other in db.all("jobs"):
        if other["id"] != row["id"] and other["provider_id"] == row["provider_id"] and other["status"] in ACTIVE:
            raise unique("jobs_one_active")
