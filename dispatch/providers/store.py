"""Rows of providers."""

from pathlib import Path
from typing import Any
from uuid import UUID

from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.providers.errors import ProviderMissing
from dispatch.providers.model import ProviderState
from protocol.lifecycle import ProviderStatus

Q = Queries(Path(__file__).with_name("queries.sql"))


def _state(row: Any) -> ProviderState:
    return ProviderState(
        row["id"],
        row["user_id"],
        ProviderStatus(row["status"]),
        row["online"],
        tuple(row["service_types"]),
        tuple(row["registered_types"]),
        row["service_radius_m"],
        row["active_job"],
        None
        if row["last_lat"] is None
        else (row["last_lat"], row["last_lng"], int(row["located_at"].timestamp() * 1000)),
    )


async def state_of_user(conn: Tx, user_id: UUID) -> ProviderState | None:
    """None: this user is no provider."""
    row = await conn.fetchrow(Q["provider_state"], user_id)
    return None if row is None else _state(row)


async def states_of_users(conn: Tx, user_ids: list[UUID]) -> list[ProviderState]:
    """Of those among `user_ids` who are providers."""
    return [_state(row) for row in await conn.fetch(Q["provider_states"], user_ids)]


async def lock_gate(tx: Tx, provider_id: UUID) -> tuple[UUID, ProviderStatus, bool]:
    """(user_id, status, online), locked for a change until the transaction ends. Raises: ProviderMissing."""
    row = await tx.fetchrow(Q["gate_lock"], provider_id)
    if row is None:
        raise ProviderMissing(f"no provider {provider_id}")
    return row["user_id"], ProviderStatus(row["status"]), row["online"]


async def status_set(
    tx: Tx,
    provider_id: UUID,
    status: ProviderStatus,
    *,
    reason: str | None,
    cause: str | None,
    uid: str | None,
    actor_id: UUID | None,
) -> bytes:
    """Write a status already judged, with the gate locked. Returns the provider's view."""
    view: bytes = await tx.fetchval(Q["status_set"], provider_id, str(status), reason, cause, uid, actor_id)
    return view


async def online_set(
    tx: Tx,
    provider_id: UUID,
    online: bool,
    lat: float | None,
    lng: float | None,
    role: str,
    narrowed: list[str] | None = None,
) -> bytes:
    """Write the online intent, with the gate locked. Returns the provider's view."""
    view: bytes = await tx.fetchval(Q["online_set"], provider_id, online, lat, lng, role, narrowed)
    return view
