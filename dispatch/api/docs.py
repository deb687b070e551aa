"""The descriptions of the wire, for programs and for people: /openapi.json, /asyncapi.json, /docs.

Swagger UI comes out of the installed package swagger-ui-py as plain files. That package is never imported: it would
bring a template engine along, and its page has a script inside, which our policy forbids.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from dispatch.api.openapi import document
from dispatch.kit.route import Route
from protocol.asyncapi import asyncapi

PACKAGE: Final = "swagger_ui"
FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "index.css": "text/css",
    "favicon-32x32.png": "image/png",
}
"""What the page needs of the package, and nothing else of it is served."""

# The last three are not covered by default-src.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# The files change only with the package, and then their names do not.
_KEPT: Final = _HEADERS | {"Cache-Control": "public, max-age=3600"}

# Addresses are relative, so that all of it also works behind a proxy that adds a prefix.
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Dispatch API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/index.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
  persistAuthorization: false,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""


def add_docs(app: web.Application, routes: Sequence[Route], version: str) -> None:
    """Serve the documents of `routes` and of the socket. Each is made when it is first asked for.

    Raises RuntimeError when swagger-ui-py is not installed.
    """
    static = _static_folder()

    @cache
    def openapi() -> bytes:
        return orjson.dumps(document(routes, version=version))

    @cache
    def sockets() -> bytes:
        return orjson.dumps(asyncapi(version))

    _get(app, "/openapi.json", lambda: _said(openapi(), "application/json"))
    _get(app, "/asyncapi.json", lambda: _said(sockets(), "application/json"))
    _get(app, "/docs", lambda: _said(_PAGE.encode(), "text/html"))
    _get(app, "/docs/start.js", lambda: _said(_START.encode(), "text/javascript"))
    for name, kind in FILES.items():
        _get(app, f"/docs/{name}", _file(static / name, kind))


def _static_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders or not all((Path(folders[0], "static") / name).is_file() for name in FILES):
        raise RuntimeError("the files of Swagger UI are missing; install swagger-ui-py as requirements.lock has it")
    return Path(folders[0], "static")


def _get(app: web.Application, path: str, answer: Callable[[], web.StreamResponse]) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    app.router.add_route("GET", path, handle)


def _said(body: bytes, kind: str) -> web.Response:
    return web.Response(
        body=body, content_type=kind, charset=None if kind.endswith("json") else "utf-8", headers=_HEADERS
    )


def _file(path: Path, kind: str) -> Callable[[], web.StreamResponse]:
    def answer() -> web.StreamResponse:
        headers: dict[str, Any] = {**_KEPT, "Content-Type": kind}
        return web.FileResponse(path, headers=headers)

    return answer
