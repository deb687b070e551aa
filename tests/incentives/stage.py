"""Programs for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any


def at(hours: float) -> str:
    """An instant so many hours from now, as the wire has it."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def a_program(*tiers: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """A program for rides in Bangkok that runs for a day on both sides of now. `tiers`: (target, bonus), by default 1 job for 1,000."""
    return {
        "name": "Rush",
        "service_types": ["ride"],
        "market": "bkk",
        "starts_at": at(-24),
        "ends_at": at(24),
        "tiers": [{"target": target, "bonus_minor": bonus} for target, bonus in tiers or [(1, 1_000)]],
    } | changes
