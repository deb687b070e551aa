import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from dispatch.accounts.routes import routes as accounts_routes
from dispatch.admin.routes import routes as admin_routes
from dispatch.api.openapi import document
from dispatch.claims.routes import routes as claims_routes
from dispatch.earnings.routes import routes as earnings_routes
from dispatch.incentives.routes import routes as incentives_routes
from dispatch.jobs.routes import routes as jobs_routes
from dispatch.kit.route import SEAL, Answered, Call, Route
from dispatch.matching.routes import routes as matching_routes
from dispatch.notifications.routes import routes as notifications_routes
from dispatch.performance.routes import routes as performance_routes
from dispatch.providers.documents.routes import routes as documents_routes
from dispatch.providers.review.routes import routes as review_routes
from dispatch.providers.routes import routes as providers_routes
from dispatch.providers.vehicles.routes import routes as vehicles_routes
from dispatch.ratings.routes import routes as ratings_routes
from dispatch.support.routes import routes as support_routes
from dispatch.wallets.routes import routes as wallets_routes
from protocol import codec
from protocol.errors import ErrorCode, status_of
from protocol.resources import AcceptRequest, CancelRequest, Job, Me, Page, ProviderRequest

# A route holds its service and does not touch it before it is called; none is called here.
NOBODY: Any = None
ROUTES: list[Route] = [
    *accounts_routes(NOBODY),
    *providers_routes(NOBODY, NOBODY),
    *documents_routes(NOBODY, within_s=60.0),
    *vehicles_routes(NOBODY),
    *review_routes(NOBODY),
    *matching_routes(NOBODY, NOBODY, NOBODY, NOBODY),
    *jobs_routes(NOBODY),
    *claims_routes(NOBODY),
    *support_routes(NOBODY),
    *earnings_routes(NOBODY, NOBODY, NOBODY),
    *incentives_routes(NOBODY),
    *wallets_routes(NOBODY, NOBODY, NOBODY),
    *ratings_routes(NOBODY),
    *performance_routes(NOBODY, NOBODY),
    *notifications_routes(NOBODY, NOBODY),
    *admin_routes(NOBODY, NOBODY),
]
DOCUMENT = document(ROUTES, version="1.2.3")

