"""What a program may be, and what may still change once it runs."""

from datetime import datetime, timedelta

import msgspec

from dispatch.incentives.errors import ProgramStarted
from dispatch.kit.errors import BadDateRange
from protocol.resources.incentives import IncentivePatch

WINDOW_MAX = timedelta(days=366)
LATER = {"name", "ends_at", "active"}
"""What may change after the start."""


def check_window(starts_at: datetime, ends_at: datetime) -> None:
    """Raises: BadDateRange."""
    if not timedelta(0) < ends_at - starts_at <= WINDOW_MAX:
        raise BadDateRange(f"a program lasts up to {WINDOW_MAX.days} days")


def check_new(ends_at: datetime, now: datetime) -> None:
    """Raises: BadDateRange for a program that would be over before it began."""
    if ends_at <= now:
        raise BadDateRange("the program is over already")


def check_patch(patch: IncentivePatch, *, started: bool) -> None:
    """Raises: ProgramStarted, naming what cannot change any more."""
    if not started:
        return
    fixed = sorted(name for name in changed(patch) if name not in LATER)
    if patch.active is True:
        fixed.append("active")
    if fixed:
        raise ProgramStarted("providers work towards it already", fields=fixed)


def changed(patch: IncentivePatch) -> dict[str, object]:
    """The fields that were given."""
    return {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not None}
