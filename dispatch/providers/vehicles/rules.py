"""What may be said of a vehicle, and what a change of it means."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final

from dispatch.kit.errors import Invalid
from dispatch.providers.documents.rules import day_fault
from dispatch.providers.vehicles.model import Fields, VehicleRow
from protocol.papers import VehicleStatus

YEAR_MIN: Final = 1980


def plate_key(plate: str) -> str:
    """The plate as it is compared: two spellings are one vehicle. Without blanks, dashes, case and the invisible; digits of any
    script are digits. Thai letters and vowel signs stay as they are. Raises: Invalid when nothing is left.
    """
    key = ""
    for sign in unicodedata.normalize("NFKC", plate).casefold():
        kind = unicodedata.category(sign)
        if kind == "Nd":
            key += str(unicodedata.digit(sign))
        elif kind[0] not in "ZC" and kind != "Pd":
            key += sign
    if not key:
        raise Invalid("no plate", fields=[{"field": "plate_number", "problem": "no letter and no digit"}])
    return key


def check(fields: Fields, today: date, *, days: tuple[str, ...] = ("registration_expiry", "insurance_expiry")) -> None:
    """Raises: Invalid, with every field that is wrong. `days`: those that were told now and must lie in the future."""
    faults = []
    if not YEAR_MIN <= fields.year <= today.year + 1:
        faults.append({"field": "year", "problem": f"from {YEAR_MIN} to {today.year + 1}"})
    for name in days:
        if (problem := day_fault(getattr(fields, name), today)) is not None:
            faults.append({"field": name, "problem": problem})
    if faults:
        raise Invalid("the vehicle is wrong", fields=faults)


def changed(row: VehicleRow, told: Mapping[str, Any]) -> tuple[Fields, bool]:
    """The fields after a change, and whether somebody has to look at the vehicle again. Raises: Invalid.

    Plate, type and registration document say which vehicle it is, and a later date says that it may drive for longer: somebody looks at
    these before they count. What was rejected is handed in again by whatever the provider puts right.
    """
    fields = replace(row.fields, **told)
    days = tuple(name for name in ("registration_expiry", "insurance_expiry") if name in told)
    check(fields, row.today, days=days)
    other = (
        plate_key(fields.plate_number) != row.plate_key
        or fields.vehicle_type != row.fields.vehicle_type
        or fields.registration_document_id != row.fields.registration_document_id
    )
    again = row.status is VehicleStatus.REJECTED and fields != row.fields
    later = any(getattr(fields, name) > getattr(row.fields, name) for name in days)
    return fields, other or again or later
