"""Frames and bodies to bytes and back. Nothing but Refused is ever raised on what came in.

Decoding is one msgspec call. msgspec alone would keep the last of two equal keys, skip unknown fields of any depth
and not look into their UTF-8, so everything it took is checked once more, exactly:

- `location`, `locations` and `ack` by counting quotes. A frame of these has a known number of strings if each present
  field stands there once and nothing else does; a duplicate, an unknown field or an explicit null adds at least two
  quotes. So an equal count proves that there are none (60 ns); any other count goes to the scan, which decides.
- every other frame by the scan: a strict parse by the standard library (4 us, on frames that cost milliseconds).

Only a frame that is refused pays for the explanation, which looks at every field to name all that are wrong.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, get_args
from uuid import UUID

import msgspec
import orjson

from protocol.errors import ByeReason, ErrorCode, Refused
from protocol.frames import (
    DEPTH_MAX,
    Ack,
    ClientFrame,
    Fix,
    Location,
    Locations,
    ServerFrame,
)

__all__ = [
    "Refused",
    "bye",
    "decode_body",
    "decode_client",
    "decode_server",
    "encode",
    "error",
    "event",
    "position",
    "reply_error",
    "reply_ok",
    "snapshot",
    "wire_time",
]

T = TypeVar("T", bound=msgspec.Struct)

_client: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_server: Final[msgspec.json.Decoder[ServerFrame]] = msgspec.json.Decoder(ServerFrame)
_bodies: Final[dict[type[Any], msgspec.json.Decoder[Any]]] = {}
_SHAPES: Final[dict[object, type[msgspec.Struct]]] = {s.__struct_config__.tag: s for s in get_args(ClientFrame)}
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


# --- in


def decode_client(data: bytes | str) -> ClientFrame:
    """One frame of a client, at most FRAME_BYTES_MAX (the gateway's business).

    Raises: Refused with BAD_FRAME, INVALID_COORDINATES or VALIDATION_ERROR.
    """
    try:
        frame = _client.decode(data)
    except _UNREADABLE as exc:
        raise _explain(data, str(exc)) from None
    quotes = data.count('"') if isinstance(data, str) else data.count(b'"')
    if isinstance(frame, Location):
        # "type":"location" is 4 quotes, "lat" and "lng" 4, "at" with its value 4
        present = (frame.accuracy_m is not None) + (frame.heading_deg is not None) + (frame.speed_mps is not None)
        if quotes == 12 + 2 * present:
            return frame
    elif isinstance(frame, Ack):
        if quotes == 6:
            return frame
    elif isinstance(frame, Locations) and quotes == 6 + sum([8 + _optional_quotes(fix) for fix in frame.points]):
        return frame
    try:
        _scan(data)
    except _Flaw as flaw:
        raise Refused(
            ErrorCode.BAD_FRAME, str(flaw), _id_of(data), {"problem": str(flaw)}, undecodable=flaw.broken
        ) from None
    return frame


def decode_server(data: bytes | str) -> ServerFrame:
    """One frame of the server. Raises Refused on what this version does not know: a client skips it."""
    try:
        return _server.decode(data)
    except _UNREADABLE as exc:
        raise Refused(ErrorCode.BAD_FRAME, str(exc)) from None


def decode_body(data: bytes, shape: type[T]) -> T:
    """An HTTP body; an empty one is {}. `shape` says by forbid_unknown_fields whether a field too many is refused.

    Raises: Refused with INVALID_COORDINATES or VALIDATION_ERROR; details.fields lists every field that is wrong.
    """
    decoder = _bodies.get(shape)
    if decoder is None:
        decoder = _bodies[shape] = msgspec.json.Decoder(shape)
    data = data or b"{}"
    try:
        body: T = decoder.decode(data)
        _scan(data)
    except _Flaw as flaw:
        raise _invalid_body(str(flaw), []) from None
    except _UNREADABLE as exc:
        try:
            document = _scan(data)
        except _Flaw as flaw:
            raise _invalid_body(str(flaw), []) from None
        raise _invalid_body(str(exc), _faults(document, shape) or _spanning_faults(str(exc), shape)) from None
    return body


def _spanning_faults(problem: str, shape: type[msgspec.Struct]) -> list[dict[str, str]]:
    """The fault of a rule over several fields, which a __post_init__ words as "field: problem"."""
    name, _, words = problem.partition(": ")
    return [{"field": name, "problem": words}] if name in shape.__struct_encode_fields__ else []


def _invalid_body(message: str, faults: list[dict[str, str]]) -> Refused:
    details: dict[str, Any] = {"fields": faults} if faults else {"problem": message}
    code = ErrorCode.INVALID_COORDINATES if _coordinates(faults) else ErrorCode.VALIDATION_ERROR
    return Refused(code, message, None, details)


def _optional_quotes(fix: Fix) -> int:
    return 2 * ((fix.accuracy_m is not None) + (fix.heading_deg is not None) + (fix.speed_mps is not None))


class _Flaw(Exception):
    """What the scan found. `broken`: no JSON at all."""

    def __init__(self, problem: str, *, broken: bool = False) -> None:
        super().__init__(problem)
        self.broken = broken


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Flaw("duplicate key")
    return fields


def _no_constant(word: str) -> float:
    raise _Flaw(f"{word} is not a number of JSON")


_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_strict: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_lenient: Final = json.JSONDecoder(object_pairs_hook=tuple)


def _text(data: bytes | str) -> str:
    if isinstance(data, str):
        data.encode()  # a lone surrogate is no text of a frame
        return data
    return data.decode()


def _scan(data: bytes | str) -> object:
    """Parse strictly. Raises _Flaw: broken JSON or UTF-8, half a surrogate pair, NaN, Infinity, NUL, a duplicate key, too deep."""
    try:
        text = _text(data)
        document: object = _strict.decode(text)
    except RecursionError:
        raise _Flaw("too deep") from None
    except ValueError as exc:  # JSONDecodeError, UnicodeError, an integer of thousands of digits
        raise _Flaw(str(exc), broken=True) from None
    # JSON knows NUL by its escape alone. No text of ours has one, and Postgres could not keep it.
    if "\\u0000" in text and _NUL.search(text):
        raise _Flaw("NUL character")
    # Brackets inside strings count too: this only ever asks for the exact look too often.
    if text.count("{") + text.count("[") > DEPTH_MAX and _depth(document) > DEPTH_MAX:
        raise _Flaw("too deep")
    if _SURROGATE.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            # The standard library keeps half a pair, and then no encoder takes the text: msgspec's checks neither.
            raise _Flaw("half a surrogate pair", broken=True) from None
    return document


def _depth(document: object) -> int:
    """Levels of nesting; a scalar has none. Breadth first: what is too deep must not recurse here."""
    depth, level = 0, [document]
    while level := [x for x in level if isinstance(x, dict | list)]:
        depth += 1
        level = [y for x in level for y in (x.values() if isinstance(x, dict) else x)]
    return depth


def _id_of(data: bytes | str) -> UUID | None:
    """The request's id out of a frame with a flaw, if there is exactly one and it is a UUID."""
    try:
        pairs = _lenient.decode(_text(data))
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple):
        return None
    return _uuid([value for key, value in pairs if key == "id"])


