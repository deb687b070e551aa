import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import decode_body, decode_client, decode_server, encode, wire_time
from protocol.errors import ByeReason, ErrorCode, Refused
from protocol.frames import (
    Accept,
    Ack,
    Advance,
    Bye,
    ErrorFrame,
    ErrorObject,
    Event,
    Fix,
    Hello,
    Location,
    Locations,
    Position,
    Reply,
    ResumeFrom,
    Snapshot,
)
from protocol.lifecycle import Stage
from protocol.resources import CancelRequest, JobRequest, OnlineRequest, ProviderRequest

ID = UUID("0b8e7a8c-3b64-4d1a-9b7e-6b1d7a1b2c3d")
AT = "2026-11-20T10:36:00.123Z"
LOCATION = {"type": "location", "lat": 13.7563, "lng": 100.5018, "at": AT}
ACCEPT = {"type": "accept", "id": str(ID), "job_id": str(ID), "offer_id": str(ID), "round": 1}


def dumped(frame: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**frame, **changes}).encode()


def refusal(data: bytes | str) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_client(data)
    return caught.value


# --- what is taken


@pytest.mark.parametrize("as_type", [bytes, str])
def test_a_location_decodes_from_text_and_from_bytes(as_type: type) -> None:
    data = dumped(LOCATION, accuracy_m=5, heading_deg=359.5, speed_mps=8.1)
    frame = decode_client(data if as_type is bytes else data.decode())
    assert isinstance(frame, Location)
    assert (frame.lat, frame.lng, frame.heading_deg) == (13.7563, 100.5018, 359.5)


@pytest.mark.parametrize(
    "frame",
    [
        LOCATION,
        {**LOCATION, "speed_mps": None},
        {**LOCATION, "note": 'of a "later" version', "more": {"a": [1, {"b": []}]}},
        {
            "type": "locations",
            "points": [{"lat": 1, "lng": 2, "at": AT}, {"lat": 1, "lng": 2, "at": AT, "speed_mps": 3}],
        },
        {"type": "locations", "points": []},
        {"type": "ack", "seq": 2**53},
        {"type": "ack", "seq": 1, "more": True},
        ACCEPT,
    ],
)
def test_unknown_fields_and_null_for_absent_are_no_reason_to_refuse(frame: dict[str, Any]) -> None:
    assert encode(decode_client(dumped(frame)))


def test_nesting_up_to_the_bound_is_taken() -> None:
    assert decode_client(dumped(LOCATION, deep=[[[[[[[1]]]]]]])) == decode_client(dumped(LOCATION))


# --- what is refused, and how


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"type":"ack","seq":1}}',
        b'{"type":"ack","seq":01}',
        b"\xff\xfe",
        dumped(LOCATION, x="y").replace(b"y", b"\xff"),
        dumped(LOCATION, lat=95)[:-1],
        b'{"type":"hello","device":"\\ud800","attempt":1}',
        b'{"type":"ack","seq":1,"x":' + b"9" * 5000 + b"}",
        "\ud800",
        "\ufeff" + '{"type":"ack","seq":1}',
        '{"type":"ack","seq":1}'.encode("utf-16"),
    ],
)
def test_broken_json_and_bad_utf8_are_undecodable(data: bytes | str) -> None:
    refused = refusal(data)
    assert (refused.code, refused.undecodable, refused.id) == (ErrorCode.BAD_FRAME, True, None)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"[]", "not an object"),
        (b'"ack"', "not an object"),
        (b"{}", "unknown type"),
        (b'{"type":null}', "unknown type"),
        (b'{"type":["ack"]}', "unknown type"),
        (b'{"type":"welcome"}', "unknown type"),
        (dumped(LOCATION).replace(b"13.7563", b"NaN"), "NaN is not a number of JSON"),
        (dumped(LOCATION, x=float("-inf")), "-Infinity is not a number of JSON"),
        (dumped(LOCATION)[:-1] + b',"lat":13.7563}', "duplicate key"),
        (dumped(LOCATION)[:-1] + b',"l\\u0061t":13.7563}', "duplicate key"),
        (dumped(LOCATION)[:-1] + b',"x":{"a":1,"a":2}}', "duplicate key"),
        (b'{"type":"ack","seq":1,"seq":2}', "duplicate key"),
        (b'{"type":"locations","points":[{"lat":1,"lng":2,"at":"' + AT.encode() + b'","lat":3}]}', "duplicate key"),
        (dumped(LOCATION, deep=[[[[[[[[1]]]]]]]]), "too deep"),
        (dumped(LOCATION)[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "too deep"),
        (b"[" * 5000, "too deep"),
        (dumped(LOCATION, x="a\x00b"), "NUL character"),
    ],
)
def test_json_that_is_no_frame_is_a_bad_frame(data: bytes, problem: str) -> None:
    refused = refusal(data)
    assert (refused.code, refused.undecodable, refused.details) == (ErrorCode.BAD_FRAME, False, {"problem": problem})


