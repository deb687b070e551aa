"""Ranges of days that somebody asks for, both ends included."""

from datetime import date
from typing import Final

from dispatch.kit.errors import BadDateRange

RANGE_DAYS_MAX: Final = 366


def check_range(first: date, last: date) -> None:
    """Raises: BadDateRange for a range that ends before it begins or is longer than 366 days."""
    if not 0 <= (last - first).days < RANGE_DAYS_MAX:
        raise BadDateRange(f"{first} to {last}: 1 to {RANGE_DAYS_MAX} days", days_max=RANGE_DAYS_MAX)
