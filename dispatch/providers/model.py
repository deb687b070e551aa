"""Nouns of providers."""

from dataclasses import dataclass
from uuid import UUID

from protocol.lifecycle import MAY_WORK, ProviderStatus


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What dispatch must know of a provider, from his row and his gate."""

    id: UUID
    user_id: UUID
    status: ProviderStatus
    online: bool
    service_types: tuple[str, ...]
    """Those he takes now: the cleared ones, or fewer if he narrowed them when he went online."""
    cleared_types: tuple[str, ...]
    """Those he may be offered: registered, with papers and vehicle in order."""
    registered_types: tuple[str, ...]
    radius_m: int
    active_job: UUID | None
    place: tuple[float, float, int] | None = None
    """(lat, lng, ms) as he said when he last went online with one."""

    @property
    def open(self) -> bool:
        """May get offers as far as his record goes: approved, and switched on."""
        return self.online and self.status in MAY_WORK