def test_an_escaped_backslash_before_u0000_is_just_text() -> None:
    frame = decode_client(rb'{"type":"hello","device":"\\u0000","attempt":1}')
    assert frame == Hello(device=r"\u0000", attempt=1)


def test_a_missing_field_is_a_bad_frame_that_names_all_of_them() -> None:
    refused = refusal(f'{{"type":"accept","id":"{ID}","round":-1}}')
    assert (refused.code, refused.id, refused.undecodable) == (ErrorCode.BAD_FRAME, ID, False)
    assert refused.details == {
        "fields": [{"field": "job_id", "problem": "missing"}, {"field": "round", "problem": "Expected `int` >= 0"}]
    }


def test_a_missing_field_of_a_point_is_named_by_its_place() -> None:
    refused = refusal(b'{"type":"locations","points":[{"lat":1,"lng":2}]}')
    assert refused.code is ErrorCode.BAD_FRAME
    assert refused.details == {"fields": [{"field": "points[0].at", "problem": "missing"}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [("lat", 95), ("lat", -90.0001), ("lng", 180.5), ("lat", "13.7"), ("lng", None), ("lat", True), ("lat", 10**400)],
)
def test_a_place_that_is_none_is_invalid_coordinates(field: str, value: object) -> None:
    refused = refusal(dumped(LOCATION, **{field: value}))
    assert refused.code is ErrorCode.INVALID_COORDINATES
    assert refused.details is not None
    assert refused.details["fields"][0]["field"] == field


def test_a_number_too_large_for_a_float_is_out_of_range_not_broken() -> None:
    refused = refusal(dumped(LOCATION).replace(b"13.7563", b"1e999"))
    assert (refused.code, refused.undecodable) == (ErrorCode.INVALID_COORDINATES, False)


def test_coordinates_come_before_other_faults_wherever_they_stand() -> None:
    assert (
        refusal(dumped({"type": "location", "at": "noon", "lat": 95, "lng": 1})).code is ErrorCode.INVALID_COORDINATES
    )


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({**LOCATION, "at": "noon"}, "at"),
        ({**LOCATION, "at": "2026-11-20T10:36:00"}, "at"),
        ({**LOCATION, "at": 1_795_000_000}, "at"),
        ({**LOCATION, "heading_deg": 361}, "heading_deg"),
        ({**LOCATION, "speed_mps": -1}, "speed_mps"),
        ({**LOCATION, "accuracy_m": "5"}, "accuracy_m"),
        ({**ACCEPT, "round": 2**53 + 1}, "round"),
        ({**ACCEPT, "round": 2**64}, "round"),
        ({**ACCEPT, "round": 1.5}, "round"),
        ({**ACCEPT, "job_id": "j"}, "job_id"),
        ({"type": "ack", "seq": -1}, "seq"),
        ({"type": "hello", "device": "", "attempt": 1}, "device"),
        ({"type": "hello", "device": "d", "attempt": 1, "resume": {"epoch": "e", "seq": "5"}}, "resume.seq"),
        ({"type": "hello", "device": "d", "attempt": 1, "resume": 7}, "resume"),
        ({"type": "advance", "id": str(ID), "job_id": str(ID), "to": "cancelled"}, "to"),
        ({"type": "cancel", "id": str(ID), "job_id": str(ID), "reason": "x" * 501}, "reason"),
        ({"type": "online", "id": str(ID), "lat": 1, "lng": 2, "service_types": ["rocket"]}, "service_types[0]"),
        ({"type": "online", "id": str(ID), "lat": 1, "lng": 2, "service_types": []}, "service_types"),
        ({"type": "locations", "points": [{"lat": 1, "lng": 2, "at": AT}] * 61}, "points"),
        (
            {"type": "locations", "points": [{"lat": 1, "lng": 2, "at": AT}, {"lat": 1, "lng": 2, "at": 3}]},
            "points[1].at",
        ),
    ],
)
def test_a_wrong_value_is_a_validation_error_that_names_its_field(frame: dict[str, Any], field: str) -> None:
    refused = refusal(dumped(frame))
    assert (refused.code, refused.undecodable) == (ErrorCode.VALIDATION_ERROR, False)
    assert refused.details is not None
    assert [fault["field"] for fault in refused.details["fields"]] == [field]
    assert refused.id == (ID if "id" in frame else None)