def _uuid(values: Sequence[object]) -> UUID | None:
    try:
        return msgspec.convert(values[0], UUID) if len(values) == 1 else None
    except (msgspec.ValidationError, UnicodeError):
        return None


def _explain(data: bytes | str, problem: str) -> Refused:
    """Why msgspec would not have it, in the contract's words. Whatever gets here is refused."""
    try:
        document = _scan(data)
    except _Flaw as flaw:
        found = str(flaw)
        return Refused(ErrorCode.BAD_FRAME, found, _id_of(data), {"problem": found}, undecodable=flaw.broken)
    if not isinstance(document, dict):
        return Refused(ErrorCode.BAD_FRAME, "not an object", None, {"problem": "not an object"})
    request_id = _uuid([document["id"]]) if "id" in document else None
    tag = document.get("type")
    shape = _SHAPES.get(tag) if isinstance(tag, str) else None
    if shape is None:
        return Refused(ErrorCode.BAD_FRAME, "unknown type", request_id, {"problem": "unknown type"})
    faults = _faults(document, shape)
    if not faults:
        # Only msgspec saw it: nothing is known that the scan lets pass.
        return Refused(ErrorCode.BAD_FRAME, problem, request_id, {"problem": problem}, undecodable=True)
    if any(fault["problem"] == _MISSING for fault in faults):
        code = ErrorCode.BAD_FRAME
    elif _coordinates(faults):
        code = ErrorCode.INVALID_COORDINATES
    else:
        code = ErrorCode.VALIDATION_ERROR
    return Refused(code, problem, request_id, {"fields": faults})


_MISSING: Final = "missing"
_UNKNOWN: Final = "unknown field"


def _coordinates(faults: list[dict[str, str]]) -> bool:
    return any(
        fault["field"].rpartition(".")[2] in ("lat", "lng") and fault["problem"] not in (_MISSING, _UNKNOWN)
        for fault in faults
    )


