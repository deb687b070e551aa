"""A route is data: who may, what comes in, what goes out. The door serves it, the OpenAPI document is made of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from aiohttp import web

from dispatch.kit.errors import Invalid
from protocol.errors import ErrorCode

Who = Literal["anyone", "user", "customer", "admin"]
"""`user`: any valid token; `customer`, `admin`: one with that role. Finer rights (customer of, provider of) are the use case's business."""

REQUEST_ID = web.RequestKey("request_id", str)
"""The request's name in answers, headers and logs."""

SEAL: Final = "[A-Za-z0-9_-]{1,200}"
"""What {token} in a path lets through. Every other name is a UUID's."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Form:
    """A body of multipart/form-data: short fields and one file, which is streamed. The parts may come in any order, each once."""

    fields: type
    """A Struct that names the fields, for the document and the list of names; their texts are the use case's to judge."""
    file: str = "file"
    bytes_max: int = 10 * 1024 * 1024
    within_s: float = 60.0
    """All of it must have come by then: a slow sender holds a connection, a file and a place."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form. A field's `chunks` are one short text; the file's must be read before the next part is asked for."""

    name: str
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, decoded. `actor` is whatever the app's `by_token` made of the token; None where anyone may call."""

    actor: Any
    token: Any
    """The token's claims."""
    body: Any
    """What the route says: a Struct, or an AsyncIterator[Part] of a form, which raises Invalid and FileTooLarge while it is read."""
    path: Mapping[str, str]
    query: Mapping[str, str]
    key: str | None
    """Idempotency-Key."""
    locale: str
    """th or en: what messages are in."""
    request_id: str
    address: str = ""
    """Where the request came from."""

    def id(self, name: str) -> UUID:
        """A UUID out of the path. The route's pattern lets nothing else through."""
        return UUID(self.path[name])

    def limit(self) -> int:
        """?limit=, 1-100, 50 unless told. Raises Invalid."""
        raw = self.query.get("limit", "50")
        if not (raw.isascii() and raw.isdigit() and len(raw) <= 3 and 1 <= int(raw) <= 100):
            raise Invalid("limit", fields=[{"field": "limit", "problem": "a whole number from 1 to 100"}])
        return int(raw)

    def one_of(self, name: str, kind: Callable[[str], E]) -> E | None:
        """A query parameter of a closed set. Raises Invalid."""
        raw = self.query.get(name)
        if raw is None:
            return None
        try:
            return kind(raw)
        except ValueError as error:
            raise Invalid(name, fields=[{"field": name, "problem": str(error)}]) from error

    def flag(self, name: str) -> bool | None:
        """A query parameter that is true or false; None: not given. Raises Invalid."""
        raw = self.query.get(name)
        if raw not in (None, "true", "false"):
            raise Invalid(name, fields=[{"field": name, "problem": "true or false"}])
        return None if raw is None else raw == "true"

    def day(self, name: str) -> date:
        """A query parameter that must be there and be a day. Raises Invalid."""
        day = self.one_of(name, date.fromisoformat)
        if day is None:
            raise Invalid(name, fields=[{"field": name, "problem": "a day such as 2026-11-20"}])
        return day


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter of a closed set of words."""

    what: str
    words: type[StrEnum]


@dataclass(frozen=True, slots=True)
class Answered:
    """Bytes, JSON unless told, and a status."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Sent:
    """A file, streamed to whoever asked: never cached, never sniffed, saved instead of shown."""

    chunks: AsyncIterator[bytes]
    content_type: str
    file_name: str
    """Ours, plain ASCII."""


@dataclass(frozen=True, slots=True)
class Route:
    """`path` has {name} for UUIDs. `query` names the parameters it knows: others are refused."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Callable[[Call], Awaitable[Answered | Sent]]
    summary: str
    answer: Any
    """A Struct, a union of some, or `bytes`: a file."""
    who: Who = "user"
    body: type | Form | None = None
    query: Mapping[str, str | Param] = field(default_factory=dict)
    """name → what it is, for the document."""
    status: int = 200
    errors: tuple[ErrorCode, ...] = ()
    """Those beyond what every route may answer."""
    idempotent: bool = False
    """Honours Idempotency-Key."""
    key_required: bool = False
    """Refuses to go without one: what moves money. Such a route is `idempotent` too."""
