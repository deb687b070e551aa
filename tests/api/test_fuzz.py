"""The HTTP half, attacked out of its own description: whatever a body or a parameter holds, no answer is our fault and each is as described."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.security.policies import routes
from tests.security.test_doors import everything_of
from tests.support.server import Server, serving

EXAMPLES = 10
"""Per operation and kind of data."""
LINE_MAX = 8_000
"""A request line of more than 8,190 bytes is refused by the HTTP library, in plain text (README, not yet)."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as described", "otherwise"])
async def test_no_request_makes_the_server_fail(server: Server, mode: GenerationMode) -> None:
    admin = await server.person("admin", "customer")
    await server.provider()
    answered: dict[str, set[int]] = {}
    problems: list[str] = []

    def attack_one(operation: Any) -> None:
        statuses = answered.setdefault(operation.label, set())

        @settings(
            max_examples=EXAMPLES,
            deadline=datetime.timedelta(seconds=10),
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            headers = {"Authorization": f"Bearer {admin.token}"}
            answer = case.call(base_url=server.url(), headers=headers, timeout=10)
            statuses.add(answer.status_code)
            if len(answer.request.url or "") > LINE_MAX:
                assert answer.status_code == 400
                return
            case.validate_response(answer, checks=CHECKS)

        one()

    def attack() -> None:
        schema = schemathesis.openapi.from_url(f"{server.url()}/openapi.json")
        for found in schema.get_all_operations():
            operation = found.ok()
            try:
                attack_one(operation)
            except (AssertionError, FailureGroup) as failure:
                problems.append(f"{operation.label}: {failure} {getattr(failure, 'exceptions', '')}"[:1500])

    await asyncio.to_thread(attack)
    assert not problems, "\n\n".join(problems)
    assert set(answered) == operations(server), "an operation was not attacked"


def operations(server: Server) -> set[str]:
    """Every route that is served, as the document names it."""
    return {f"{route.method} {route.path}" for route in server.app.api.routes}


LAST = "POST /v1/auth/sign-out-everywhere"
"""After it, the token of whoever asked is worth nothing."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("role", ["provider", "customer"])
async def test_no_request_of_a_party_about_his_own_things_makes_the_server_fail(
    database_url: str, redis_url: str, tmp_path: Path, role: str
) -> None:
    """The same with ids that are his: past the 404, into what the routes do."""
    async with serving(database_url, redis_url, storage_dir=tmp_path) as server:
        person, things = await everything_of(server, tmp_path)
        if role == "customer":
            person = await server.person()
            things |= {"job": (await server.request(person))["id"], "user": str(person.user_id)}
        declared = routes()
        answered: dict[str, set[int]] = {}
        problems: list[str] = []

        def attack_one(operation: Any) -> None:
            statuses = answered.setdefault(operation.label, set())
            names = declared[operation.label].names

            @settings(
                max_examples=EXAMPLES // 2,
                deadline=datetime.timedelta(seconds=10),
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
            def one(case: Any) -> None:
                if names is not None:
                    case.path_parameters["id"] = things[names]
                answer = case.call(
                    base_url=server.url(), headers={"Authorization": f"Bearer {person.token}"}, timeout=10
                )
                statuses.add(answer.status_code)
                case.validate_response(answer, checks=CHECKS)

            one()

        def attack() -> None:
            schema = schemathesis.openapi.from_url(f"{server.url()}/openapi.json")
            found = sorted((one.ok() for one in schema.get_all_operations()), key=lambda one: one.label == LAST)
            for operation in found:
                try:
                    attack_one(operation)
                except (AssertionError, FailureGroup) as failure:
                    problems.append(f"{operation.label}: {failure} {getattr(failure, 'exceptions', '')}"[:1500])

        await asyncio.to_thread(attack)
        assert not problems, "\n\n".join(problems)
        assert set(answered) == operations(server), "an operation was not attacked"
        own = {name for name, policy in declared.items() if policy.names is not None and policy.who == "user"}
        reached = {name for name in own if any(status not in (401, 403, 404) for status in answered[name])}
        # Most things are a provider's; a customer has a job.
        assert len(reached) >= (12 if role == "provider" else 3), sorted(own - reached)
