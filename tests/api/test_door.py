"""The HTTP door over a real line: what comes back for whatever is sent."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import asyncpg
import pytest
import structlog
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from dispatch.api import Api, ApiRules
from dispatch.api.door import BODY_BYTES_MAX, Buckets
from dispatch.kit.clock import ManualClock
from dispatch.kit.errors import Forbidden, IllegalTransition, Overloaded, Unauthenticated
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode, text_of
from protocol.lifecycle import ServiceType
from protocol.resources import Me, QuoteRequest

USERS = {"good": ("ann", "th", False), "other": ("bob", "en", False), "boss": ("eve", "en", True)}
"""Token → name, locale, admin."""
ID = "11111111-2222-4333-8444-555555555555"
BODY_2_MIB = b'{"service_type":"' + b"a" * (2 * 1024 * 1024) + b'"}'


@dataclass
class House:
    """A door with routes of our own behind it. `calls` are those that reached a handler; it then raises `trouble`, if any."""

    client: TestClient[web.Request, web.Application]
    clock: ManualClock
    api: Api
    calls: list[Call] = field(default_factory=list)
    trouble: BaseException | None = None

    async def handle(self, call: Call) -> Answered:
        self.calls.append(call)
        if self.trouble is not None:
            raise self.trouble
        return Answered(b'{"ok":true}')

    async def get(self, path: str, token: str | None = "good", **headers: str) -> ClientResponse:
        return await self.send("GET", path, token, None, **headers)

    async def send(
        self, method: str, path: str, token: str | None = "good", data: bytes | None = None, **headers: str
    ) -> ClientResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, data=None if data is None else io.BytesIO(data), headers=sent)


RULES = ApiRules(
    by_token=lambda token, address: who(token),
    has_role=lambda actor, role: role == "admin" and bool(actor[2]),
    locale_of=lambda actor: str(actor[1]),
    key_of=lambda actor: actor[0],
    user_rate=2.0,
    user_burst=10,
    address_rate=0.0,
    origins=frozenset({"https://app.example.org"}),
)


async def who(token: str) -> tuple[Any, Any]:
    if token not in USERS:
        raise Unauthenticated("unknown token")
    return USERS[token], {"sub": token}


async def open_house(rules: ApiRules) -> House:
    clock = ManualClock()
    api = Api(rules, clock)
    house = House(TestClient(TestServer(api.app)), clock, api)
    api.add(
        [
            Route(
                "GET",
                "/v1/open",
                house.handle,
                "For anyone",
                Me,
                who="anyone",
                query={"limit": "how many", "q": "what"},
            ),
            Route("GET", "/v1/mine", house.handle, "For users", Me),
            Route("GET", "/v1/things/{id}", house.handle, "One thing", Me),
            Route("POST", "/v1/things", house.handle, "A thing", Me, body=QuoteRequest, idempotent=True),
            Route("POST", "/v1/once", house.handle, "No key", Me),
            Route("POST", "/v1/money", house.handle, "A key or nothing", Me, idempotent=True, key_required=True),
            Route("GET", "/v1/admin/things", house.handle, "For admins", Me, who="admin"),
        ]
    )
    await house.client.start_server()
    return house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    running = await open_house(RULES)
    yield running
    await running.client.close()


async def refusal(response: ClientResponse, status: int, code: ErrorCode) -> dict[str, Any]:
    """The error of an answer, after checking everything that all of them have in common."""
    assert response.status == status
    assert response.content_type == "application/json"
    body = await response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert error["code"] == code
    assert set(error) <= {"code", "message", "details", "timestamp", "request_id"}
    assert error["message"] in (text_of(code, "th"), text_of(code, "en"))
    assert error["timestamp"] == "2026-01-02T03:04:05.000Z"
    assert error["request_id"] == response.headers["X-Request-Id"]
    return error


async def test_a_body_that_does_not_come_is_the_senders_fault(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was BUSY, as if it might have been done, and so it was sent again."""
    monkeypatch.setattr("dispatch.api.door.BODY_WITHIN_S", 0.05)
    over = asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield good_body()[:10]
        await over.wait()

    headers = {"Authorization": "Bearer good", "Content-Type": "application/json"}
    answer = await house.client.request("POST", "/v1/things", data=drip(), headers=headers)
    error = await refusal(answer, 400, ErrorCode.VALIDATION_ERROR)
    over.set()
    assert error["details"] == {"fields": [{"field": "body", "problem": "did not come within 0.05 s"}]}
    assert house.calls == []


