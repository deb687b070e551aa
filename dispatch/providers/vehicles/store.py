"""Rows of vehicles."""

from pathlib import Path
from uuid import UUID

from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.providers.vehicles.model import Fields, VehicleRow
from protocol.papers import VehicleStatus

Q = Queries(Path(__file__).with_name("queries.sql"))


async def vehicle_row(tx: Tx, vehicle_id: UUID, user_id: UUID | None) -> VehicleRow | None:
    """The vehicle; None: not there, or not of `user_id` (None: anybody's that the acting user may see)."""
    row = await tx.fetchrow(Q["vehicle_row"], vehicle_id, user_id)
    if row is None:
        return None
    fields = Fields(**{name: row[name] for name in Fields.__dataclass_fields__})
    return VehicleRow(
        row["id"],
        row["provider_id"],
        row["user_id"],
        fields,
        row["plate_key"],
        VehicleStatus(row["status"]),
        row["is_active"],
        row["version"],
        row["today"],
    )
