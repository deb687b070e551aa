"""Redis keys of tracking."""

from uuid import UUID

FIX_TTL_S = 120


def fix(job_id: UUID) -> str:
    """String: the newest fix of an active job's provider. TTL 120 s. Lost: the next fix brings it back."""
    return f"{{j:{job_id}}}:fix"


def channel(job_id: UUID) -> str:
    """Sharded channel: fixes of an active job's provider, for workers whose customers watch it."""
    return f"{{j:{job_id}}}:pos"


def own(name: str) -> str:
    """Sharded channel: what one worker's subscription says to itself."""
    return f"{{tracking}}:{name}"


def job_of(name: str) -> UUID:
    """The inverse of `channel`."""
    return UUID(name[3:39])
