"""Routes onto aiohttp: identity, limits, bodies, refusals."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from dispatch.api.forms import parts_of
from dispatch.api.strangers import Strangers
from dispatch.kit.address import Proxies
from dispatch.kit.clock import Clock
from dispatch.kit.errors import (
    Busy,
    DispatchError,
    Forbidden,
    Invalid,
    KeyRequired,
    Limited,
    Overloaded,
    Unauthenticated,
)
from dispatch.kit.ids import new_word
from dispatch.kit.log import name_request
from dispatch.kit.postgres import LOST, STUCK
from dispatch.kit.route import REQUEST_ID, SEAL, Call, Form, Route, Sent
from protocol.codec import decode_body, wire_time
from protocol.errors import DEFAULT_LOCALE, ErrorCode, Refused, status_of, text_of

log = structlog.get_logger("api")

BODY_BYTES_MAX = 1024 * 1024
BODY_WITHIN_S = 30.0
"""Who sends a byte a second holds a connection and a task; he may, for so long."""
HUNG_UP = 499
"""What is counted for a request whose client went away before its answer: nobody gets it."""
_LOCALE = web.RequestKey("locale", str)
_ROUTE = web.RequestKey("route", str)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Accept-Language, X-Request-Id",
    "Access-Control-Max-Age": "600",
}
_BUCKETS_MAX = 100_000
_UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


def _file(sent: Sent) -> web.Response:
    # Whatever is in it was sent by a stranger: a browser shall neither guess at it, nor show it, nor keep it.
    headers = {
        "Content-Type": sent.content_type,
        "Content-Disposition": f'attachment; filename="{sent.file_name}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-store",
    }
    return web.Response(body=sent.chunks, headers=headers)


def _hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


class Buckets:
    """Token buckets by key, in this process: they hold without any store. Least recently used go first when there are too many."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: object, now: float) -> float:
        """Take one token; 0.0, or seconds until there is one. `now`: when the asker came, so perhaps before somebody who was counted already."""
        tokens, at = self._buckets.pop(key, (self._burst, now))
        now = max(now, at)
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        short = 1.0 - tokens
        self._buckets[key] = (tokens if short > 0 else tokens - 1.0, now)
        if len(self._buckets) > _BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return short / self._rate if short > 0 else 0.0


@dataclass(frozen=True, slots=True)
class ApiRules:
    """What the app hands the door."""

    by_token: Callable[[str, str], Awaitable[tuple[Any, Any]]]
    """(token, address) → (actor, claims). Raises DispatchError."""
    has_role: Callable[[Any, str], bool]
    locale_of: Callable[[Any], str]
    key_of: Callable[[Any], object]
    """What a user's limit counts by."""
    user_rate: float
    user_burst: int
    address_rate: float
    origins: frozenset[str] = frozenset()
    proxies: Proxies = field(default_factory=lambda: Proxies(()))