CONTRACT = {
    ("GET", "/v1/me"),
    ("PATCH", "/v1/me"),
    ("POST", "/v1/socket/tickets"),
    ("POST", "/v1/auth/sign-up"),
    ("POST", "/v1/auth/sign-in"),
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/sign-out"),
    ("POST", "/v1/auth/sign-out-everywhere"),
    ("GET", "/v1/auth/email/verify"),
    ("POST", "/v1/auth/email/verify"),
    ("POST", "/v1/auth/email/resend"),
    ("GET", "/v1/auth/email/status"),
    ("POST", "/v1/auth/password/forgot"),
    ("GET", "/v1/auth/password/reset"),
    ("POST", "/v1/auth/password/reset"),
    ("POST", "/v1/auth/phone/code"),
    ("POST", "/v1/auth/phone/verify"),
    ("POST", "/v1/quotes"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("GET", "/v1/jobs/available"),
    ("POST", "/v1/jobs/{id}/accept"),
    ("POST", "/v1/jobs/{id}/advance"),
    ("POST", "/v1/jobs/{id}/rating"),
    ("GET", "/v1/providers/me/reviews"),
    ("GET", "/v1/providers/me/performance"),
    ("GET", "/v1/providers/me/dashboard"),
    ("GET", "/v1/admin/providers/{id}/performance"),
    ("GET", "/v1/admin/performance"),
    ("GET", "/v1/admin/acceptance"),
    ("GET", "/v1/admin/providers/{id}/reviews"),
    ("POST", "/v1/providers"),
    ("GET", "/v1/providers/me"),
    ("PATCH", "/v1/providers/me"),
    ("PUT", "/v1/providers/me/online"),
    ("GET", "/v1/providers/me/onboarding"),
    ("POST", "/v1/providers/me/documents"),
    ("GET", "/v1/providers/me/documents"),
    ("GET", "/v1/providers/me/documents/{id}/link"),
    ("GET", "/v1/files/{token}"),
    ("POST", "/v1/providers/me/vehicles"),
    ("GET", "/v1/providers/me/vehicles"),
    ("PATCH", "/v1/providers/me/vehicles/{id}"),
    ("POST", "/v1/providers/me/vehicles/{id}/activate"),
    ("GET", "/v1/admin/verification"),
    ("GET", "/v1/admin/providers/{id}/documents"),
    ("GET", "/v1/admin/documents/{id}/link"),
    ("POST", "/v1/admin/documents/{id}/review"),
    ("POST", "/v1/admin/vehicles/{id}/review"),
    ("POST", "/v1/admin/providers/{id}/actions"),
    ("GET", "/v1/admin/jobs"),
    ("POST", "/v1/admin/jobs/{id}/release"),
    ("GET", "/v1/admin/jobs/{id}/why"),
    ("GET", "/v1/providers/me/jobs/{id}/why"),
    ("GET", "/v1/notifications"),
    ("GET", "/v1/notifications/unread_count"),
    ("POST", "/v1/notifications/{id}/read"),
    ("POST", "/v1/notifications/read-all"),
    ("POST", "/v1/devices"),
    ("GET", "/v1/devices"),
    ("DELETE", "/v1/devices/{id}"),
    ("GET", "/v1/admin/deliveries"),
    ("POST", "/v1/admin/deliveries/{id}/requeue"),
    ("POST", "/v1/earnings/calculate"),
    ("GET", "/v1/providers/me/earnings"),
    ("GET", "/v1/providers/me/earnings/chart"),
    ("GET", "/v1/providers/me/earnings/items"),
    ("GET", "/v1/admin/providers/{id}/earnings"),
    ("GET", "/v1/admin/providers/{id}/earnings/items"),
    ("POST", "/v1/jobs/{id}/tip"),
    ("POST", "/v1/admin/providers/{id}/adjustments"),
    ("POST", "/v1/admin/earnings/{id}/reverse"),
    ("GET", "/v1/incentives"),
    ("GET", "/v1/admin/incentives"),
    ("POST", "/v1/admin/incentives"),
    ("PATCH", "/v1/admin/incentives/{id}"),
    ("GET", "/v1/wallet"),
    ("GET", "/v1/wallet/entries"),
    ("POST", "/v1/providers/me/bank-accounts"),
    ("GET", "/v1/providers/me/bank-accounts"),
    ("DELETE", "/v1/providers/me/bank-accounts/{id}"),
    ("POST", "/v1/withdrawals"),
    ("GET", "/v1/withdrawals"),
    ("GET", "/v1/withdrawals/{id}"),
    ("GET", "/v1/admin/providers/{id}/bank-accounts"),
    ("GET", "/v1/admin/withdrawals"),
    ("GET", "/v1/admin/withdrawals/{id}"),
    ("POST", "/v1/admin/withdrawals/{id}/actions"),
}
"""Section 2 of the wire contract."""


def an_object(required: str = "", /, **fields: Any) -> dict[str, Any]:
    """A JSON Schema of an object that has these fields and no others, but extensions."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "patternProperties": {"^x-": True},
        "additionalProperties": False,
    }


def a_map(of: Any, names: str = ".") -> dict[str, Any]:
    return {"type": "object", "patternProperties": {names: of}, "additionalProperties": False}


def a_list(of: Any) -> dict[str, Any]:
    return {"type": "array", "items": of}


def or_reference(what: str) -> dict[str, Any]:
    reference = an_object("$ref", **{"$ref": {"type": "string"}, "summary": TEXT, "description": TEXT})
    return {
        "if": {"type": "object", "required": ["$ref"]},
        "then": reference,
        "else": {"$ref": f"#/$defs/{what}"},
    }


TEXT: dict[str, Any] = {"type": "string"}
YES_NO: dict[str, Any] = {"type": "boolean"}
# A Schema Object is one of JSON Schema 2020-12, which jsonschema checks by its own rules.
SCHEMA: dict[str, Any] = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
CONTENT = a_map(an_object(schema=SCHEMA, example=True, examples=True), "^[a-z]+/[a-z0-9.+-]+$")
A_NAME = "^[a-zA-Z0-9._-]+$"
OPERATION = an_object(
    "operationId responses",
    tags=a_list(TEXT),
    summary=TEXT,
    description=TEXT,
    operationId=TEXT,
    parameters=a_list(or_reference("parameter")),
    requestBody=an_object("content", description=TEXT, required=YES_NO, content=CONTENT),
    responses=a_map(or_reference("response"), "^([1-5][0-9][0-9]|default)$"),
    deprecated=YES_NO,
    security=a_list(a_map(a_list(TEXT))),
)
RULES: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "parameter": an_object(
            "name in schema",
            name=TEXT,
            **{"in": {"enum": ["query", "header", "path", "cookie"]}},
            description=TEXT,
            required=YES_NO,
            deprecated=YES_NO,
            schema=SCHEMA,
        )
        | {
            "if": {"properties": {"in": {"const": "path"}}},
            "then": {"properties": {"required": {"const": True}}, "required": ["required"]},
        },
        "response": an_object(
            "description", description=TEXT, headers=a_map(or_reference("header")), content=CONTENT, links=True
        ),
        "header": an_object("schema", description=TEXT, required=YES_NO, deprecated=YES_NO, schema=SCHEMA),
    },
    **an_object(
        "openapi info paths",
        openapi={"type": "string", "pattern": r"^3\.1\.\d+$"},
        info=an_object("title version", title=TEXT, summary=TEXT, description=TEXT, version=TEXT),
        servers=a_list(an_object("url", url=TEXT, description=TEXT)),
        security=a_list(a_map(a_list(TEXT))),
        tags=a_list(an_object("name", name=TEXT, description=TEXT)),
        paths=a_map(
            an_object(
                summary=TEXT,
                description=TEXT,
                parameters=a_list(or_reference("parameter")),
                **dict.fromkeys(("get", "put", "post", "patch", "delete"), OPERATION),
            ),
            "^/",
        ),
        components=an_object(
            schemas=a_map(SCHEMA, A_NAME),
            parameters=a_map(or_reference("parameter"), A_NAME),
            headers=a_map(or_reference("header"), A_NAME),
            securitySchemes=a_map(an_object("type", type=TEXT, scheme=TEXT, bearerFormat=TEXT), A_NAME),
        ),
    ),
}
"""What OpenAPI 3.1.0 section 4.8 asks of the objects that we use, in our words: the official schema is not at hand offline."""


def nodes(node: Any) -> Iterator[Any]:
    yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(part)


def operations(found: dict[str, Any] = DOCUMENT) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in found["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


def resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


async def nothing(call: Call) -> Answered:
    return Answered(b"{}")


def a_route(path: str = "/v1/things", **changes: Any) -> Route:
    return replace(Route("GET", path, nothing, "Things", Me), **changes)


def responses(route: Route) -> dict[str, Any]:
    ((_, _, operation),) = operations(document([route], version="1"))
    found: dict[str, Any] = operation["responses"]
    return found


def codes(response: dict[str, Any]) -> list[str]:
    _, narrowed = response["content"]["application/json"]["schema"]["allOf"]
    found: list[str] = narrowed["properties"]["error"]["properties"]["code"]["enum"]
    return found


def test_it_keeps_the_rules_of_openapi_3_1() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    jsonschema.Draft202012Validator(RULES).validate(DOCUMENT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.pop("info"),
        lambda found: found["paths"]["/v1/jobs"]["post"].pop("responses"),
        lambda found: found["paths"]["/v1/jobs/{id}"]["parameters"][0].pop("required"),
        lambda found: found["paths"]["/v1/jobs"]["get"]["parameters"][0].update(type="string"),
        lambda found: found["paths"]["/v1/jobs"]["get"]["responses"]["200"].pop("description"),
        lambda found: found["components"]["schemas"]["Job"].update(type="text"),
        lambda found: found["paths"].update({"v1/nowhere": {}}),
    ],
)
def test_the_rules_notice_what_is_wrong(spoil: Any) -> None:
    spoilt = json.loads(json.dumps(DOCUMENT))
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(RULES).validate(spoilt)


def test_every_route_is_in_it_and_those_of_the_contract_are_among_them() -> None:
    described = [(method, path) for method, path, _ in operations()]
    assert sorted(described) == sorted((route.method, route.path) for route in ROUTES)
    assert set(described) >= CONTRACT


def test_every_reference_leads_somewhere_and_no_schema_is_left_over() -> None:
    references = {node["$ref"] for node in nodes(DOCUMENT) if isinstance(node, dict) and "$ref" in node}
    assert references
    for reference in references:
        assert isinstance(resolved(reference), dict), reference
    for kind in ("schemas", "parameters"):
        left_over = set(DOCUMENT["components"][kind]) - {reference.rpartition("/")[2] for reference in references}
        assert not left_over


def test_operations_have_names_of_their_own_and_known_tags() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, _, operation in operations() for tag in operation["tags"]} == tags
    assert tags >= {
        "auth",
        "me",
        "socket",
        "quotes",
        "jobs",
        "providers",
        "admin",
        "support",
        "notifications",
        "devices",
    }


def test_the_parameters_of_a_path_are_those_of_its_template() -> None:
    for path, item in DOCUMENT["paths"].items():
        declared = {parameter["name"]: parameter for parameter in item.get("parameters", [])}
        assert set(declared) == set(re.findall(r"{(\w+)}", path))
        for name, parameter in declared.items():
            kind = {"pattern": f"^{SEAL}$"} if name == "token" else {"format": "uuid"}
            assert parameter["schema"] == {"type": "string", **kind}


def test_query_parameters_are_those_that_the_route_knows() -> None:
    by_name = {(method, path): operation for method, path, operation in operations()}
    for route in ROUTES:
        found = by_name[(route.method, route.path)]["parameters"]
        assert [one["name"] for one in found if one.get("in") == "query"] == list(route.query)
    listing = by_name[("GET", "/v1/jobs")]["parameters"]
    limit = next(one for one in listing if one.get("name") == "limit")["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 100, 50)


def test_only_routes_that_honour_it_name_the_idempotency_key() -> None:
    reference = {"$ref": "#/components/parameters/IdempotencyKey"}
    by_name = {(method, path): operation for method, path, operation in operations()}
    for route in ROUTES:
        named = by_name[(route.method, route.path)]["parameters"]
        assert (reference in named) is (route.idempotent and not route.key_required)
        assert ({"$ref": "#/components/parameters/RequiredIdempotencyKey"} in named) is route.key_required
        assert route.idempotent or not route.key_required
    assert resolved(reference["$ref"])["name"] == "Idempotency-Key"


def test_every_answer_has_a_request_id_and_every_refusal_the_one_shape() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            assert response["headers"]["X-Request-Id"] == {"$ref": "#/components/headers/RequestId"}
            if int(status) >= 400:
                shape, _ = response["content"]["application/json"]["schema"]["allOf"]
                assert shape == {"$ref": "#/components/schemas/ErrorBody"}
                assert all(status_of(ErrorCode(code)) == int(status) for code in codes(response))
                assert ("Retry-After" in response["headers"]) is (status in ("429", "503"))


def test_a_route_answers_what_its_form_allows_and_what_it_says_itself() -> None:
    anyone = responses(a_route(who="anyone"))
    assert set(anyone) == {"200", "400", "429", "500", "503"}
    user = responses(a_route())
    assert set(user) == {*anyone, "401", "403"}
    assert codes(user["401"]) == ["UNAUTHORIZED", "SESSION_EXPIRED"]
    assert "404" in responses(a_route("/v1/things/{id}"))
    posted = responses(
        a_route(method="POST", body=AcceptRequest, idempotent=True, errors=(ErrorCode.JOB_NOT_AVAILABLE,))
    )
    assert codes(posted["409"]) == ["IDEMPOTENCY_KEY_REUSED", "REQUEST_IN_PROGRESS", "JOB_NOT_AVAILABLE"]
    assert codes(posted["413"]) == ["BODY_TOO_LARGE"]
    assert "409" not in user
    assert "413" not in user


def test_a_token_is_asked_for_except_where_anyone_may_call() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer"}
    ((_, _, anyone),) = operations(document([a_route(who="anyone")], version="1"))
    assert anyone["security"] == []
    open_to_all = {(route.method, route.path) for route in ROUTES if route.who == "anyone"}
    assert {(method, path) for method, path, operation in operations() if "security" in operation} == open_to_all


def test_a_body_may_be_left_out_when_it_has_no_required_field() -> None:
    for body, required in ((CancelRequest, False), (ProviderRequest, True)):
        ((_, _, operation),) = operations(document([a_route(method="POST", body=body)], version="1"))
        assert operation["requestBody"]["required"] is required


def test_a_form_is_multipart_with_its_file_beside_its_fields() -> None:
    upload = next(
        operation for method, path, operation in operations() if path.endswith("me/documents") and method == "POST"
    )
    (kind,) = upload["requestBody"]["content"]
    schema = upload["requestBody"]["content"][kind]["schema"]
    assert kind == "multipart/form-data"
    assert list(schema["properties"]) == ["document_type", "expiry_date", "file"]
    assert schema["required"] == ["document_type", "file"]
    assert schema["properties"]["file"]["format"] == "binary"
    assert "413" in upload["responses"]


def test_an_answer_of_two_shapes_and_one_without_a_body() -> None:
    (two,) = (responses(a_route(answer=Job | Me))["200"]["content"]["application/json"]["schema"],)
    assert two == {"anyOf": [{"$ref": "#/components/schemas/Job"}, {"$ref": "#/components/schemas/Me"}]}
    assert "content" not in responses(a_route(answer=None, status=204))["204"]
    page = responses(a_route(answer=Page[Job]))["200"]["content"]["application/json"]["schema"]
    assert page == {"$ref": "#/components/schemas/Page_Job_"}


def test_two_routes_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="GET /v1/things is served twice"):
        document([a_route(), a_route()], version="1")


def test_what_a_client_writes_is_what_the_document_says() -> None:
    schema = {"$ref": "#/components/schemas/AcceptRequest", "components": DOCUMENT["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(codec.encode(AcceptRequest(offer_id=uuid4(), round=1))))
    for refused in ({"offer": "x"}, {"offer_id": None}, {"round": -1}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(refused)
