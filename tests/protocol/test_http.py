"""The HTTP half of the reference client against a small real server."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from protocol.errors import Denied, ErrorCode
from protocol.http import Http
from protocol.lifecycle import AdminAction, JobStatus, ServiceType, Stage

JOB = UUID("0b8e7a8c-3b64-4d1a-9b7e-6b1d7a1b2c3d")
PICKUP = {"lat": 13.7563, "lng": 100.5018, "address": "Sanam Luang"}


class Server:
    """Answers by the script, then {} with 200; keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.script: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def answers(
        self, status: int, code: str = "", details: dict[str, Any] | None = None, retry_after: str = ""
    ) -> None:
        error = {"code": code, "message": "no", "details": details or {}}
        headers = {"Retry-After": retry_after} if retry_after else {}
        self.script.append((status, {"error": error} if code else {}, headers))

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, str(request.rel_url), body))
        self.headers.append(dict(request.headers))
        status, answer, headers = self.script.pop(0) if self.script else (200, {"well": "done"}, {})
        return web.json_response(answer, status=status, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    it = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", it.handle)
    async with TestServer(app) as running:
        it.url = str(running.make_url(""))
        yield it


@pytest.fixture
async def http(server: Server) -> AsyncIterator[Http]:
    async with Http(server.url, "t0", jitter=lambda bound_s: 0.0) as client:
        yield client


async def test_every_route_of_the_contract_has_its_call(server: Server, http: Http) -> None:
    await http.me()
    await http.patch_me(first_name="Somchai")
    await http.socket_ticket()
    await http.quote(ServiceType.RIDE, PICKUP)
    await http.create_job(ServiceType.RIDE, PICKUP, PICKUP, note="blue door")
    await http.job(JOB)
    await http.jobs(status=JobStatus.PENDING, limit=5)
    await http.cancel(JOB)
    await http.available(max_distance_m=3000)
    await http.accept(JOB, JOB, 2)
    await http.advance(JOB, Stage.COMPLETED, distance_m=1200, duration_s=60)
    await http.register(
        first_name="A", last_name="B", email="a@b.example", phone_number="0812345678", service_types=[ServiceType.RIDE]
    )
    await http.provider()
    await http.patch_provider(service_radius_m=5000)
    await http.set_online(True, 13.7563, 100.5018)
    await http.provider_action(JOB, AdminAction.REJECT, "no licence")
    await http.admin_jobs(stuck=True)
    await http.release(JOB, "flat tyre")
    ride = {"service_type": "ride", "pickup": PICKUP}
    person = {"first_name": "A", "last_name": "B", "email": "a@b.example", "phone_number": "0812345678"}
    assert server.asked == [
        ("GET", "/v1/me", None),
        ("PATCH", "/v1/me", {"first_name": "Somchai"}),
        ("POST", "/v1/socket/tickets", None),
        ("POST", "/v1/quotes", ride),
        ("POST", "/v1/jobs", {**ride, "dropoff": PICKUP, "note": "blue door"}),
        ("GET", f"/v1/jobs/{JOB}", None),
        ("GET", "/v1/jobs?status=pending&limit=5", None),
        ("POST", f"/v1/jobs/{JOB}/cancel", {}),
        ("GET", "/v1/jobs/available?max_distance_m=3000", None),
        ("POST", f"/v1/jobs/{JOB}/accept", {"offer_id": str(JOB), "round": 2}),
        ("POST", f"/v1/jobs/{JOB}/advance", {"to": "completed", "distance_m": 1200, "duration_s": 60}),
        ("POST", "/v1/providers", {**person, "service_types": ["ride"]}),
        ("GET", "/v1/providers/me", None),
        ("PATCH", "/v1/providers/me", {"service_radius_m": 5000}),
        ("PUT", "/v1/providers/me/online", {"online": True, "lat": 13.7563, "lng": 100.5018}),
        ("POST", f"/v1/admin/providers/{JOB}/actions", {"action": "reject", "reason": "no licence"}),
        ("GET", "/v1/admin/jobs?stuck=true", None),
        ("POST", f"/v1/admin/jobs/{JOB}/release", {"reason": "flat tyre"}),
    ]
    assert all(headers["Authorization"] == "Bearer t0" for headers in server.headers)
    keys = [headers.get("Idempotency-Key") for headers in server.headers]
    assert [key is not None for key in keys] == [method == "POST" for method, _, _ in server.asked]
    posted = [key for key in keys if key is not None]
    assert len(set(posted)) == len(posted)


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "BUSY"), (500, "INTERNAL_ERROR"), (502, ""), (429, "RATE_LIMITED"), (409, "REQUEST_IN_PROGRESS")],
)
async def test_what_decided_nothing_is_asked_again_with_the_same_key(
    server: Server, http: Http, status: int, code: str
) -> None:
    server.answers(status, code, {"retry_after_ms": 1})
    server.answers(status, code)
    assert await http.create_job(ServiceType.RIDE, PICKUP) == {"well": "done"}
    assert len({headers["Idempotency-Key"] for headers in server.headers}) == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "JOB_NOT_AVAILABLE"), (404, "OFFER_NOT_FOUND"), (400, "VALIDATION_ERROR"), (401, "UNAUTHORIZED")],
)
async def test_a_final_no_is_raised_at_once(server: Server, http: Http, status: int, code: str) -> None:
    server.answers(status, code, {"status": "accepted"})
    with pytest.raises(Denied) as caught:
        await http.accept(JOB)
    denied = caught.value
    assert (denied.code, denied.status, denied.details) == (code, status, {"status": "accepted"})
    assert len(server.asked) == 1


async def test_a_no_that_is_not_ours_is_an_unknown_error(server: Server, http: Http) -> None:
    server.answers(418)
    with pytest.raises(Denied) as caught:
        await http.me()
    assert (caught.value.code, caught.value.status) == (ErrorCode.UNKNOWN_ERROR, 418)


async def test_a_wait_beyond_patience_is_raised(server: Server, http: Http) -> None:
    server.answers(503, "BUSY", retry_after="60")
    with pytest.raises(Denied, match="BUSY"):
        await http.accept(JOB)
    assert len(server.asked) == 1


async def test_a_server_that_is_not_there_is_busy(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with Http(url, "t0", patience_s=0.01, jitter=lambda bound_s: 0.001) as http:
        with pytest.raises(Denied) as caught:
            await http.me()
    assert (caught.value.code, caught.value.status) == (ErrorCode.BUSY, None)


async def test_a_given_key_and_locale_are_sent(server: Server) -> None:
    key = str(uuid4())
    async with Http(server.url, lambda: "t9", locale="en") as http:
        await http.cancel(JOB, "late", key=key)
    headers = server.headers[0]
    assert (headers["Idempotency-Key"], headers["Accept-Language"], headers["Authorization"]) == (
        key,
        "en",
        "Bearer t9",
    )
