"""Every route and frame has a declared right: nobody, without a token, gets past what is for anyone."""

import re
from collections.abc import AsyncIterator
from uuid import uuid4

import aiohttp
import pytest

from protocol.frames import ClientFrame
from tests.support.bodies import least
from tests.support.server import Server, serving

OPEN = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/v1/socket"} | {
    f"/v1/auth/{path}"
    for path in (
        *("sign-up", "sign-in", "refresh", "sign-out", "password/forgot", "password/reset"),
        *("email/verify", "email/resend", "email/status"),
    )
}


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


def paths(server: Server) -> list[tuple[str, str]]:
    found = []
    for resource in server.app.api.app.router.resources():
        for route in resource:
            if route.method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                found.append((route.method, re.sub(r"{[^}]*}", str(uuid4()), resource.canonical)))
    return found


async def test_every_route_wants_a_token_but_those_for_anyone(server: Server) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path in paths(server):
            if path in OPEN or path.startswith(("/docs", "/v1/files/")):
                continue
            async with session.request(method, server.url() + path, json={}) as answer:
                assert answer.status == 401, f"{method} {path} answered {answer.status} to nobody"


async def test_every_admin_route_refuses_everybody_else(server: Server) -> None:
    people = [await server.person(role) for role in ("customer", "partner", "support")]
    admin_routes = [route for route in server.app.api.routes if "/admin/" in route.path]
    assert admin_routes and all(route.who == "admin" for route in admin_routes)
    async with aiohttp.ClientSession() as session:
        for person in people:
            for route in admin_routes:
                url = server.url() + re.sub(r"{[^}]*}", str(uuid4()), route.path)
                async with session.request(
                    route.method, url, json={}, headers={"Authorization": f"Bearer {person.token}"}
                ) as answer:
                    assert answer.status == 403, f"{person.roles} {route.path}"


def test_every_frame_a_client_may_send_has_a_handler(server: Server) -> None:
    rules = server.app.door._rules
    handled = set(rules.requests) | set(rules.signals)
    for frame in ClientFrame.__args__:  # type: ignore[attr-defined]
        assert frame in handled or frame.__name__ == "Hello", frame


async def test_metrics_are_for_loopback_or_for_the_token(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, metrics_token="m" * 20) as server, aiohttp.ClientSession() as session:
        for header, status in (("", 404), ("Bearer wrong", 404), ("Bearer " + "m" * 20, 200)):
            async with session.get(f"{server.url()}/metrics", headers={"Authorization": header}) as answer:
                assert answer.status == status


async def test_two_tenants_cannot_reach_each_others_things(server: Server) -> None:
    """Every id of the one, offered by the other on every route that takes one: 403 or 404, and the same as for an id that never was."""
    customer, stranger = await server.person(), await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], offer["offer_id"])
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stranger.token}"}) as session:
            for route in server.app.api.routes:
                if "{id}" not in route.path:
                    continue
                answers = []
                for target in (job["id"], str(driver.provider_id), str(uuid4())):
                    async with session.request(
                        route.method,
                        server.url() + route.path.replace("{id}", target),
                        json=least(route.body, to="arrived", reason="x"),
                    ) as answer:
                        text = await answer.json()
                        answers.append((answer.status, text["error"]["code"]))
                assert answers[0][0] in (403, 404), (route.path, answers)
                assert len(set(answers)) == 1, (
                    f"{route.path}: an id that exists is told from one that does not: {answers}"
                )
