"""Redis keys of claims."""

from uuid import UUID

PENDING_MS = 3_000
"""Longer than the judge may take (statement_timeout 2 s): a dead worker's claim lapses by itself."""
COMMITTED_MS = 60_000


def claim(job_id: UUID) -> str:
    """String `round:provider:accept_id`, with `:C` once committed. TTL 3 s pending, 60 s committed. Lost: more racers reach Postgres."""
    return f"{{j:{job_id}}}:claim"
