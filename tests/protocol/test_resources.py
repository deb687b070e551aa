import json
from typing import Any

import msgspec
import pytest

from protocol import resources
from protocol.codec import decode_body
from protocol.errors import Refused
from protocol.resources import Job, Me, MePatch, ProviderPatch, ProviderRequest
from protocol.resources.performance import Performance
from protocol.schemas import components

PERSON: dict[str, Any] = {
    "first_name": "Somchai",
    "last_name": "Jaidee",
    "email": "somchai@example.co.th",
    "phone_number": "0812345678",
    "service_types": ["ride", "delivery"],
}


def wrong_fields(shape: type, body: dict[str, Any]) -> list[str]:
    """The fields that `body` is refused for."""
    try:
        decode_body(json.dumps(body).encode(), shape)
    except Refused as refused:
        assert refused.details is not None
        return [fault["field"] for fault in refused.details["fields"]]
    return []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phone_number": "+66812345678"},
        {"first_name": "ส"},
        {"first_name": "x" * 50},
        {"service_types": ["ride", "delivery", "shopping", "moving", "laundry"]},
        {"referral_code": "P-100"},
    ],
)
def test_a_registration_within_the_rules_is_taken(changes: dict[str, Any]) -> None:
    assert wrong_fields(ProviderRequest, {**PERSON, **changes}) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", ""),
        ("first_name", "   "),
        ("last_name", "x" * 51),
        ("email", "somchai"),
        ("email", "som chai@example.com"),
        ("email", "somchai@example..com"),
        ("email", "somchai@example.com\n"),
        ("phone_number", "812345678"),
        ("phone_number", "081234567"),
        ("phone_number", "08123456789"),
        ("phone_number", "0812345678\n"),
        ("phone_number", "๐๘๑๒๓๔๕๖๗๘"),
        ("phone_number", "+660812345678"),
        ("service_types", []),
        ("service_types", ["ride", "ride"]),
    ],
)
def test_a_registration_outside_the_rules_names_the_field(field: str, value: object) -> None:
    assert wrong_fields(ProviderRequest, {**PERSON, field: value}) == [field]


@pytest.mark.parametrize(
    ("radius_m", "wrong"), [(1000, False), (50_000, False), (999, True), (50_001, True), (2.5, True)]
)
def test_a_radius_is_one_to_fifty_kilometres(radius_m: float, wrong: bool) -> None:
    assert wrong_fields(ProviderPatch, {"service_radius_m": radius_m}) == ["service_radius_m"] * wrong


@pytest.mark.parametrize("spoken", ["th", "en", "ar"])
def test_locales_are_those_that_we_speak(spoken: str) -> None:
    assert wrong_fields(MePatch, {"locale": spoken}) == []


def test_a_locale_that_we_do_not_speak_is_refused() -> None:
    assert wrong_fields(MePatch, {"locale": "de"}) == ["locale"]


def test_every_request_refuses_a_field_too_many() -> None:
    requests = [
        *(
            "MePatch",
            "QuoteRequest",
            "JobRequest",
            "CancelRequest",
            "AcceptRequest",
            "AdvanceRequest",
            "ProviderRequest",
        ),
        *("ProviderPatch", "OnlineRequest", "AdminActionRequest", "ReleaseRequest", "Place", "Point"),
    ]
    assert all("surplus" in wrong_fields(getattr(resources, name), {"surplus": 1}) for name in requests)


def test_a_job_with_only_what_is_certain_is_a_job() -> None:
    at, some_id = "2026-11-20T10:36:00.123Z", "0b8e7a8c-3b64-4d1a-9b7e-6b1d7a1b2c3d"
    parts = {"base_minor": 3500, "distance_minor": 0, "time_minor": 0, "surge_minor": 0, "total_minor": 3500}
    row = {
        "id": some_id,
        "market": "bkk",
        "service_type": "ride",
        "status": "pending",
        "round": 0,
        "version": 1,
        "customer_id": some_id,
        "pickup": {"lat": 13.7, "lng": 100.5, "address": "a"},
        "payment_method": "cash",
        "surge_multiplier": 1,
        "fare": {**parts, "currency": "THB", "estimated": True},
        "estimated_earnings_minor": 2800,
        "created_at": at,
        "of_a_later_version": True,
    }
    job = msgspec.convert(row, Job)
    assert (job.fare.total_minor, job.provider, job.dropoff) == (3500, None, None)


def test_a_required_field_that_may_be_null_says_so() -> None:
    """The document promised numbers where a new provider's rates are null."""
    schemas = components([Performance, Me])
    rate = schemas["Performance"]["properties"]["rating"]
    assert {"type": "null"} in rate["anyOf"] and "rating" in schemas["Performance"]["required"]
    assert "null" not in json.dumps(schemas["Me"])
