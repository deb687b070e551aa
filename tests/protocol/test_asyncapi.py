import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import uuid4

import jsonschema
import pytest

from protocol import codec
from protocol.asyncapi import EVENTS, asyncapi
from protocol.errors import ByeReason, CloseCode, ErrorCode
from protocol.frames import Accept, ClientFrame, Hello, Location, ServerFrame, Welcome
from protocol.resources import Job, Page
from protocol.schemas import components

AT = datetime(2026, 11, 20, 10, 36, tzinfo=UTC)
DOCUMENT = asyncapi("1.2.3")


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for part in node.values():
            yield from references(part)
    elif isinstance(node, list):
        for part in node:
            yield from references(part)


def test_it_is_json_and_every_reference_leads_somewhere() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    found = set(references(DOCUMENT))
    assert found
    for reference in found:
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_frame_and_every_event_is_a_message_of_one_operation() -> None:
    inbound = [shape.__name__ for shape in get_args(ClientFrame)]
    outbound = [shape.__name__ for shape in get_args(ServerFrame)]
    assert set(DOCUMENT["components"]["messages"]) == {*inbound, *outbound, *EVENTS}
    listed = {
        name: [reference["$ref"].rpartition("/")[2] for reference in operation["messages"]]
        for name, operation in DOCUMENT["operations"].items()
    }
    assert listed == {"receive": inbound, "send": [*outbound, *EVENTS]}


def test_the_event_names_are_those_of_the_contract() -> None:
    assert set(EVENTS) == {
        *("offer.created", "offer.withdrawn", "job.created", "job.accepted", "job.updated", "job.cancelled"),
        *(
            "job.completed",
            "provider.updated",
            "notification.created",
            "earnings.created",
            "wallet.updated",
            "withdrawal.updated",
        ),
    }


def test_every_close_code_and_error_code_is_described() -> None:
    assert set(DOCUMENT["x-close-codes"]) == {str(code.value) for code in CloseCode}
    assert set(DOCUMENT["x-error-codes"]) == {code.value for code in ErrorCode}
    assert all(f"| {code.value} |" in DOCUMENT["info"]["description"] for code in CloseCode)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("Hello", codec.encode(Hello("d1", 1))),
        ("Location", codec.encode(Location(1.0, 2.0, AT))),
        ("Accept", codec.encode(Accept(uuid4(), uuid4(), round=1))),
        ("Welcome", codec.encode(Welcome("s", "e1", 0, False, 15.0, AT, AT))),
        ("Event", codec.event(1, "job.updated", b"{}", codec.wire_time(AT))),
        ("Position", codec.position(uuid4(), 1.0, 2.0, AT, stale=True)),
        ("Reply", codec.reply_error(uuid4(), ErrorCode.BUSY, "m", {"retry_after_ms": 5})),
        ("ErrorFrame", codec.error(ErrorCode.BAD_FRAME, "m")),
        ("Snapshot", codec.snapshot("e1", 0, None, [], [])),
        ("Bye", codec.bye(ByeReason.EXPIRED, 0)),
    ],
)
def test_what_the_codec_writes_is_what_the_document_says(name: str, frame: bytes) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(json.loads(frame))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"type": name})


def test_an_absent_field_is_not_required_and_never_null() -> None:
    hello = DOCUMENT["components"]["schemas"]["Hello"]
    assert hello["required"] == ["type", "device", "attempt"]
    assert hello["properties"]["resume"] == {"$ref": "#/components/schemas/ResumeFrom"}
    assert '"null"' not in json.dumps(DOCUMENT)


def test_a_page_of_jobs_has_a_schema_of_its_own() -> None:
    schemas = components([Page[Job]])
    page = schemas["Page_Job_"]
    assert page["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Job"}
    assert page["required"] == ["items"]
