import re
import subprocess
import sys
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import jsonschema
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from dispatch.api import docs
from dispatch.kit.route import Answered, Call, Route
from protocol.asyncapi import asyncapi
from protocol.resources import Me

Client = TestClient[web.Request, web.Application]


async def nothing(call: Call) -> Answered:
    return Answered(b"{}")


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application()
    docs.add_docs(app, [Route("GET", "/v1/me", nothing, "The own user", Me)], "1.2.3")
    async with TestClient(TestServer(app)) as running:
        yield running


class Links(HTMLParser):
    """What a page fetches, and whether it holds code or style of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.inline: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        for name, value in attrs:
            if name in ("src", "href") and value is not None:
                self.fetched.append(value)
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style") and data.strip():
            self.inline.append(data)


async def test_the_page_fetches_only_from_here_and_holds_no_script_of_its_own(client: Client) -> None:
    response = await client.get("/docs")
    page = await response.text()
    assert response.content_type == "text/html"
    links = Links()
    links.feed(page)
    assert links.inline == []
    assert "docs/swagger-ui-bundle.js" in links.fetched
    assert not re.search(r"(https?:)?//", page)
    for address in links.fetched:
        found = await client.get(f"/{address}")
        assert found.status == 200, address
        assert await found.read()


async def test_the_start_of_the_page_names_our_document_and_no_validator(client: Client) -> None:
    response = await client.get("/docs/start.js")
    script = await response.text()
    assert response.content_type == "text/javascript"
    assert 'url: "openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "//" not in script


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/openapi.json"])
async def test_the_policy_lets_nothing_in_from_elsewhere(client: Client, path: str) -> None:
    response = await client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("img-src") == "'self' data:"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "font-src")} == {"'self'"}
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("name", "kind"), docs.FILES.items())
async def test_the_files_have_their_types(client: Client, name: str, kind: str) -> None:
    response = await client.get(f"/docs/{name}")
    assert response.status == 200
    assert response.content_type == kind


@pytest.mark.parametrize(
    "name", ["swagger-editor.js", "LICENSE", "..%2F__init__.py", "%2Fetc%2Fpasswd", "../settings.py"]
)
async def test_nothing_else_of_the_package_is_served(client: Client, name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status == 404


async def test_both_documents_are_served(client: Client) -> None:
    found = await (await client.get("/openapi.json")).json()
    assert found["openapi"] == "3.1.0"
    assert found["info"]["version"] == "1.2.3"
    assert list(found["paths"]) == ["/v1/me"]
    jsonschema.Draft202012Validator.check_schema(found["components"]["schemas"]["Me"])
    assert await (await client.get("/asyncapi.json")).json() == asyncapi("1.2.3")


def test_the_package_is_not_imported() -> None:
    """It brings a template engine and a YAML parser, which a server's start need not pay for."""
    program = (
        "import sys; from aiohttp import web; from dispatch.api.docs import add_docs; "
        "add_docs(web.Application(), [], '1'); print([n for n in ('swagger_ui', 'jinja2', 'yaml') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "PACKAGE", "no_such_package")
    with pytest.raises(RuntimeError, match="install swagger-ui-py"):
        docs.add_docs(web.Application(), [], "1")