def good_body() -> bytes:
    return b'{"service_type":"%b","pickup":{"lat":13.7,"lng":100.5}}' % next(iter(ServiceType)).value.encode()


async def test_a_good_request_reaches_its_handler_decoded(house: House) -> None:
    response = await house.send("POST", "/v1/things", data=good_body(), Idempotency_Key="k1", Accept_Language="en-GB")
    assert response.status == 200
    assert await response.json() == {"ok": True}
    (call,) = house.calls
    assert call.actor == USERS["good"]
    assert call.token == {"sub": "good"}
    assert isinstance(call.body, QuoteRequest)
    assert (call.key, call.locale, call.request_id) == ("k1", "en", response.headers["X-Request-Id"])
    await house.get(f"/v1/things/{ID}")
    assert str(house.calls[-1].id("id")) == ID
    await house.get("/v1/open?limit=7&q=x", token=None)
    assert dict(house.calls[-1].query) == {"limit": "7", "q": "x"}
    assert house.calls[-1].actor is None


# --- what is not there


async def test_an_unknown_path_is_404(house: House) -> None:
    for path in ("/nowhere", "/v1/things/not-a-uuid", f"/v1/things/{ID}/more", "/v1/mine/"):
        await refusal(await house.get(path), 404, ErrorCode.NOT_FOUND)
    assert house.calls == []


async def test_a_wrong_method_is_405_and_told_which_are_right(house: House) -> None:
    response = await house.send("DELETE", "/v1/things")
    error = await refusal(response, 405, ErrorCode.METHOD_NOT_ALLOWED)
    assert error["details"] == {"allowed": ["POST"]}
    assert response.headers["Allow"] == "POST"


