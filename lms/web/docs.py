"""The API reference: `/api/v1/openapi.json`, and `/docs`, which needs no internet.

The page is Swagger UI from the package openapi-ui-bundles (Apache-2.0). It loads nothing but files of ours, and its
content security policy forbids everything else.
"""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from litestar import Controller, Litestar, Request, Response, Router, get
from litestar.params import FromPath
from openapi_ui_bundles import swagger_ui

from lms.errors import NotFound
from lms.web.openapi import build_schema

SCHEMA_PATH = "/api/v1/openapi.json"
PRECOMPRESSED = "precompressed"
"""What `CompressionConfig.exclude_opt_key` should be: 1.4 MB are compressed once and not for everyone who looks."""

A_YEAR = "public, max-age=31536000, immutable"
ASK_AGAIN = "public, no-cache"
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
BUNDLED = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
START = f"""\
SwaggerUIBundle({{
  url: "{SCHEMA_PATH}",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: false,
  validatorUrl: null,
}});
"""
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference</title>
<link rel="icon" type="image/png" href="/docs/assets/favicon-32x32.png?v={version}">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css?v={version}">
</head>
<body>
<noscript>This page needs JavaScript; the same as data is at <a href="{schema}">{schema}</a>.</noscript>
<div id="reference"></div>
<script src="/docs/assets/swagger-ui-bundle.js?v={version}"></script>
<script src="/docs/assets/start.js?v={version}"></script>
</body>
</html>
"""


class AssetNotFound(NotFound):
    detail = "There is no such file."


@dataclass(frozen=True, slots=True)
class Asset:
    media_type: str
    plain: bytes
    zipped: bytes

    @classmethod
    def of(cls, media_type: str, plain: bytes) -> "Asset":
        return cls(media_type, plain, gzip.compress(plain, mtime=0))

    @property
    def etag(self) -> str:
        return f'"{hashlib.blake2b(self.plain, digest_size=12).hexdigest()}"'

    def respond(self, request: Request[Any, Any, Any], caching: str) -> Response[bytes]:
        zipped = _is_left_alone(request.app) and "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Cache-Control": caching, "ETag": self.etag, "Vary": "Accept-Encoding"}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(self.zipped if zipped else self.plain, media_type=self.media_type, headers=headers)


class DocsController(Controller):
    include_in_schema = False
    opt = {"any_query": True, PRECOMPRESSED: True}

    @get(SCHEMA_PATH)
    async def read_schema(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        asset = await asyncio.to_thread(_schema, request.app)
        return asset.respond(request, ASK_AGAIN)

    @get("/docs")
    async def show_reference(self) -> Response[str]:
        page = PAGE.format(version=_version(), schema=SCHEMA_PATH)
        headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": ASK_AGAIN}
        return Response(page, media_type="text/html", headers=headers)

    @get("/docs/assets/{name:str}")
    async def read_asset(self, request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        if name != "start.js" and name not in BUNDLED:
            raise AssetNotFound
        asset = await asyncio.to_thread(_asset, name)
        return asset.respond(request, A_YEAR if request.query_params.get("v") == _version() else ASK_AGAIN)


docs_router = Router("/", route_handlers=[DocsController])


def _is_left_alone(app: Litestar) -> bool:
    """Whether what is compressed here is not compressed once more on its way out."""
    return app.compression_config is None or app.compression_config.exclude_opt_key == PRECOMPRESSED


def _schema(app: Litestar) -> Asset:
    """Made once, by the first who asks."""
    if "openapi_document" not in app.state:
        app.state["openapi_document"] = Asset.of("application/json", build_schema(app))
    return app.state["openapi_document"]


@cache
def _asset(name: str) -> Asset:
    if name == "start.js":
        return Asset.of("text/javascript", START.encode())
    return Asset.of(BUNDLED[name], (swagger_ui.static_path / name).read_bytes())


@cache
def _version() -> str:
    """Changes with what is served under it."""
    return f"{version('openapi-ui-bundles')}-{hashlib.blake2b(START.encode(), digest_size=4).hexdigest()}"
