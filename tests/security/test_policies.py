"""The policies of tests/security/policies.py against the code: nothing undeclared, nothing looser, and every frame walked by every
role with ids of two full tenants.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
from msgspec import inspect

from bench.hostile.mutate import frame
from dispatch.kit.route import Form, Route
from protocol.frames import ClientFrame, Hello
from tests.gateway.wire import Wire, wired
from tests.security.policies import FRAMES, GUARDED, OPEN, routes
from tests.security.test_doors import everything_of
from tests.support.bodies import least
from tests.support.server import Person, Server, serving

EXTRAS = {
    "status": "approved", "user_id": str(UUID(int=1)), "provider_id": str(UUID(int=1)), "customer_id": str(UUID(int=1)), "role": "admin", "roles": ["admin"],
    "balance_minor": 10**9, "available_minor": 10**9, "total_minor": 0, "is_online": True, "blocked_at": None, "verified": True, "approved_by": str(UUID(int=1)),
    "created_by": str(UUID(int=1)), "version": 99, "accept_id": str(UUID(int=1)), "actor": "admin", "is_verified": True, "__proto__": {"admin": True},
}  # fmt: skip
"""What no caller sets, under the names that columns and other servers have for it."""


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


# --- declared


async def test_every_route_has_a_declared_policy_and_keeps_it(server: Server) -> None:
    declared = routes()
    served = {f"{route.method} {route.path}": route for route in server.app.api.routes}
    assert served.keys() == declared.keys(), (
        "declare it in tests/security/policies.py: who may ask, and what {id} names"
    )
    for name, route in served.items():
        assert route.who == declared[name].who, f"{name} is for {route.who}, and was declared for {declared[name].who}"
        assert ("{id}" in route.path) == (declared[name].names is not None), name
        assert route.path.count("{") <= 1, f"{name} names two things: teach the policies of both"


async def test_what_is_served_beside_the_routes_is_declared_too(server: Server) -> None:
    paths = {route.path.split("{")[0] for route in server.app.api.routes}
    for resource in server.app.api.app.router.resources():
        canonical = resource.canonical
        if canonical.split("{")[0] not in paths:
            assert canonical in OPEN or canonical in GUARDED, f"{canonical} is served and nobody said to whom"


def test_every_frame_has_a_declared_policy_and_every_id_in_it_a_kind() -> None:
    assert set(FRAMES) == set(get_args(ClientFrame)), "declare it in tests/security/policies.py"
    for shape, policy in FRAMES.items():
        named = {name for name, _ in policy.names}
        ids = {field.name for field in msgspec.structs.fields(shape) if _is_id(inspect.type_info(field.type))}
        assert ids - {"id"} == named, f"{shape.__name__}: whose things are {ids - {'id'} ^ named}?"


def _is_id(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(map(_is_id, kind.types))
    return isinstance(kind, inspect.UUIDType)


# --- mass assignment


def _bodies(server: Server) -> Iterator[tuple[Route, type[msgspec.Struct]]]:
    for route in server.app.api.routes:
        if route.body is not None and not isinstance(route.body, Form):
            yield route, route.body


def _shapes(kind: inspect.Type) -> Iterator[type[msgspec.Struct]]:
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            yield cls
            for field in fields:
                yield from _shapes(field.type)
        case inspect.Metadata(type=inner):
            yield from _shapes(inner)
        case inspect.UnionType(types=types):
            for one in types:
                yield from _shapes(one)
        case inspect.ListType(item_type=item):
            yield from _shapes(item)


async def test_no_body_takes_a_field_that_it_does_not_name(server: Server) -> None:
    """Statically, at any depth, and by asking: 400, that very field named, nothing changed."""
    admin = await server.person("admin", "customer")
    await server.provider()
    await admin.http.me()
    before = await _everything(server)
    asked = 0
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {admin.token}"}) as session:
        for route, body in _bodies(server):
            for shape in _shapes(inspect.type_info(body)):
                assert shape.__struct_config__.forbid_unknown_fields, f"{shape.__name__} of {route.path}"
            known = {field.encode_name for field in msgspec.structs.fields(body)}
            for name, value in EXTRAS.items():
                if name in known:
                    continue
                async with session.request(
                    route.method,
                    server.url() + route.path.replace("{id}", str(uuid4())),
                    json=least(body, reason="x", token="x" * 20) | {name: value},
                    headers={"Idempotency-Key": str(uuid4())},
                ) as answer:
                    error = (await answer.json())["error"]
                    asked += 1
                    assert (answer.status, error["code"]) == (400, "VALIDATION_ERROR"), (route.path, name, error)
                    assert {"field": name, "problem": "unknown field"} in error["details"]["fields"], (
                        route.path,
                        error,
                    )
    assert asked > 400
    assert await _everything(server) == before


async def _everything(server: Server) -> dict[str, int]:
    """A count and a fingerprint of what mass assignment would change."""
    found = {}
    for table in (
        "users",
        "providers",
        "provider_gate",
        "jobs",
        "ledger_account",
        "withdrawals",
        "bank_accounts",
        "incentives",
    ):
        (row,) = await server.sql(f"SELECT coalesce(sum(hashtext(t::text)), 0) AS n FROM {table} t")
        found[table] = row["n"]
    return found


# --- two tenants


def _ids_in_bodies(body: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(body) if _is_id(inspect.type_info(field.type))]


async def test_an_id_in_a_body_is_judged_like_one_in_a_path(server: Server, tmp_path: Any) -> None:
    """One tenant asks for his own things with an id of the other's in the body: the very answer as for an id that never was."""
    them, theirs = await everything_of(server, tmp_path)
    before = await _state(server, them)
    me, mine = await everything_of(server, tmp_path)
    declared = routes()
    walked = 0
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {me.token}"}) as session:
        for route, body in _bodies(server):
            policy = declared[f"{route.method} {route.path}"]
            if policy.who in ("admin", "anyone"):
                continue
            for field in _ids_in_bodies(body):
                answers = {}
                for kind, target in {**theirs, "nothing": str(uuid4())}.items():
                    async with session.request(
                        route.method,
                        server.url() + route.path.replace("{id}", mine.get(policy.names or "", str(uuid4()))),
                        json=least(body, to="arrived", reason="x", amount_minor=10_000, token="x" * 20)
                        | {field: target},
                        headers={"Idempotency-Key": str(uuid4())},
                    ) as answer:
                        error = (await answer.json()).get("error", {})
                        answers[kind] = (answer.status, error.get("code"))
                        walked += 1
                assert len(set(answers.values())) == 1, f"{route.path} {field} tells a stranger's id apart: {answers}"
    assert walked > 50
    assert await _state(server, them) == before