# --- who asks


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic good", "good", "Bearer nobody", "Bearer "])
async def test_without_a_good_token_it_is_401(house: House, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/mine", "/v1/admin/things"):
        await refusal(await house.client.get(path, headers=headers), 401, ErrorCode.UNAUTHORIZED)
    assert house.calls == []


async def test_an_admins_route_is_403_to_others(house: House) -> None:
    await refusal(await house.get("/v1/admin/things"), 403, ErrorCode.FORBIDDEN)
    assert house.calls == []
    assert (await house.get("/v1/admin/things", token="boss")).status == 200


async def test_who_is_unknown_does_not_learn_what_was_wrong_with_his_request(house: House) -> None:
    await refusal(await house.send("POST", "/v1/things", None, data=b"{"), 401, ErrorCode.UNAUTHORIZED)


# --- what comes in


async def test_a_body_of_2_mib_is_413_and_the_line_goes_on(house: House) -> None:
    error = await refusal(await house.send("POST", "/v1/things", data=BODY_2_MIB), 413, ErrorCode.BODY_TOO_LARGE)
    assert error["details"] == {"bytes_max": BODY_BYTES_MAX}
    assert (await house.get("/v1/mine")).status == 200
    assert len(house.calls) == 1


async def test_an_unknown_parameter_is_named(house: House) -> None:
    error = await refusal(await house.get("/v1/open?limt=3"), 400, ErrorCode.VALIDATION_ERROR)
    assert [fault["field"] for fault in error["details"]["fields"]] == ["limt"]
    await refusal(await house.get("/v1/mine?anything="), 400, ErrorCode.VALIDATION_ERROR)
    assert house.calls == []


async def test_a_parameter_given_twice_is_refused_and_not_halved(house: House) -> None:
    for query in ("limit=3&limit=4", "limit=3&limit=3", "limit=3&q=x&limit="):
        error = await refusal(await house.get(f"/v1/open?{query}"), 400, ErrorCode.VALIDATION_ERROR)
        assert error["details"]["fields"] == [{"field": "limit", "problem": "given twice"}]
    assert house.calls == []


@pytest.mark.parametrize(
    "body", [b"{", b"[1", b"\xff\xfe", b'"text"', b"[]", b"null", b'{"service_type":NaN}', b'{"a":1,"a":2}', b"\x00"]
)
async def test_a_body_that_is_no_json_object_is_400(house: House, body: bytes) -> None:
    error = await refusal(await house.send("POST", "/v1/things", data=body), 400, ErrorCode.VALIDATION_ERROR)
    assert error["details"]
    assert house.calls == []


async def test_every_field_that_is_wrong_is_named(house: House) -> None:
    body = b'{"service_type":"rocket","pickup":{"lat":"north","lng":100.5},"colour":"red"}'
    response = await house.send("POST", "/v1/things", data=body)
    error = await refusal(response, 400, ErrorCode.INVALID_COORDINATES)
    assert [fault["field"] for fault in error["details"]["fields"]] == ["service_type", "pickup.lat", "colour"]


async def test_lat_95_is_told_as_coordinates(house: House) -> None:
    body = good_body().replace(b"13.7", b"95")
    await refusal(await house.send("POST", "/v1/things", data=body), 400, ErrorCode.INVALID_COORDINATES)


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_an_idempotency_key_has_1_to_200_characters(house: House, key: str) -> None:
    response = await house.send("POST", "/v1/things", data=good_body(), Idempotency_Key=key)
    error = await refusal(response, 400, ErrorCode.VALIDATION_ERROR)
    assert error["details"]["fields"][0]["field"] == "Idempotency-Key"


async def test_what_moves_money_does_not_go_without_a_key(house: House) -> None:
    await refusal(await house.send("POST", "/v1/money"), 400, ErrorCode.IDEMPOTENCY_KEY_REQUIRED)
    assert not house.calls
    assert (await house.send("POST", "/v1/money", Idempotency_Key="k1")).status == 200


async def test_a_key_is_not_passed_on_where_it_would_not_be_honoured(house: House) -> None:
    assert (await house.send("POST", "/v1/once", Idempotency_Key="k1")).status == 200
    assert house.calls[0].key is None


# --- request ids and languages


@pytest.mark.parametrize("sent", ["abcdefgh", "x" * 64, "a b c d e f"])
async def test_a_request_id_comes_back(house: House, sent: str) -> None:
    assert (await house.get("/v1/mine", X_Request_Id=sent)).headers["X-Request-Id"] == sent
    assert house.calls[0].request_id == sent
    await refusal(await house.get("/nowhere", X_Request_Id=sent), 404, ErrorCode.NOT_FOUND)


@pytest.mark.parametrize("sent", [None, "", "short", "x" * 65, "tab\tinside", "nön-äscii-id"])
async def test_one_is_made_where_it_is_missing_or_odd(house: House, sent: str | None) -> None:
    headers = {} if sent is None else {"X_Request_Id": sent}
    made = [(await house.get("/v1/mine", **headers)).headers["X-Request-Id"] for _ in range(2)]
    assert len({*made, sent}) == 3
    assert all(len(one) == 16 and one.isalnum() for one in made)


@pytest.mark.parametrize(
    ("token", "asked", "spoken"),
    [
        ("good", None, "th"),
        ("good", "en", "en"),
        ("good", "en-US,en;q=0.9", "en"),
        ("good", "EN", "en"),
        ("good", "fr", "th"),
        ("other", None, "en"),
        ("other", "th", "th"),
        ("other", "fr", "en"),
    ],
)
async def test_the_answer_speaks_the_language_asked_for_else_the_users_own(
    house: House, token: str, asked: str | None, spoken: str
) -> None:
    house.trouble = Forbidden()
    headers = {} if asked is None else {"Accept_Language": asked}
    error = await refusal(await house.get("/v1/mine", token, **headers), 403, ErrorCode.FORBIDDEN)
    assert error["message"] == text_of(ErrorCode.FORBIDDEN, spoken)
    assert house.calls[0].locale == spoken


async def test_a_stranger_is_told_in_thai_unless_he_asks_for_english(house: House) -> None:
    thai = await refusal(await house.get("/v1/mine", None), 401, ErrorCode.UNAUTHORIZED)
    english = await refusal(await house.get("/v1/mine", None, Accept_Language="en"), 401, ErrorCode.UNAUTHORIZED)
    assert thai["message"] == text_of(ErrorCode.UNAUTHORIZED, "th")
    assert english["message"] == text_of(ErrorCode.UNAUTHORIZED, "en")


# --- limits


async def test_a_user_over_his_limit_is_told_when_to_come_back(house: House) -> None:
    for _ in range(RULES.user_burst):
        assert (await house.get("/v1/mine")).status == 200
    response = await house.get("/v1/mine")
    await refusal(response, 429, ErrorCode.RATE_LIMITED)
    wait_s = int(response.headers["Retry-After"])
    assert wait_s >= 1
    assert (await house.get("/v1/mine", token="other")).status == 200
    house.clock.advance(wait_s)
    assert (await house.get("/v1/mine")).status == 200


async def test_an_address_has_a_limit_too_unless_it_is_switched_off() -> None:
    house = await open_house(replace(RULES, address_rate=3.0, user_burst=1000))
    try:
        answers = [(await house.get("/v1/open", token=None)).status for _ in range(4)]
        assert answers == [200, 200, 200, HTTPStatus.TOO_MANY_REQUESTS]
        response = await house.get("/v1/mine")
        assert (response.status, response.headers["Retry-After"]) == (429, "1")
        house.clock.advance(1.0)
        assert (await house.get("/v1/mine")).status == 200
    finally:
        await house.client.close()


@given(
    rate=st.floats(0.5, 100),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=100),
)
def test_no_stretch_of_time_gives_more_than_burst_plus_rate(rate: float, burst: int, gaps: list[float]) -> None:
    buckets = Buckets(rate, burst)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        wait_s = buckets.wait_s("x", now)
        assert wait_s <= 1 / rate + 1e-9
        taken += wait_s == 0.0
        assert taken <= burst + now * rate + 1e-6
    assert buckets.wait_s("x", now + wait_s + 1 / rate + 1e-6) == 0.0


