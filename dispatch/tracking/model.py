"""Nouns of tracking."""

from dataclasses import dataclass, field
from uuid import UUID

from dispatch.inbox import Line
from protocol.lifecycle import JobStatus


@dataclass(frozen=True, slots=True)
class Fix:
    """Where a job's provider was. `at_ms` is the phone's stamp, `heard_at` our monotonic second."""

    lat: float
    lng: float
    at_ms: int
    heading_deg: float | None
    heard_at: float


@dataclass(slots=True, eq=False)
class Watch:
    """One customer's socket that follows one job."""

    line: Line
    job_id: UUID
    pickup: tuple[float, float]
    dropoff: tuple[float, float] | None
    market: str
    status: JobStatus
    sent_at_ms: int = 0
    due_at: float = 0.0
    stale: bool = False


@dataclass(slots=True, eq=False)
class Way:
    """What this worker saw of a job's provider since it was last written down."""

    lat: float
    lng: float
    at_ms: int
    distance_m: float = 0.0
    fixes: int = 0
    published_at: float = 0.0


@dataclass(slots=True)
class Watched:
    """All that this worker knows of one watched job."""

    watches: list[Watch] = field(default_factory=list)
    fix: Fix | None = None