def _faults(document: object, shape: type[msgspec.Struct], path: str = "") -> list[dict[str, str]]:
    """Every field of `document` that does not fit `shape`, as {"field": path, "problem": words}. Depth is bounded."""
    if not isinstance(document, dict):
        return [{"field": path, "problem": "expected an object"}]
    faults: list[dict[str, str]] = []
    known = set()
    for field in msgspec.structs.fields(shape):
        known.add(field.encode_name)
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        if field.encode_name not in document:
            if field.required:
                faults.append({"field": where, "problem": _MISSING})
            continue
        value = document[field.encode_name]
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as exc:
            faults += _inner_faults(value, field.type, where, str(exc))
    if shape.__struct_config__.forbid_unknown_fields:
        faults += [
            {"field": f"{path}.{key}" if path else key, "problem": _UNKNOWN} for key in document if key not in known
        ]
    return faults


def _inner_faults(value: object, kind: Any, where: str, problem: str) -> list[dict[str, str]]:
    """The faults inside a field that holds one Struct; for any other field the first, which msgspec named."""
    inner = next((part for part in (kind, *get_args(kind)) if _is_struct(part)), None)
    if inner is not None and isinstance(value, dict):
        return _faults(value, inner, where)
    words, _, tail = problem.partition(" - at `$")
    where += tail.removesuffix("`")
    if absent := re.fullmatch(r"Object missing required field `(\w+)`", words):
        return [{"field": f"{where}.{absent[1]}", "problem": _MISSING}]
    return [{"field": where, "problem": "not of the form asked for" if "matching regex" in words else words}]


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


# --- out


def wire_time(at: datetime) -> str:
    """RFC 3339 UTC with milliseconds, rounded down: 2026-11-20T10:36:00.123Z. `at` is aware."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return wire_time(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def encode(frame: msgspec.Struct) -> bytes:
    """Any Struct of this package as JSON; optional fields without a value are absent. About 1.5 us."""
    plain = msgspec.to_builtins(frame, builtin_types=(datetime,))
    return orjson.dumps(plain, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def event(seq: int, name: str, data: bytes, at: str) -> bytes:
    """An event around `data`, which is JSON already. `at` comes from wire_time."""
    return b'{"type":"event","seq":%d,"name":"%b","at":"%b","data":%b}' % (seq, name.encode(), at.encode(), data)


def reply_ok(id: UUID, data: bytes) -> bytes:
    """A yes around `data`, a JSON object."""
    return b'{"type":"reply","id":"%b","ok":true,"data":%b}' % (str(id).encode(), data)


def reply_error(id: UUID, code: ErrorCode, message: str, details: dict[str, Any] | None = None) -> bytes:
    """A no. With BUSY, details.retry_after_ms says when to ask again."""
    return b'{"type":"reply","id":"%b","ok":false,"error":%b}' % (str(id).encode(), _error(code, message, details))


def error(code: ErrorCode, message: str, details: dict[str, Any] | None = None, id: UUID | None = None) -> bytes:
    """The frame for what cannot be answered by a reply."""
    if id is None:
        return b'{"type":"error","error":%b}' % _error(code, message, details)
    return b'{"type":"error","id":"%b","error":%b}' % (str(id).encode(), _error(code, message, details))


def _error(code: ErrorCode, message: str, details: dict[str, Any] | None) -> bytes:
    body: dict[str, Any] = {"code": code, "message": message}
    if details is not None:
        body["details"] = details
    return orjson.dumps(body, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def snapshot(epoch: str, seq: int, provider: bytes | None, jobs: Sequence[bytes], offers: Sequence[bytes]) -> bytes:
    """The live state out of rows that are JSON already."""
    own = b"" if provider is None else b',"provider":' + provider
    return b'{"type":"snapshot","epoch":%b,"seq":%d%b,"jobs":[%b],"offers":[%b]}' % (
        orjson.dumps(epoch),
        seq,
        own,
        b",".join(jobs),
        b",".join(offers),
    )


def position(
    job_id: UUID,
    lat: float,
    lng: float,
    at: datetime,
    heading_deg: float | None = None,
    eta_s: float | None = None,
    stale: bool = False,
) -> bytes:
    """A location frame for the one who tracks `job_id`. Coordinates to a centimetre (7 places)."""
    text = f'{{"type":"location","job_id":"{job_id}","lat":{lat:.7f},"lng":{lng:.7f},"at":"{wire_time(at)}"'
    if heading_deg is not None:
        text += f',"heading_deg":{heading_deg:.1f}'
    if eta_s is not None:
        text += f',"eta_s":{eta_s:.0f}'
    return (text + (',"stale":true}' if stale else "}")).encode()


def bye(reason: ByeReason, reconnect_after_ms: int) -> bytes:
    return b'{"type":"bye","reason":"%b","reconnect_after_ms":%d}' % (reason.encode(), reconnect_after_ms)