def test_who_came_first_and_is_counted_last_costs_one_token() -> None:
    """Who he is may be asked of Postgres, and another request of his overtake him there."""
    buckets = Buckets(100, 10)
    assert [buckets.wait_s("x", now) for now in (60.0, *(59.0,) * 9)] == [0.0] * 10
    assert buckets.wait_s("x", 59.5) == pytest.approx(0.01)
    assert buckets.wait_s("x", 60.02) == 0.0, "the time that went by was not given twice, nor taken"


# --- trouble


async def test_a_refusal_of_the_handler_has_its_status_and_its_facts(house: House) -> None:
    house.trouble = IllegalTransition("for the log only", status="completed")
    error = await refusal(await house.get("/v1/mine"), 422, ErrorCode.INVALID_STATUS_TRANSITION)
    assert error["details"] == {"status": "completed"}
    assert "for the log only" not in json.dumps(error)


async def test_a_bug_is_500_leaks_nothing_and_is_logged_once(house: House) -> None:
    house.trouble = ValueError("the password is hunter2")
    with structlog.testing.capture_logs() as logs:
        response = await house.get("/v1/mine", X_Request_Id="request-1")
    error = await refusal(response, 500, ErrorCode.INTERNAL_ERROR)
    assert set(error) == {"code", "message", "timestamp", "request_id"}
    said = await response.text() + str(response.headers)
    assert "hunter2" not in said
    assert "ValueError" not in said
    assert "Traceback" not in said
    (line,) = logs
    assert (line["log_level"], line["request_id"], line["route"]) == ("error", "request-1", "/v1/mine")
    assert line["exc_info"] is house.trouble
    house.trouble = None
    assert (await house.get("/v1/mine")).status == 200


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), ErrorCode.OVERLOADED),
        (ConnectionRefusedError("no"), ErrorCode.OVERLOADED),
        (Overloaded("full"), ErrorCode.OVERLOADED),
        (TimeoutError(), ErrorCode.BUSY),
    ],
)
async def test_a_store_that_does_not_answer_is_503_with_a_time_to_come_back(
    house: House, trouble: BaseException, code: ErrorCode
) -> None:
    house.trouble = trouble
    response = await house.get("/v1/mine")
    await refusal(response, 503, code)
    assert int(response.headers["Retry-After"]) >= 1


async def test_only_origins_of_ours_may_read_the_answer(house: House) -> None:
    response = await house.get("/v1/mine", Origin="https://app.example.org")
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert "Access-Control-Allow-Origin" not in (await house.get("/v1/mine", Origin="https://else.example.org")).headers


async def test_answers_are_counted_by_route_and_status(house: House) -> None:
    await house.get(f"/v1/things/{ID}")
    await house.get("/nowhere")
    await house.get("/v1/mine", None)
    assert house.api.answers == {("/v1/things/{id}", 200): 1, ("other", 404): 1, ("/v1/mine", 401): 1}