class Api:
    """Builds the aiohttp application: `add` the routes, then hand `app` to a runner."""

    def __init__(self, rules: ApiRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._users = Buckets(rules.user_rate, rules.user_burst)
        self._addresses = Buckets(rules.address_rate, max(1.0, rules.address_rate)) if rules.address_rate > 0 else None
        self.routes: list[Route] = []
        self.strangers = Strangers(clock)
        self.app = web.Application(middlewares=[self._outermost], client_max_size=BODY_BYTES_MAX)
        self.answers: dict[tuple[str, int], int] = {}

    def add(self, routes: Sequence[Route]) -> None:
        """Serve these routes."""
        for route in routes:
            pattern = route.path
            for name in [part[1:-1] for part in route.path.split("/") if part.startswith("{")]:
                pattern = pattern.replace(f"{{{name}}}", f"{{{name}:{SEAL if name == 'token' else _UUID}}}")
            self.app.router.add_route(route.method, pattern, self._serve(route))
            self.routes.append(route)

    def _serve(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            request[_ROUTE] = route.path
            actor, claims = await self._identify(route, request)
            query: dict[str, str] = {}
            for name, value in request.query.items():
                if name not in route.query or name in query:
                    problem = "given twice" if name in query else "no parameter of this route"
                    raise Invalid(name, fields=[{"field": name, "problem": problem}])
                query[name] = value
            key = request.headers.get("Idempotency-Key") if route.idempotent else None
            if key is not None and not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
                problem = "1 to 200 printable ASCII characters"
                raise Invalid("Idempotency-Key", fields=[{"field": "Idempotency-Key", "problem": problem}])
            if key is None and route.key_required:
                raise KeyRequired("send an Idempotency-Key, the same one when you ask again")
            if request.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Invalid("Content-Encoding", fields=[{"field": "Content-Encoding", "problem": "send it as it is"}])
            body: Any = None
            if isinstance(route.body, Form):
                body = parts_of(request, route.body, self._clock)
            elif route.body is not None:
                try:
                    async with asyncio.timeout(BODY_WITHIN_S):
                        data = await request.read()
                except TimeoutError as error:
                    # Not BUSY: nothing has been begun, and it is not we who are slow.
                    problem = f"did not come within {BODY_WITHIN_S:g} s"
                    raise Invalid("body", fields=[{"field": "body", "problem": problem}]) from error
                body = decode_body(data, route.body)
            call = Call(
                actor,
                claims,
                body,
                request.match_info,
                query,
                key,
                request[_LOCALE],
                request[REQUEST_ID],
                request.remote or "",
            )
            answered = await route.handler(call)
            if isinstance(answered, Sent):
                return _file(answered)
            return web.Response(
                body=answered.body, status=answered.status, headers={"Content-Type": answered.content_type}
            )

        return handle

    async def _identify(self, route: Route, request: web.Request) -> tuple[Any, Any]:
        now = self._clock.monotonic()
        if self._addresses is not None:
            self._limit(self._addresses.wait_s(request.remote, now))
        if route.who == "anyone":
            return None, None
        header = request.headers.get("Authorization", "")
        if header[:7].lower() != "bearer ":
            raise Unauthenticated("no bearer token")
        actor, claims = await self._rules.by_token(header[7:].strip(), request.remote or "")
        request[_LOCALE] = self._locale(request, self._rules.locale_of(actor))
        self._limit(self._users.wait_s(self._rules.key_of(actor), now))
        if route.who not in ("anyone", "user") and not self._rules.has_role(actor, route.who):
            raise Forbidden(f"for the role {route.who} only")
        return actor, claims

    def _limit(self, wait_s: float) -> None:
        if wait_s > 0:
            raise Limited("too many requests", retry_after_s=max(1, round(wait_s)))

    @staticmethod
    def _locale(request: web.Request, own: str) -> str:
        """What to answer in. Messages are in Thai and English; whoever reads Arabic letters gets the default, as an unknown language does."""
        spoken = ("th", "en")
        asked = request.headers.get("Accept-Language", "")[:2].lower()
        if asked in spoken:
            return asked
        return own if own in spoken else DEFAULT_LOCALE

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.strangers.asks(request)
        if self._rules.proxies and request.remote:
            forwarded = request.headers.get("X-Forwarded-For", "")
            request = request.clone(remote=self._rules.proxies.address_of(request.remote, forwarded))
        request_id = request.headers.get("X-Request-Id", "")
        request[REQUEST_ID] = (
            request_id
            if 8 <= len(request_id) <= 64 and request_id.isascii() and request_id.isprintable()
            else new_word(16)
        )
        name_request(request[REQUEST_ID])
        request[_LOCALE] = self._locale(request, "th")
        origin = request.headers.get("Origin")
        foreign = origin if origin is not None and origin in self._rules.origins else None
        try:
            if request.method == "OPTIONS" and foreign is not None:
                response: web.StreamResponse = web.Response(status=204, headers=_PREFLIGHT)
            else:
                response = await handler(request)
        except DispatchError as error:
            response = self._refusal(request, error.code, error.status, error.details)
        except Refused as refused:
            response = self._refusal(request, refused.code, status_of(refused.code), refused.details or {})
        except web.HTTPRequestEntityTooLarge:
            response = self._refusal(request, ErrorCode.BODY_TOO_LARGE, 413, {"bytes_max": BODY_BYTES_MAX})
        except web.HTTPMethodNotAllowed as error:
            response = self._refusal(
                request, ErrorCode.METHOD_NOT_ALLOWED, 405, {"allowed": sorted(error.allowed_methods)}
            )
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        except web.HTTPNotFound:
            response = self._refusal(request, ErrorCode.NOT_FOUND, 404, {})
        except web.HTTPException as error:
            response = self._refusal(request, ErrorCode.VALIDATION_ERROR, error.status, {})
        except STUCK:  # a TimeoutError is an OSError too, so this stands before LOST
            response = self._refusal(request, ErrorCode.BUSY, 503, Busy().details)
        except LOST as error:
            if _hung_up(request):  # its body broke off with the same words as Postgres' line would
                response = web.Response(status=HUNG_UP)
            else:
                log.warning("no Postgres for a request", route=request.get(_ROUTE), error=repr(error))
                response = self._refusal(request, ErrorCode.OVERLOADED, 503, Overloaded().details)
        except asyncpg.DataError as error:
            # A value that no column can hold and no schema has refused: the caller's, and for us a hole to close.
            log.warning("value beyond the database", route=request.get(_ROUTE), error=str(error))
            response = self._refusal(request, ErrorCode.VALIDATION_ERROR, 400, {})
        except Exception as error:
            log.error("request failed", route=request.get(_ROUTE), request_id=request[REQUEST_ID], exc_info=error)
            response = self._refusal(request, ErrorCode.INTERNAL_ERROR, 500, {})
        response.headers["X-Request-Id"] = request[REQUEST_ID]
        if foreign is not None:
            response.headers["Access-Control-Allow-Origin"] = foreign
            response.headers["Vary"] = "Origin"
        seen = (request.get(_ROUTE, "other"), response.status)
        self.answers[seen] = self.answers.get(seen, 0) + 1
        return response

    def _refusal(self, request: web.Request, code: ErrorCode, status: int, details: dict[str, Any]) -> web.Response:
        error: dict[str, Any] = {"code": str(code), "message": text_of(code, request[_LOCALE])}
        if details:
            error["details"] = details
        error["timestamp"] = wire_time(self._clock.now())
        error["request_id"] = request[REQUEST_ID]
        headers = {}
        if status in (429, 503):
            headers["Retry-After"] = str(details.get("retry_after_s", 1))
        return web.Response(
            body=orjson.dumps({"error": error}, default=str),
            status=status,
            content_type="application/json",
            headers=headers,
        )
