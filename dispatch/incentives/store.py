"""Rows of programs."""

from datetime import time
from typing import Any
from uuid import UUID

from dispatch.kit.postgres import Row, Tx
from dispatch.kit.sql import Queries
from protocol.resources.incentives import Hours, IncentiveRequest

Q = Queries.beside(__file__)


async def add(tx: Tx, program_id: UUID, request: IncentiveRequest, currency: str, actor_id: UUID) -> Row:
    """A new program: its view, and the moment."""
    row = await tx.fetchrow(Q["program_add"], program_id, *_columns(request, currency), actor_id)
    assert row is not None
    return row


async def change(tx: Tx, program_id: UUID, request: IncentiveRequest, currency: str) -> bytes:
    """Write a locked program anew; its view."""
    view: bytes = await tx.fetchval(Q["program_change"], program_id, *_columns(request, currency))
    return view


def fields_of(row: Row) -> dict[str, Any]:
    """A row as the fields of the request that would make it."""
    area = {"lat": row["area_lat"], "lng": row["area_lng"], "radius_m": row["area_radius_m"]}
    hours = None
    if row["hours_from"] is not None:
        hours = {"from": f"{row['hours_from']:%H:%M}", "to": f"{row['hours_to']:%H:%M}"}
    return {
        "name": row["name"],
        "service_types": list(row["service_types"]),
        "market": row["market"],
        "starts_at": row["starts_at"],
        "ends_at": row["ends_at"],
        "tiers": [
            {"target": target, "bonus_minor": bonus}
            for target, bonus in zip(row["targets"], row["bonuses"], strict=True)
        ],
        "area": None if row["area_lat"] is None else area,
        "hours": hours,
        "active": row["active"],
    }


def _columns(request: IncentiveRequest, currency: str) -> tuple[Any, ...]:
    area = (None, None, None) if request.area is None else (request.area.lat, request.area.lng, request.area.radius_m)
    return (
        request.name,
        [str(kind) for kind in request.service_types],
        request.market,
        currency,
        request.starts_at,
        request.ends_at,
        *area,
        *_times(request.hours),
        [tier.target for tier in request.tiers],
        [tier.bonus_minor for tier in request.tiers],
        request.active,
    )


def _times(hours: Hours | None) -> tuple[time | None, time | None]:
    return (None, None) if hours is None else (time.fromisoformat(hours.start), time.fromisoformat(hours.end))
