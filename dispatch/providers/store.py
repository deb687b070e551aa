"""Rows of providers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from dispatch.kit.ids import new_word
from dispatch.kit.postgres import Postgres, Tx, patient
from dispatch.kit.sql import Queries
from dispatch.providers.errors import DocumentsIncomplete, EmailNotVerified, ProviderMissing, Suspended
from dispatch.providers.model import ProviderState
from protocol.lifecycle import ProviderStatus, ServiceType
from protocol.papers import DocumentType

Q = Queries(Path(__file__).with_name("queries.sql"))


def _state(row: Any) -> ProviderState:
    return ProviderState(
        row["id"],
        row["user_id"],
        ProviderStatus(row["status"]),
        row["online"],
        tuple(row["service_types"]),
        tuple(row["cleared_types"]),
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


async def require(
    pg: Postgres, documents: Mapping[ServiceType, Sequence[DocumentType]], vehicles: Sequence[ServiceType]
) -> bool:
    """Write what each service type asks for, where the judge can read it; one that is not named asks for nothing. Whether that changed anything."""
    asked = {str(kind): [str(one) for one in names] for kind, names in documents.items()}
    async with pg.system_tx() as tx:
        # At a change it may touch every gate there is, and the other workers that start now wait for their turn.
        timeout = await patient(tx, 120)
        changed: bool = await tx.fetchval(
            Q["requirements_set"],
            [str(kind) for kind in ServiceType],
            orjson.dumps(asked),
            [str(kind) for kind in vehicles],
            timeout=timeout,
        )
    return changed


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


async def cleared(tx: Tx, provider_id: UUID) -> bytes | None:
    """Judge his papers again, with the gate locked: part of every change of service types, documents and vehicles.

    Returns the provider's view when it changed what he may be offered.
    """
    view: bytes | None = await tx.fetchval(Q["clear"], provider_id)
    return view


async def submitted(tx: Tx, provider_id: UUID) -> bytes | None:
    """Send a pending application with all its papers to review, with the gate locked. Returns the provider's view when it went."""
    view: bytes | None = await tx.fetchval(Q["submit"], provider_id)
    return view


async def documents_missing(tx: Tx, provider_id: UUID, kinds: Sequence[str], *, uploaded: bool) -> list[str]:
    """Required documents of these service types that nothing good stands for; with `uploaded`, one that waits for review will do."""
    missing: list[str] = await tx.fetchval(Q["documents_missing"], provider_id, list(kinds), uploaded)
    return missing


async def lack_of(tx: Tx, provider_id: UUID, kind: str) -> tuple[str | None, list[str]]:
    """Why he is not cleared for a service type: mismatch, documents (and which) or vehicle. None: he is."""
    row = await tx.fetchrow(Q["lack"], provider_id, kind)
    assert row is not None
    return row["word"], row["missing"]


async def check_application(tx: Tx, provider_id: UUID) -> None:
    """Whether there is all that an approval needs, with the gate locked. Raises: EmailNotVerified, DocumentsIncomplete."""
    row = await tx.fetchrow(Q["application"], provider_id)
    assert row is not None
    if not row["verified"]:
        raise EmailNotVerified("the e-mail address is not verified yet")
    await check_papers(tx, provider_id)


async def check_papers(tx: Tx, provider_id: UUID) -> None:
    """Whether an approved document stands for each that his service types ask for. Raises: DocumentsIncomplete."""
    row = await tx.fetchrow(Q["application"], provider_id)
    assert row is not None
    if row["missing"]:
        raise DocumentsIncomplete("required documents are missing or not approved yet", missing=row["missing"])


async def free_uid(tx: Tx) -> str:
    """A provider number that nobody has: 40 random bits, drawn again while somebody does."""
    while True:
        uid = f"PRV-{new_word(10).upper()}"
        if not await tx.fetchval(Q["provider_uid_known"], uid):
            return uid


async def check_not_banned(tx: Tx, user_id: UUID) -> None:
    """Whoever an office has suspended changes nothing of his record. Papers he may still hand in: without them the office could not take him
    back. Raises: Suspended.
    """
    if (reason := await tx.fetchval(Q["ban"], user_id)) is not None:
        raise Suspended("suspended by the office", status="suspended", reason=reason)


async def suspension_cause(tx: Tx, provider_id: UUID) -> str | None:
    """documents or admin; None: not suspended."""
    cause: str | None = await tx.fetchval(Q["suspension_cause"], provider_id)
    return cause
