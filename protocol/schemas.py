"""JSON Schemas of the package's Structs, for the OpenAPI and the AsyncAPI document."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

REF: Final = "#/components/schemas/{name}"


def components(shapes: Iterable[Any]) -> dict[str, Any]:
    """Schemas by name of `shapes` and of all that they hold, referring to each other under #/components/schemas.

    An optional field is one that is not `required`: on the wire it is absent, so the null that stands for it in
    Python does not show. A required field that may be null is null on the wire, and says so.
    """
    _, schemas = msgspec.json.schema_components(list(shapes), ref_template=REF)
    return {name: without_null(schema) for name, schema in schemas.items()}


def without_null(schema: Any) -> Any:
    """The schema without the null of optional fields; that of required ones stays."""
    if isinstance(schema, list):
        return [without_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: without_null(part) for key, part in schema.items() if not (key == "default" and part is None)}
    for name in schema.get("required", ()) if isinstance(schema.get("properties"), dict) else ():
        field = schema["properties"][name]
        if {"type": "null"} in field.get("anyOf", ()):
            plain["properties"][name] = {**field, "anyOf": [without_null(kind) for kind in field["anyOf"]]}
    kinds = plain.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        rest = [kind for kind in kinds if kind != {"type": "null"}]
        del plain["anyOf"]
        plain |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return plain