@pytest.mark.parametrize("given_id", ["j", 7, None])
def test_an_id_that_is_no_uuid_cannot_be_answered_to(given_id: object) -> None:
    assert refusal(dumped(ACCEPT, id=given_id)).id is None


def test_the_id_is_read_from_a_frame_with_a_flaw_unless_it_is_the_flaw() -> None:
    assert refusal(dumped(ACCEPT)[:-1] + b',"round":2}').id == ID
    assert refusal(dumped(ACCEPT)[:-1] + f',"id":"{uuid4()}"}}'.encode()).id is None
    assert refusal(dumped({"type": "teleport", "id": str(ID)})).id == ID


# --- fuzz: nothing but Refused, and nothing ambiguous is taken

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([str(ID), AT])
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
tags = st.sampled_from([str(tag) for tag in codec._SHAPES])
names = st.sampled_from(
    [
        "id",
        "job_id",
        "offer_id",
        "lat",
        "lng",
        "at",
        "points",
        "seq",
        "round",
        "to",
        "device",
        "attempt",
        "resume",
        "epoch",
    ]
)


@given(st.binary(max_size=200) | st.text(max_size=200))
@example(b'{"type":"ack","seq":1}')
def test_any_bytes_decode_or_are_refused(data: bytes | str) -> None:
    try:
        decode_client(data)
    except Refused as refused:
        assert refused.code in (ErrorCode.BAD_FRAME, ErrorCode.INVALID_COORDINATES, ErrorCode.VALIDATION_ERROR)


@given(tags, st.dictionaries(names | st.text(max_size=6), documents, max_size=6))
def test_any_fields_decode_or_are_refused(tag: str, fields: dict[str, Any]) -> None:
    try:
        frame = decode_client(json.dumps({"type": tag, **fields}))
    except Refused as refused:
        assert not refused.undecodable or "\\ud" in json.dumps(fields)
    else:
        assert decode_client(encode(frame)) == frame or isinstance(frame, Location | Locations)


pairs = st.lists(
    st.tuples(
        st.sampled_from(["lat", "lng", "at", "heading_deg", "speed_mps", "x", '\\"', "l\\u0061t", "\\\\"]),
        st.sampled_from(["1", "2.5", f'"{AT}"', "null", "{}", '{"a":1,"a":2}', '{"a":[{"b":"\\""}]}', '""', '"\\""']),
    ),
    max_size=5,
)


