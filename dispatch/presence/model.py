"""Nouns of presence."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from dispatch.markets import Market


@dataclass(frozen=True, slots=True)
class Candidate:
    """A free provider near a pickup. Metres are great-circle, whole."""

    provider_id: UUID
    distance_m: int


@dataclass(frozen=True, slots=True)
class Near:
    """What a search found; each list nearest first."""

    found: Sequence[Candidate]
    """As many as were wanted, if there are so many. Where the search holds, it holds these and nobody else."""
    behind: Sequence[Candidate] = ()
    """Free too, further away than all that were wanted: to tell of, not to offer or to let go."""
    passed: Sequence[Candidate] = ()
    """Passed over, for other searches hold them: they may be nearer."""


@dataclass(slots=True, eq=False)
class Live:
    """A provider with a socket on this worker (or without one for less than 5 s), and all that searches need of him."""

    provider_id: UUID
    user_id: UUID
    conn_id: UUID
    service_types: tuple[str, ...]
    radius_m: int
    open: bool
    busy: UUID | None = None
    """The active job."""
    market: Market | None = None
    last_market: Market | None = None
    """The one he left, while he is in none: its bounds still hold."""
    lat: float = 0.0
    lng: float = 0.0
    heading_deg: float | None = None
    placed_lat: float = 0.0
    placed_lng: float = 0.0
    """Where the market was last asked for."""
    at_ms: int = 0
    """The phone's stamp of the last good fix; 0: none yet."""
    seen_ms: int = 0
    """Our wall clock when it came."""
    lost_at: float | None = None
    """Monotonic second at which the socket closed; None while it lives."""
    suspect: "tuple[float, float, int] | None" = None
    """The last fix refused as impossible: (lat, lng, at_ms)."""
    suspects: int = 0
    listed: "tuple[Market, tuple[str, ...]] | None" = None
    """Where Redis has him: the market and the service types, or nowhere."""
    listed_radius_m: int = 0
    key: str = field(init=False)
    """His name in Redis, written with each fix."""

    def __post_init__(self) -> None:
        self.key = str(self.provider_id)


@dataclass(frozen=True, slots=True)
class Unlisting:
    """Take a provider off a market's map, if `connection` is still the one that put him there."""

    provider: str
    connection: str
    market: Market
    service_types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A search whose answer did not come: it may hold whom it found, until `lapses_at` (monotonic) at most."""

    market: Market
    search: str
    ttl_ms: int
    lapses_at: float


@dataclass(frozen=True, slots=True)
class Move:
    """One accepted fix of a provider, as tracking wants it."""

    live: Live
    lat: float
    lng: float
    at_ms: int
    heading_deg: float | None
