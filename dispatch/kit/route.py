"""A route is data: who may, what comes in, what goes out. The door serves it, the OpenAPI document is made of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeVar
from uuid import UUID

from aiohttp import web

from dispatch.kit.errors import Invalid
from protocol.errors import ErrorCode

Who = Literal["anyone", "user", "customer", "admin"]
"""`user`: any valid token; `customer`, `admin`: one with that role. Finer rights (customer of, provider of) are the use case's business."""

REQUEST_ID = web.RequestKey("request_id", str)
"""The request's name in answers, headers and logs."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, decoded. `actor` is whatever the app's `by_token` made of the token; None where anyone may call."""

    actor: Any
    token: Any
    """The token's claims."""
    body: Any
    path: Mapping[str, str]
    query: Mapping[str, str]
    key: str | None
    """Idempotency-Key."""
    locale: str
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
class Route:
    """`path` has {name} for UUIDs. `query` names the parameters it knows: others are refused."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Callable[[Call], Awaitable[Answered]]
    summary: str
    answer: Any
    who: Who = "user"
    body: type | None = None
    query: Mapping[str, str | Param] = field(default_factory=dict)
    """name → what it is, for the document."""
    status: int = 200
    errors: tuple[ErrorCode, ...] = ()
    """Those beyond what every route may answer."""
    idempotent: bool = False
    """Honours Idempotency-Key."""