def _told(answer: dict[str, Any]) -> tuple[Any, ...]:
    """What an answer says, without what differs by asking."""
    error = answer.get("error", {})
    details = {key: value for key, value in (error.get("details") or {}).items() if key != "retry_after_ms"}
    # An accept names what is missing, a job or an offer of it: both say that there is nothing for him.
    return (
        answer["type"],
        answer.get("ok"),
        error.get("code", "").replace("OFFER_NOT_FOUND", "JOB_NOT_FOUND"),
        str(details),
    )


async def _ask(wire: Wire, shape: type[msgspec.Struct], **given: Any) -> dict[str, Any]:
    request = str(uuid4())
    body = {"type": shape.__struct_config__.tag, **least(shape, id=request, **given), **given}
    wire.send(frame(1, msgspec.json.encode(body)))
    async with asyncio.timeout(10):
        return await wire.told("reply", id=request)


async def test_every_frame_by_every_role_with_the_ids_of_another(server: Server, tmp_path: Any) -> None:
    """Who may not, is told the same of what exists as of what does not; extra fields change nothing; nothing of the other's moves."""
    victim, theirs = await everything_of(server, tmp_path)
    strangers: list[tuple[str, Person]] = [
        (role, await server.person(role)) for role in ("customer", "partner", "support")
    ]
    strangers.append(("new provider", await server.provider(approved=False)))
    strangers.append(("provider", await server.provider()))
    suspended = await server.provider()
    await (await server.admin()).http.provider_action(suspended.provider_id, "suspend", "test")
    strangers.append(("suspended", suspended))
    tenant, _ = await everything_of(server, tmp_path)
    strangers.append(("another tenant", tenant))
    office = await server.person("admin")
    before = await _state(server, victim)
    walked = 0
    for role, person in [*strangers, ("admin", office)]:
        for shape, policy in FRAMES.items():
            if not policy.names or (role == "admin" and policy.admin_may):
                continue
            async with wired(server, person) as wire:
                answers = {}
                for what in ("theirs", "nothing"):
                    ids = {name: theirs[kind] if what == "theirs" else str(uuid4()) for name, kind in policy.names}
                    for extra in ({}, EXTRAS):
                        answer = await _ask(
                            wire, shape, **({"to": "arrived"} if shape.__name__ == "Advance" else {}), **ids, **extra
                        )
                        answers[what, bool(extra)] = _told(answer)
                        walked += 1
                # The office reads every job: that it exists is no secret to it.
                same = len(set(answers.values())) == 1 or role == "admin"
                assert same, f"{shape.__name__} tells {role} what exists: {answers}"
                if shape.__name__ != "Untrack":
                    assert answers["theirs", False][1] is False, f"{shape.__name__} by {role}: {answers}"
    assert walked > 150
    assert await _state(server, victim) == before


async def _state(server: Server, victim: Person) -> Any:
    rows = await server.sql(
        "SELECT id, status, round, version FROM jobs WHERE provider_id = $1 ORDER BY id", UUID(str(victim.provider_id))
    )
    offers = await server.sql(
        "SELECT offer_id, round, status FROM offers WHERE provider_id = $1 ORDER BY offer_id",
        UUID(str(victim.provider_id)),
    )
    return [tuple(row) for row in rows], [tuple(row) for row in offers]


NO_PROVIDER = {"PROVIDER_NOT_FOUND", "PROVIDER_OFFLINE", "OFFER_NOT_FOUND"}


@pytest.mark.parametrize("role", ["customer", "partner", "support", "admin"])
async def test_frames_of_providers_are_refused_to_who_is_none(server: Server, role: str) -> None:
    person = await server.person(role)
    for shape, policy in FRAMES.items():
        if not policy.provider or shape is Hello:
            continue
        async with wired(server, person) as wire:
            fix = {"lat": 13.75, "lng": 100.5, "at": "2026-11-20T00:00:00Z"}
            given = {"Location": fix, "Locations": {"points": [fix]}, "Online": {"lat": 13.75, "lng": 100.5}}
            body = {"type": shape.__struct_config__.tag, **least(shape), **given.get(shape.__name__, {})}
            wire.send(frame(1, msgspec.json.encode(body)))
            async with asyncio.timeout(10):
                while (told := await wire.next()) is not None:
                    answer = msgspec.json.decode(told[1]) if told[0] == 1 else {}
                    if answer.get("type") in ("reply", "error"):
                        break
            assert answer["error"]["code"] in NO_PROVIDER, (shape, answer)
