"""The OpenAPI 3.1 document, out of the routes themselves."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, Final, get_args

import msgspec

from dispatch.kit.route import SEAL, Form, Param, Route
from protocol.errors import ErrorCode, status_of, text_of
from protocol.lifecycle import JobStatus
from protocol.notices import Channel, DeliveryStatus
from protocol.resources import ErrorBody
from protocol.schemas import REF, components, without_null

_NAMED: Final = str.maketrans("/-", "__")
_PLACEHOLDER: Final = re.compile(r"{(\w+)}")

# By name, or by "path?name" where a route has its own meaning of it. What is not here is any string.
_QUERY: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
    "status": {"type": "string", "enum": [status.value for status in JobStatus]},
    "stuck": {"type": "boolean"},
    "online": {"type": "boolean"},
    "blocked": {"type": "boolean"},
    "search": {"type": "string", "minLength": 1, "maxLength": 100},
    "date_from": {"type": "string", "format": "date"},
    "date_to": {"type": "string", "format": "date"},
    "subject_id": {"type": "string", "format": "uuid"},
    "actor_id": {"type": "string", "format": "uuid"},
    "max_distance_m": {"type": "integer", "minimum": 1, "maximum": 50_000},
    "unread": {"type": "boolean"},
    "channel": {"type": "string", "enum": [channel.value for channel in Channel]},
    "/v1/admin/deliveries?status": {"type": "string", "enum": [status.value for status in DeliveryStatus]},
}
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "Language": {
        "name": "Accept-Language",
        "in": "header",
        "description": "Language of `message` and other sentences for people: th or en. Default: the user's own, then th.",
        "schema": {"type": "string", "examples": ["en"]},
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Printable ASCII. Comes back in the answer; one is made where it is missing or not of this form.",
        "schema": {"type": "string", "minLength": 8, "maxLength": 64},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Unique per request that is meant once; sent again with it, the same body gets the stored answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
}
_PARAMETERS["RequiredIdempotencyKey"] = {**_PARAMETERS["IdempotencyKey"], "required": True}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "RequestId": {"description": "Names this request in our logs.", "required": True, "schema": {"type": "string"}},
    "RetryAfter": {
        "description": "Whole seconds to wait before asking again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
}


def document(routes: Sequence[Route], *, version: str) -> dict[str, Any]:
    """The document of these routes, ready for JSON. `version` is the server's.

    Raises ValueError for two routes with one method and path.
    """
    shapes = list(
        dict.fromkeys(
            shape for route in routes for what in (_fields(route.body), route.answer) for shape in _shapes(what)
        )
    )
    # The fields of a form are written out beside its file; what they refer to stays.
    forms = {route.body.fields.__name__ for route in routes if isinstance(route.body, Form)}
    tops, _ = msgspec.json.schema_components(shapes, ref_template=REF)
    schema_of = dict(zip(shapes, tops, strict=True))
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        operations = paths[route.path]
        if "parameters" not in operations and (names := _PLACEHOLDER.findall(route.path)):
            operations["parameters"] = [_path_parameter(name) for name in names]
        method = route.method.lower()
        if method in operations:
            raise ValueError(f"{route.method} {route.path} is served twice")
        operations[method] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dispatch",
            "version": version,
            "description": "JSON over HTTP. What happens meanwhile comes over the socket `GET /v1/socket`, which "
            "`/asyncapi.json` describes. Ids are UUIDs; times are RFC 3339 UTC with milliseconds; distances end in `_m`, "
            "durations in `_s`, money in `_minor`. An optional field without a value is absent.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": tag} for tag in sorted({_tag(route.path) for route in routes})],
        "paths": dict(paths),
        "components": {
            "schemas": {name: schema for name, schema in components([*shapes, ErrorBody]).items() if name not in forms},
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _shapes(what: Any) -> tuple[Any, ...]:
    """The parts of a union; msgspec has no schema for one of several Structs."""
    if what is None or what is bytes:
        return ()
    return get_args(what) if isinstance(what, UnionType) else (what,)


def _operation(route: Route, schema_of: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [_query_parameter(route, name, what) for name, what in route.query.items()]
    parameters += [{"$ref": f"#/components/parameters/{name}"} for name in _header_names(route)]
    operation: dict[str, Any] = {
        "operationId": _PLACEHOLDER.sub(r"\1", f"{route.method.lower()}{route.path}").translate(_NAMED),
        "tags": [_tag(route.path)],
        "summary": route.summary,
        "parameters": parameters,
    }
    if route.who == "anyone":
        operation["security"] = []
    elif route.who == "admin":
        operation["description"] = "Admins only."
    if isinstance(route.body, Form):
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _form(route.body)}}}
    elif route.body is not None:
        schema = schema_of[route.body]
        # A body without required fields may be left out: it is read as {}.
        required = any(field.required for field in msgspec.structs.fields(route.body))
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    operation["responses"] = _responses(route, [schema_of[shape] for shape in _shapes(route.answer)])
    return operation


def _query_parameter(route: Route, name: str, what: str | Param) -> dict[str, Any]:
    if isinstance(what, Param):
        schema: dict[str, Any] = {"type": "string", "enum": [word.value for word in what.words]}
        return {"name": name, "in": "query", "description": what.what, "schema": schema}
    schema = _QUERY.get(f"{route.path}?{name}", _QUERY.get(name, {"type": "string"}))
    return {"name": name, "in": "query", "description": what, "schema": schema}


def _header_names(route: Route) -> Iterable[str]:
    yield from ("Language", "RequestId")
    if route.idempotent:
        yield "RequiredIdempotencyKey" if route.key_required else "IdempotencyKey"


def _responses(route: Route, answers: list[dict[str, Any]]) -> dict[str, Any]:
    done: dict[str, Any] = {
        "description": HTTPStatus(route.status).phrase,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}},
    }
    if route.answer is bytes:
        done["content"] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    if answers:
        schema = answers[0] if len(answers) == 1 else {"anyOf": answers}
        done["content"] = {"application/json": {"schema": schema}}
    by_status: dict[int, list[ErrorCode]] = defaultdict(list)
    for code in dict.fromkeys((*_errors_of_the_door(route), *route.errors)):
        by_status[status_of(code)].append(code)
    return {str(route.status): done} | {
        str(status): _refusal(status, by_status[status]) for status in sorted(by_status)
    }


def _errors_of_the_door(route: Route) -> Iterable[ErrorCode]:
    """What a route of this form may answer before, or whatever, its handler says."""
    yield ErrorCode.VALIDATION_ERROR  # an unknown query parameter, at least
    if isinstance(route.body, Form):
        yield ErrorCode.FILE_TOO_LARGE
    elif route.body is not None:
        yield ErrorCode.BODY_TOO_LARGE
    if route.who != "anyone":
        yield from (ErrorCode.UNAUTHORIZED, ErrorCode.SESSION_EXPIRED, ErrorCode.FORBIDDEN)
    if _PLACEHOLDER.search(route.path):
        yield ErrorCode.NOT_FOUND
    if route.idempotent:
        if route.key_required:
            yield ErrorCode.IDEMPOTENCY_KEY_REQUIRED
        yield from (ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.REQUEST_IN_PROGRESS)
    yield from (ErrorCode.RATE_LIMITED, ErrorCode.INTERNAL_ERROR, ErrorCode.OVERLOADED, ErrorCode.BUSY)


def _refusal(status: int, codes: Sequence[ErrorCode]) -> dict[str, Any]:
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    narrowed = {"properties": {"error": {"properties": {"code": {"enum": [code.value for code in codes]}}}}}
    return {
        "description": "\n".join(f"- `{code.value}`: {text_of(code, 'en')}" for code in codes),
        "headers": headers,
        "content": {
            "application/json": {"schema": {"allOf": [{"$ref": REF.format(name=ErrorBody.__name__)}, narrowed]}}
        },
    }


def _fields(body: Any) -> Any:
    return body.fields if isinstance(body, Form) else body


def _form(form: Form) -> dict[str, Any]:
    """The fields, and beside them the file."""
    ((schema,), shapes) = msgspec.json.schema_components([form.fields], ref_template=REF)
    fields = shapes[schema["$ref"].rpartition("/")[2]]
    file = {
        "type": "string",
        "format": "binary",
        "description": f"1 to {form.bytes_max} bytes. The parts may come in any order.",
    }
    return {
        "type": "object",
        "properties": {**without_null(fields["properties"]), form.file: file},
        "required": [*fields.get("required", ()), form.file],
    }


def _path_parameter(name: str) -> dict[str, Any]:
    if name == "token":
        return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{SEAL}$"}}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _tag(path: str) -> str:
    """The first segment behind the version: jobs of /v1/jobs/{id}."""
    segments = [segment for segment in path.split("/") if segment and segment != "v1"]
    return segments[0] if segments else "root"
