"""Nouns of vehicles."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from protocol.papers import VehicleStatus


@dataclass(frozen=True, slots=True)
class Fields:
    """What a provider says of a vehicle."""

    vehicle_type: str
    make: str
    model: str
    year: int
    plate_number: str
    color: str
    registration_expiry: date
    insurance_expiry: date
    registration_document_id: UUID | None


@dataclass(frozen=True, slots=True)
class VehicleRow:
    """A vehicle as dispatch must know it."""

    id: UUID
    provider_id: UUID
    user_id: UUID
    fields: Fields
    plate_key: str
    status: VehicleStatus
    is_active: bool
    version: int
    today: date
    """The day in Bangkok, by the judge's clock."""

    @property
    def run_out(self) -> bool:
        return min(self.fields.registration_expiry, self.fields.insurance_expiry) < self.today
