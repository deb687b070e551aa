"""Nouns of the inbox."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from protocol.codec import event, wire_time
from protocol.errors import ByeReason, CloseCode
from protocol.session import ServerSession


@dataclass(frozen=True, slots=True)
class Fact:
    """One committed event of one user. `body` is its `data` as wire JSON."""

    user_id: UUID
    seq: int
    name: str
    body: bytes
    at: datetime

    def frame(self) -> bytes:
        """The event frame: encoded once, sent to every device and kept in the copy as it is."""
        return event(self.seq, self.name, self.body, wire_time(self.at))


class Line(Protocol):
    """One connection, as the inbox sees it. The gateway has it."""

    conn_id: UUID
    user_id: UUID

    def send(self, frame: bytes, user_id: UUID) -> None:
        """Queue a frame. `user_id` is whose data it carries: a frame on somebody else's line is an alarm and closes it (I13)."""

    def send_base(self, frame: bytes, user_id: UUID) -> None:
        """The same for a snapshot, which may be larger than what else may wait."""

    def leave(self, code: CloseCode, reason: ByeReason | None, reconnect_after_ms: int = 0) -> None:
        """Say bye, where the contract has one, and close."""


@dataclass(slots=True, eq=False)
class Seat:
    """A greeted connection: its line and its place in the user's history."""

    line: Line
    session: ServerSession
    device: str
    solo: bool

    @property
    def user_id(self) -> UUID:
        return self.line.user_id


@dataclass(frozen=True, slots=True)
class State:
    """The whole live state of a user as of `seq`: what a snapshot frame carries, as wire JSON."""

    seq: int
    provider: bytes | None
    jobs: Sequence[bytes]
    offers: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the welcome needs to know of a connection beyond its user."""

    solo: bool
    """One device at a time: the user is a provider."""
    token_expires_at: datetime


OnFact: TypeAlias = Callable[[UUID, str, bytes], None]
"""(user_id, name, body) of each fact as it is sent to a user's device here, in order, once per worker."""

Record: TypeAlias = Any


def fact_of(row: Record) -> Fact:
    """From a row or a composite (user_id, seq, name, body, at)."""
    return Fact(row["user_id"], row["seq"], row["name"], row["body"], row["at"])
