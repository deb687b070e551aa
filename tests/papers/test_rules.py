"""What may be uploaded and registered: tables of bytes, days and plates."""

from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest

from dispatch.kit.errors import IllegalTransition, Invalid, ReasonRequired
from dispatch.providers.documents.rules import content_type_of, told
from dispatch.providers.review.errors import AlreadyVerified
from dispatch.providers.review.rules import check_reason, judged_document, judged_vehicle
from dispatch.providers.vehicles.model import Fields, VehicleRow
from dispatch.providers.vehicles.rules import changed, check, plate_key
from protocol.papers import DocumentStatus, ReviewAction, VehicleStatus

TODAY = date(2026, 11, 20)


def box(major: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + major + bytes(4) + b"".join(others)
    return (4 + len(body)).to_bytes(4, "big") + body + bytes(64)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", None),
        (b"%PDF-1.7", "application/pdf"),
        (b" %PDF-1.7", None),
        (box(b"heic"), "image/heic"),
        (box(b"hevx"), "image/heic"),
        (box(b"mif1", b"mif1", b"heic"), "image/heic"),
        (box(b"mif1", b"avif"), None),
        (box(b"isom", b"mp42"), None),
        (b"GIF89a", None),
        (b"<svg xmlns=", None),
        (b"<html><script>", None),
        (b"MZ\x90\x00", None),
        (b"PK\x03\x04", None),
        (b"%PD", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_a_file_is_what_its_first_bytes_say(head: bytes, kind: str | None) -> None:
    assert content_type_of(head) == kind


@pytest.mark.parametrize(
    ("fields", "file", "wrong"),
    [
        ({}, False, {"file", "document_type"}),
        ({"document_type": "passport"}, True, {"document_type"}),
        ({"document_type": "National_ID"}, True, {"document_type"}),
        ({"document_type": "driver_license"}, True, {"expiry_date"}),
        ({"document_type": "vehicle_registration"}, True, {"expiry_date"}),
        ({"document_type": "vehicle_insurance"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2026-11-19"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2026-11-20"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "20270101"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2027-02-30"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2027-W01-1"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2027-01-01T00:00"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "2027-01-01\n"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": "9999-12-31"}, True, {"expiry_date"}),
        ({"document_type": "national_id", "expiry_date": ""}, True, {"expiry_date"}),
        ({"document_type": "x", "expiry_date": "yesterday"}, False, {"document_type", "expiry_date", "file"}),
        ({"document_type": "national_id"}, True, set()),
        ({"document_type": "driver_license", "expiry_date": "2026-11-21"}, True, set()),
    ],
)
def test_every_wrong_field_of_an_upload_is_named(fields: dict[str, str], file: bool, wrong: set[str]) -> None:
    try:
        told(fields, TODAY, file=file)
    except Invalid as refusal:
        assert {fault["field"] for fault in refusal.details["fields"]} == wrong
    else:
        assert not wrong


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("1กก 1234", "1กก-1234"),
        ("1กก 1234", "๑กก๑๒๓๔"),
        ("AB-12 cd", "ab12CD"),
        ("ＡＢ１２", "ab 12"),
        ("A\u200bB\u00a01", "ab1"),
        ("A–B—1", "ab1"),
    ],
)
def test_two_spellings_of_a_plate_are_one(one: str, two: str) -> None:
    assert plate_key(one) == plate_key(two)


@pytest.mark.parametrize(("one", "two"), [("1กก 1234", "1กข 1234"), ("กิ 1", "กี 1"), ("AB 12", "AB 21")])
def test_other_plates_are_other_plates(one: str, two: str) -> None:
    assert plate_key(one) != plate_key(two)


@pytest.mark.parametrize("plate", [" - ", "\u200b", "—"])
def test_a_plate_without_a_sign_is_none(plate: str) -> None:
    with pytest.raises(Invalid):
        plate_key(plate)


FIELDS = Fields("car", "Toyota", "Yaris", 2020, "AB 12", "white", TODAY + timedelta(9), TODAY + timedelta(9), None)


def a_row(status: VehicleStatus, **other: object) -> VehicleRow:
    fields = Fields(**{**{name: getattr(FIELDS, name) for name in Fields.__dataclass_fields__}, **other})  # type: ignore[arg-type]
    return VehicleRow(uuid4(), uuid4(), uuid4(), fields, "ab12", status, status is VehicleStatus.APPROVED, 1, TODAY)


