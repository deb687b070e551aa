"""The least body that a route takes, made of its shape: for tests that walk every route."""

import re
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect

_WORDS = (
    "x",
    "0812345678",
    "somebody@example.com",
    "2999-12-31",
    "https://example.com/a",
    "123456",
    "Secret-words-1",
    "THB",
    "x" * 20,
)


def least(shape: type[msgspec.Struct] | None, **given: Any) -> dict[str, Any]:
    """A valid body with the required fields alone, `given` where the shape has such a field. AssertionError: teach it a new kind of field."""
    if shape is None:
        return {}
    kind = inspect.type_info(shape)
    assert isinstance(kind, inspect.StructType)
    body = {field.encode_name: _value(field.type) for field in kind.fields if field.required}
    body |= {name: value for name, value in given.items() if name in {field.encode_name for field in kind.fields}}
    msgspec.convert(body, shape)
    return body


def _value(kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner):
            return _value(inner)
        case inspect.StrType(pattern=pattern, min_length=low, max_length=high):
            for word in _WORDS:
                if (low or 0) <= len(word) <= (high or 10**6) and (pattern is None or re.search(pattern, word)):
                    return word
            raise AssertionError(f"no word fits {kind}")
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.IntType(ge=low) | inspect.FloatType(ge=low):
            return low or 0
        case inspect.BoolType():
            return True
        case inspect.UUIDType():
            return str(UUID(int=7))
        case inspect.DateType():
            return "2999-12-31"
        case inspect.DateTimeType():
            return "2999-12-31T00:00:00Z"
        case inspect.ListType(item_type=item, min_length=low):
            return [_value(item)] * (low or 0)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _value(field.type) for field in fields if field.required}
        case inspect.DictType():
            return {}
        case inspect.UnionType(types=types):
            return _value(types[0])
    raise AssertionError(f"teach me {kind}")
