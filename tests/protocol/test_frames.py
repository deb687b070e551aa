from typing import Any, get_args
from uuid import UUID

import pytest

from protocol.codec import decode_client
from protocol.errors import ErrorCode
from protocol.frames import Accept, ClientFrame, ErrorObject, Hello, Location, Online, Request, ServerFrame
from protocol.lifecycle import ServiceType

ID = "0b8e7a8c-3b64-4d1a-9b7e-6b1d7a1b2c3d"


def test_the_types_are_those_of_the_contract() -> None:
    assert [shape.__struct_config__.tag for shape in get_args(ClientFrame)] == [
        *("hello", "auth", "online", "offline", "location", "locations", "accept", "decline", "advance", "cancel"),
        *("track", "untrack", "ack"),
    ]
    assert [shape.__struct_config__.tag for shape in get_args(ServerFrame)] == [
        *("welcome", "snapshot", "event", "location", "reply", "error", "bye"),
    ]


def test_every_request_carries_its_id_and_nothing_else_does() -> None:
    with_id = {shape for shape in get_args(ClientFrame) if "id" in shape.__struct_fields__}
    assert with_id == set(get_args(Request))


def test_ids_are_uuids_and_times_are_aware() -> None:
    accept = decode_client(f'{{"type":"accept","id":"{ID}","job_id":"{ID}","round":2}}')
    assert accept == Accept(id=UUID(ID), job_id=UUID(ID), round=2)
    fix = decode_client('{"type":"location","lat":1,"lng":2,"at":"2026-11-20T17:36:00.123+07:00"}')
    assert isinstance(fix, Location)
    assert fix.at.isoformat() == "2026-11-20T17:36:00.123000+07:00"


def test_fields_of_a_later_version_are_ignored() -> None:
    hello = decode_client('{"type":"hello","device":"d1","attempt":1,"battery":{"level":0.4}}')
    assert hello == Hello(device="d1", attempt=1)


def test_service_types_are_a_closed_list() -> None:
    online = decode_client(f'{{"type":"online","id":"{ID}","lat":1,"lng":2,"service_types":["ride","laundry"]}}')
    assert isinstance(online, Online)
    assert online.service_types == [ServiceType.RIDE, ServiceType.LAUNDRY]


@pytest.mark.parametrize(
    ("code", "details", "wait_ms"),
    [
        (ErrorCode.BUSY, {"retry_after_ms": 250}, 250),
        (ErrorCode.BUSY, None, 1000),
        (ErrorCode.BUSY, {"retry_after_ms": "soon"}, 1000),
        (ErrorCode.RATE_LIMITED, None, 1000),
        (ErrorCode.REQUEST_IN_PROGRESS, None, 1000),
        (ErrorCode.JOB_NOT_AVAILABLE, {"retry_after_ms": 250}, None),
        ("OF_A_LATER_VERSION", None, None),
    ],
)
def test_only_an_undecided_answer_is_asked_again(
    code: str, details: dict[str, Any] | None, wait_ms: int | None
) -> None:
    assert ErrorObject(code=code, message="", details=details).retry_after_ms == wait_ms