@pytest.mark.parametrize(
    ("status", "told_now", "again"),
    [
        ("approved", {"plate_number": "CD 34"}, True),
        ("approved", {"plate_number": "ab-12"}, False),
        ("approved", {"vehicle_type": "van"}, True),
        ("approved", {"registration_document_id": UUID(int=1)}, True),
        ("approved", {"color": "red", "make": "x", "model": "y", "year": 1980}, False),
        ("approved", {"insurance_expiry": TODAY + timedelta(9_999)}, True),
        ("approved", {"insurance_expiry": TODAY + timedelta(1)}, False),
        ("pending", {"color": "red"}, False),
        ("pending", {"vehicle_type": "van"}, True),
        ("suspended", {"color": "red"}, False),
        ("suspended", {"registration_expiry": TODAY + timedelta(99)}, True),
        ("rejected", {"color": "red"}, True),
        ("rejected", {"color": "white"}, False),
    ],
)
def test_what_says_which_vehicle_it_is_goes_back_to_the_queue(
    status: str, told_now: dict[str, object], again: bool
) -> None:
    assert changed(a_row(VehicleStatus(status)), told_now)[1] is again


@pytest.mark.parametrize(
    ("other", "wrong"),
    [
        ({"year": 1979}, {"year"}),
        ({"year": 2028}, {"year"}),
        ({"registration_expiry": TODAY}, {"registration_expiry"}),
        ({"insurance_expiry": TODAY - timedelta(1)}, {"insurance_expiry"}),
        (
            {"year": 1, "registration_expiry": TODAY, "insurance_expiry": TODAY},
            {"year", "registration_expiry", "insurance_expiry"},
        ),
        ({"year": 2027}, set()),
        ({"year": 1980}, set()),
    ],
)
def test_every_wrong_field_of_a_vehicle_is_named(other: dict[str, object], wrong: set[str]) -> None:
    try:
        check(a_row(VehicleStatus.PENDING, **other).fields, TODAY)
    except Invalid as refusal:
        assert {fault["field"] for fault in refusal.details["fields"]} == wrong
    else:
        assert not wrong


def test_a_rejection_needs_a_reason_and_an_approval_keeps_none() -> None:
    for blank in (None, "", "  \u00a0\n"):
        with pytest.raises(ReasonRequired):
            check_reason(ReviewAction.REJECT, blank)
    assert check_reason(ReviewAction.REJECT, " blurred ") == "blurred"
    assert check_reason(ReviewAction.APPROVE, "nice") is None


@pytest.mark.parametrize("action", list(ReviewAction))
@pytest.mark.parametrize("status", list(DocumentStatus))
@pytest.mark.parametrize("replaced", [False, True])
def test_only_what_waits_is_reviewed(action: ReviewAction, status: DocumentStatus, replaced: bool) -> None:
    def judged(day: date | None = None) -> DocumentStatus:
        return judged_document(status, replaced=replaced, expiry_date=day, today=TODAY, action=action)

    if replaced or status is not DocumentStatus.PENDING:
        with pytest.raises(AlreadyVerified):
            judged()
    elif action is ReviewAction.REJECT:
        assert judged(TODAY - timedelta(1)) is DocumentStatus.REJECTED
    else:
        assert judged(TODAY) is DocumentStatus.APPROVED
        with pytest.raises(IllegalTransition):
            judged(TODAY - timedelta(1))


@pytest.mark.parametrize("status", list(VehicleStatus))
def test_only_a_vehicle_that_waits_is_reviewed(status: VehicleStatus) -> None:
    if status is VehicleStatus.PENDING:
        assert judged_vehicle(a_row(status), ReviewAction.APPROVE) is VehicleStatus.APPROVED
        assert judged_vehicle(a_row(status), ReviewAction.REJECT) is VehicleStatus.REJECTED
        with pytest.raises(IllegalTransition):
            judged_vehicle(a_row(status, insurance_expiry=TODAY - timedelta(1)), ReviewAction.APPROVE)
    else:
        with pytest.raises(IllegalTransition):
            judged_vehicle(a_row(status), ReviewAction.APPROVE)