def braced(fields: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"


@given(st.sampled_from(["location", "locations", "ack", "hello"]), pairs, st.booleans())
@example("location", [("lat", "2")], False)
@example("location", [("x", '{"a":1,"a":2}')], False)
def test_no_frame_with_a_duplicate_key_is_taken(tag: str, extra: list[tuple[str, str]], as_point: bool) -> None:
    known = {
        "location": [("lat", "1"), ("lng", "2"), ("at", f'"{AT}"')],
        "locations": [("points", "[%s]")],
        "ack": [("seq", "1")],
        "hello": [("device", '"d"'), ("attempt", "1")],
    }[tag]
    if tag == "locations":
        point = [("lat", "1"), ("lng", "2"), ("at", f'"{AT}"'), *(extra if as_point else [])]
        known = [("points", f"[{braced(point)}]")]
        extra = [] if as_point else extra
    text = braced([("type", f'"{tag}"'), *known, *extra])

    doubled = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal doubled
        doubled |= len(dict(pairs)) != len(pairs)

    json.loads(text, object_pairs_hook=note)
    try:
        decode_client(text)
        taken = True
    except Refused:
        taken = False
    assert not (taken and doubled)


@given(st.binary(max_size=200) | st.text(max_size=200) | st.builds(json.dumps, documents))
def test_a_client_survives_any_bytes_of_a_server(data: bytes | str) -> None:
    try:
        decode_server(data)
    except Refused as refused:
        assert refused.code is ErrorCode.BAD_FRAME


@given(st.binary(max_size=100) | st.builds(lambda fields: json.dumps(fields).encode(), documents))
def test_any_body_decodes_or_is_refused(data: bytes) -> None:
    try:
        decode_body(data, JobRequest)
    except Refused as refused:
        assert refused.code in (ErrorCode.VALIDATION_ERROR, ErrorCode.INVALID_COORDINATES)


# --- bodies


def body_refusal(data: bytes, shape: type) -> Refused:
    with pytest.raises(Refused) as caught:
        decode_body(data, shape)
    return caught.value


def test_all_failing_fields_of_a_body_are_listed() -> None:
    body = b'{"first_name":" ","email":"somchai@example","phone_number":"081234567\\n","service_types":[],"age":4,"last_name":"x"}'
    refused = body_refusal(body, ProviderRequest)
    assert refused.code is ErrorCode.VALIDATION_ERROR
    assert refused.details is not None
    assert {fault["field"] for fault in refused.details["fields"]} == {
        *("first_name", "email", "phone_number", "service_types", "age"),
    }


@pytest.mark.parametrize(
    ("body", "shape", "code"),
    [
        (b'{"online":true,"lat":95,"lng":1}', OnlineRequest, ErrorCode.INVALID_COORDINATES),
        (b'{"online":true,"lat":13}', OnlineRequest, ErrorCode.INVALID_COORDINATES),
        (b'{"online":1}', OnlineRequest, ErrorCode.VALIDATION_ERROR),
        (b"", OnlineRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"online":tru', OnlineRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"online":true,"online":false}', OnlineRequest, ErrorCode.VALIDATION_ERROR),
        (
            b'{"service_type":"ride","pickup":{"lat":"x","lng":1,"address":"a"}}',
            JobRequest,
            ErrorCode.INVALID_COORDINATES,
        ),
        (b'{"service_type":"ride","pickup":{"lng":1,"address":"a"}}', JobRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"service_type":"ride","pickup":{"lat":1,"lng":1,"address":""}}', JobRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"service_type":"rocket","pickup":{"lat":1,"lng":1,"address":"a"}}', JobRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"reason":"a\\u0000b"}', CancelRequest, ErrorCode.VALIDATION_ERROR),
        (b'{"reason":"x","lat":4}', CancelRequest, ErrorCode.VALIDATION_ERROR),
    ],
)
def test_a_bad_body_has_its_code(body: bytes, shape: type, code: ErrorCode) -> None:
    assert body_refusal(body, shape).code is code


def test_an_empty_body_is_an_empty_object() -> None:
    assert decode_body(b"", CancelRequest) == CancelRequest()


# --- out

instants = st.datetimes(min_value=datetime(1971, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=7))]))


@given(instants)
def test_wire_time_is_utc_with_milliseconds_rounded_down(at: datetime) -> None:
    text = wire_time(at)
    assert len(text) == len("2026-11-20T10:36:00.123Z") and text.endswith("Z")
    assert timedelta(0) <= at - datetime.fromisoformat(text) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "frame",
    [
        Hello(device="d1", attempt=3, resume=ResumeFrom("e1", 7)),
        Location(13.7563, 100.5018, datetime(2026, 11, 20, tzinfo=UTC), heading_deg=90.0),
        Locations([Fix(1.0, 2.0, datetime(2026, 11, 20, 1, 2, 3, 4000, tzinfo=UTC))]),
        Accept(ID, ID, round=0),
        Advance(ID, ID, Stage.COMPLETED, distance_m=1200.5, duration_s=60.0),
        Ack(5),
    ],
)
def test_what_a_client_encodes_the_server_reads(frame: Any) -> None:
    data = encode(frame)
    assert decode_client(data) == frame
    assert b"null" not in data and data.startswith(b'{"type":')


def test_an_encoded_time_has_milliseconds() -> None:
    at = datetime(2026, 11, 20, 10, 36, 0, 123456, tzinfo=UTC)
    assert b'"at":"2026-11-20T10:36:00.123Z"' in encode(Location(1.0, 2.0, at))


def test_an_event_is_spliced_around_its_data() -> None:
    frame = decode_server(codec.event(7, "offer.withdrawn", b'{"offer_id":"o","reason":"taken"}', AT))
    assert frame == Event(7, "offer.withdrawn", datetime.fromisoformat(AT), {"offer_id": "o", "reason": "taken"})


