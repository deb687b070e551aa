"""Nouns of accounts, and what it asks of slices that it may not know."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from dispatch.kit.postgres import Tx
from protocol.notices import NoticeType

Pending: TypeAlias = tuple[UUID, str, bytes]
"""A fact to be numbered at the end of the transaction: (user, name, body)."""

Tell: TypeAlias = Callable[[Tx, UUID, NoticeType, Mapping[str, str], str | None], Awaitable[list[Pending]]]
"""(tx, user, type, data, key) → facts: a notification written in the caller's transaction."""

OnVerified: TypeAlias = Callable[[Tx, UUID, str], Awaitable[list[Pending]]]
"""(tx, user, e-mail in lower case) → facts, in the transaction in which the address was proved. Called once per user and address."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How this slice speaks to people. app.py makes it out of notifications and the inbox, which stand above and beside."""

    tell: Tell
    append: Callable[[Tx, list[Pending]], Awaitable[Any]]
    deliver: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a person is reached outside the app: only what he has proved to be his, since anybody may claim the rest."""

    locale: str
    email: str | None = None
    phone: str | None = None
    first_name: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """What Postgres says of a user whose rights changed lately, for the connections he holds."""

    user_id: UUID
    blocked: bool
    valid_after: float | None
    """Seconds since the epoch; tokens of before are refused."""
    roles: frozenset[str] | None
    """None: as his token says."""
