"""Recorded client frames: one JSON text a line, ids and times as placeholders. Read, and filled with living ids.

A placeholder stands where a value of one run stood: {id} a fresh request id, {job_id} and {offer_id} of a living job,
{token}, {epoch}, {seq} and {round} of the sender, {at} now, {device} the sender's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

CORPUS: Final = Path(__file__).with_name("corpus.txt")
NAMES: Final = ("id", "job_id", "offer_id", "token", "epoch", "at", "device")
"""Fields whose recorded value is of one run; the placeholder has the field's name."""


def placeheld(value: Any) -> Any:
    """The same document with placeholders for what belonged to one run."""
    if isinstance(value, dict):
        return {key: f"{{{key}}}" if key in NAMES else placeheld(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [placeheld(inner) for inner in value]
    return value


def distinct(frames: Sequence[bytes]) -> list[str]:
    """Recorded frames as lines of a corpus, in the order of their first coming: one of each form. Numbers do not make
    a form, words and the presence of fields do.
    """
    found: dict[str, str] = {}
    for frame in frames:
        line = orjson.dumps(placeheld(orjson.loads(frame))).decode()
        found.setdefault(_form(orjson.loads(line)), line)
    return list(found.values())


def _form(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_form(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{_form(value[0]) if value else ''}]"
    return "#" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def load(path: Path = CORPUS) -> list[dict[str, Any]]:
    """The documents of a corpus."""
    return [orjson.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def filled(value: Any, living: Mapping[str, Any]) -> Any:
    """A document with its placeholders replaced by what lives: {"job_id": …, …}; a name that is not given keeps the
    placeholder, which is then one more thing that a frame can be wrong in.
    """
    if isinstance(value, dict):
        return {key: filled(inner, living) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, living) for inner in value]
    if isinstance(value, str) and value[:1] == "{" and value[-1:] == "}":
        return living.get(value[1:-1], value)
    return value
