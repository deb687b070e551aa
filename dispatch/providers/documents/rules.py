"""What may be uploaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from dispatch.kit.errors import Invalid
from protocol.papers import NEEDS_EXPIRY, DocumentType

HEAD_BYTES: Final = 64
"""As many as `content_type_of` looks at."""
LAST_DAY: Final = date(2199, 12, 31)
KINDS: Final = ("image/jpeg", "image/png", "image/webp", "image/heic", "application/pdf")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF = frozenset({b"mif1", b"msf1"})


def content_type_of(head: bytes) -> str | None:
    """What a file is by its first bytes, whatever it is called; None: nothing that we take."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"%PDF-"):
        return "application/pdf"
    if head[4:8] == b"ftyp":
        # The container of HEIC, of AVIF and of films: the brands say which. A general one is followed by those it keeps to.
        brands = {head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4], "big")) - 3, 4)}
        if head[8:12] in _HEIC or (head[8:12] in _HEIF and brands & _HEIC):
            return "image/heic"
    return None


@dataclass(frozen=True, slots=True)
class Told:
    """The fields of an upload."""

    document_type: DocumentType
    expiry_date: date | None


def told(fields: Mapping[str, str], today: date, *, file: bool) -> Told:
    """The fields, judged. `file`: whether one came. Raises: Invalid, with every field that is wrong."""
    faults = known_faults(fields, today)
    if not file:
        faults.append({"field": "file", "problem": "required"})
    if "document_type" not in fields:
        faults.append({"field": "document_type", "problem": "required"})
    elif not faults and "expiry_date" not in fields and fields["document_type"] in NEEDS_EXPIRY:
        faults.append({"field": "expiry_date", "problem": f"required for {fields['document_type']}"})
    if faults:
        raise Invalid("the upload is wrong", fields=faults)
    day = fields.get("expiry_date")
    return Told(DocumentType(fields["document_type"]), None if day is None else date.fromisoformat(day))


def check_known(fields: Mapping[str, str], today: date) -> None:
    """Refuse what is wrong already, before the file is read. Raises: Invalid."""
    if faults := known_faults(fields, today):
        raise Invalid("the upload is wrong", fields=faults)


def known_faults(fields: Mapping[str, str], today: date) -> list[dict[str, str]]:
    """What is wrong with the fields that there are."""
    faults = []
    if (kind := fields.get("document_type")) is not None and kind not in {str(one) for one in DocumentType}:
        faults.append({"field": "document_type", "problem": f"one of {', '.join(DocumentType)}"})
    if (day := fields.get("expiry_date")) is not None and (problem := _day_fault(day, today)):
        faults.append({"field": "expiry_date", "problem": problem})
    return faults


def _day_fault(day: str, today: date) -> str | None:
    try:
        told_day = date.fromisoformat(day) if _DAY.fullmatch(day) else None
    except ValueError:
        told_day = None
    if told_day is None:
        return "a day like 2027-01-31"
    return day_fault(told_day, today)


def day_fault(day: date, today: date) -> str | None:
    """What is wrong with the last day of a paper that is handed in today."""
    if day <= today:
        return f"must lie in the future; today is {today}"
    return f"no later than {LAST_DAY}" if day > LAST_DAY else None
