"""Every route and frame has a declared right: nobody, without a token, gets past what is for anyone."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from protocol.frames import ClientFrame
from protocol.tickets import TicketCategory
from tests.incentives.stage import a_program
from tests.papers.scenes import a_car
from tests.support.bodies import least
from tests.support.server import Person, Server, serving
from tests.wallets.scenes import account as bank_account
from tests.wallets.scenes import fund

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


async def everything_of(server: Server, stores: Path) -> tuple[Person, dict[str, str]]:
    """Somebody who has one of everything, and the ids of all of it."""
    admin, customer = await server.admin(), await server.person()
    async with server.working() as (driver, phone):
        job = await server.request(customer)
        offer = (await driver.inbox.named("offer.created")).data
        await phone.accept(job["id"], offer["offer_id"])
        made = {
            "job": job["id"],
            "offer": offer["offer_id"],
            "user": str(driver.user_id),
            "provider": str(driver.provider_id),
            "document": (await driver.http.papers.upload("health_certificate", b"%PDF-1.7\n"))["document_id"],
            "vehicle": (
                await driver.http.papers.add_vehicle(**a_car())
            )["id"],
            "ticket": (await driver.http.support.open(TicketCategory.APP, "s", "b"))["id"],
            **await money_of(server, driver),
            "device": (await driver.http.notices.register_fcm(f"t-{driver.user_id}"))["id"],
            "earning": (await admin.http.earnings.adjust(driver.provider_id, 100, "THB", "x"))["id"],
            "incentive": (await admin.http.incentives.create(**a_program()))["id"],
        }  # fmt: skip
        (notice, *_) = (await driver.http.call("GET", "/v1/notifications"))["items"]
        (delivery, *_) = (await admin.http.call("GET", "/v1/admin/deliveries"))["items"]
        return driver, made | {"notification": notice["id"], "delivery": delivery["id"]}


async def money_of(server: Server, person: Person) -> dict[str, str]:
    """A bank account and a withdrawal to it."""
    account = await bank_account(server, person)
    await fund(server, person.user_id, 50_000)
    return {"bank_account": account, "withdrawal": (await person.http.wallet.withdraw(20_000, account))["id"]}


async def test_every_route_role_and_owner(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Every id of one tenant, offered on every route that takes one by strangers of every kind: 403 or 404, and the very same as for
    an id that never was. The matrix is made of the routes themselves.
    """
    async with serving(database_url, redis_url, storage_dir=tmp_path) as server:
        _, things = await everything_of(server, tmp_path)
        strangers = [await server.person(role) for role in ("customer", "partner", "support")]
        strangers += [await server.provider(), await server.provider(approved=False)]
        walked = 0
        for stranger in strangers:
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {stranger.token}"}) as session:
                for route in server.app.api.routes:
                    if "{id}" not in route.path or route.who == "anyone":
                        continue
                    answers = {}
                    for kind, target in {**things, "nothing": str(uuid4())}.items():
                        async with session.request(
                            route.method,
                            server.url() + route.path.replace("{id}", target),
                            json=least(route.body, to="arrived", reason="x"),
                            headers={"Idempotency-Key": str(uuid4())},
                        ) as answer:
                            text = await answer.json()
                            # An accept names what is missing: a job, or an offer of it. Both are 404.
                            refusal = text["error"]["code"].replace("OFFER_NOT_FOUND", "JOB_NOT_FOUND")
                            answers[kind] = (answer.status, refusal)
                            walked += 1
                    assert answers["nothing"][0] in (403, 404), (route.path, stranger.roles, answers)
                    assert len(set(answers.values())) == 1, (
                        f"{route.method} {route.path} tells {stranger.roles} an id that exists from one that does not: {answers}"
                    )
        assert walked > 1000
        # Nothing of it has moved.
        assert await server.sql("SELECT 1 FROM jobs WHERE status = 'accepted'")
        assert await server.sql("SELECT 1 FROM provider_documents WHERE status = 'pending'")
        assert await server.sql(
            "SELECT 1 FROM withdrawals w JOIN bank_accounts b ON b.id = w.bank_account_id WHERE status = 'pending' AND removed_at IS NULL"
        )
        assert not await server.sql("SELECT 1 FROM audit_log WHERE action NOT IN ('approve', 'adjust', 'create')")