def test_replies_say_yes_with_data_and_no_with_an_error() -> None:
    assert decode_server(codec.reply_ok(ID, b'{"job":{"id":"j"}}')) == Reply(ID, True, data={"job": {"id": "j"}})
    denied = codec.reply_error(ID, ErrorCode.JOB_NOT_AVAILABLE, "งานนี้ถูกรับไปแล้ว", {"status": "accepted"})
    error = ErrorObject("JOB_NOT_AVAILABLE", "งานนี้ถูกรับไปแล้ว", {"status": "accepted"})
    assert decode_server(denied) == Reply(ID, False, error=error)


def test_an_error_without_details_or_id_does_not_mention_them() -> None:
    data = codec.error(ErrorCode.BAD_FRAME, 'with "quotes"')
    assert data == b'{"type":"error","error":{"code":"BAD_FRAME","message":"with \\"quotes\\""}}'
    assert decode_server(codec.error(ErrorCode.BAD_FRAME, "m", {"a": 1}, ID)) == ErrorFrame(
        ErrorObject("BAD_FRAME", "m", {"a": 1}), ID
    )


def test_details_may_hold_times_and_ids() -> None:
    frame = decode_server(codec.error(ErrorCode.CLOCK_SKEW, "m", {"at": datetime(2026, 1, 1, tzinfo=UTC), "id": ID}))
    assert isinstance(frame, ErrorFrame)
    assert frame.error.details == {"at": "2026-01-01T00:00:00.000Z", "id": str(ID)}


@pytest.mark.parametrize("provider", [None, b'{"id":"p"}'])
def test_a_snapshot_is_spliced_out_of_rows(provider: bytes | None) -> None:
    frame = decode_server(codec.snapshot("e1", 4, provider, [b'{"id":"a"}', b'{"id":"b"}'], []))
    own = None if provider is None else {"id": "p"}
    assert frame == Snapshot("e1", 4, [{"id": "a"}, {"id": "b"}], [], own)


def test_a_position_carries_only_what_is_known() -> None:
    at = datetime(2026, 11, 20, 10, 36, tzinfo=UTC)
    bare = codec.position(ID, 13.7563, 100.5018, at)
    assert set(json.loads(bare)) == {"type", "job_id", "lat", "lng", "at"}
    full = decode_server(codec.position(ID, -13.75631234, 100.5018, at, heading_deg=90.04, eta_s=61.6, stale=True))
    assert full == Position(ID, -13.7563123, 100.5018, at, 90.0, 62.0, True)


def test_bye_names_its_reason_and_the_wait() -> None:
    assert decode_server(codec.bye(ByeReason.DRAINING, 1500)) == Bye("draining", 1500)


SURROGATES = [
    r'{"type":"accept","id":"\ud800","job_id":"x"}',
    r'{"type":"cancel","id":"6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1","job_id":"\udc00\ud800"}',
    r'{"type":"location","lat":13.7,"lng":"\ud800","at":"2026-11-20T20:16:51.617Z"}',
    r'{"type":"ack","seq":1,"\ud800":1}',
    r'{"type":"ack","seq":1,"pad":[{"a":"\uD83D"}]}',
    r'{"type":"accept","id":{"\ud800":1},"job_id":"x"}',
]


@pytest.mark.parametrize("frame", SURROGATES)
def test_half_a_surrogate_pair_is_no_text_wherever_it_stands(frame: str) -> None:
    """msgspec refuses it, and its own `convert` then raised UnicodeEncodeError while the refusal was being explained."""
    with pytest.raises(Refused) as refused:
        codec.decode_client(frame)
    assert (refused.value.code, refused.value.undecodable) == (ErrorCode.BAD_FRAME, True)


@pytest.mark.parametrize("frame", [r'{"type":-Infinity,"id":"\ud800"}', r'{"type":"accept","id":"\ud800","a":1,"a":1}'])
def test_an_id_that_is_no_text_is_no_id(frame: str) -> None:
    with pytest.raises(Refused) as refused:
        codec.decode_client(frame)
    assert (refused.value.code, refused.value.id) == (ErrorCode.BAD_FRAME, None)


def test_a_whole_surrogate_pair_is_a_letter() -> None:
    frame = codec.decode_client(
        r'{"type":"cancel","id":"6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1","job_id":"6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1","reason":"\ud83d\ude97 \\ud800"}'
    )
    assert frame.reason == "\U0001f697 \\ud800"
