from types import SimpleNamespace
from typing import Any, cast

import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, Response, get, post

from lms.settings import Settings
from lms.web.problems import render_problem
from lms.web.security_headers import SecurityHeaders

pytestmark = pytest.mark.quick

OWN = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=60", "Vary": "Accept"}


@get("/api/v1/courses")
async def list_courses() -> dict[str, str]:
    return {}


@get("/page")
async def page() -> Response[str]:
    return Response("hello", headers=OWN)


@post("/api/v1/auth/login")
async def login() -> dict[str, str]:
    return {}


def client_of(*, signed_in: bool = False, **settings: Any) -> AsyncClient:
    app = Litestar(
        [list_courses, page, login],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: render_problem},
    )
    headers = SecurityHeaders(app, Settings(**settings))

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = SimpleNamespace(id=1) if signed_in else None
        await headers(scope, receive, send)

    return AsyncClient(transport=ASGITransport(cast("Any", outermost)), base_url="http://lms")


@pytest.mark.parametrize("path", ["/api/v1/courses", "/nothing"])
async def test_every_answer_is_guarded_errors_too(path: str) -> None:
    headers = (await client_of().get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


async def test_what_an_answer_says_itself_stays() -> None:
    headers = (await client_of(signed_in=True).get("/page")).headers
    assert {name: headers[name] for name in OWN} == OWN


async def test_only_a_public_https_address_promises_https() -> None:
    assert "strict-transport-security" not in (await client_of(public_url="http://lms.example").get("/page")).headers
    headers = (await client_of(public_url="https://lms.example").get("/page")).headers
    assert headers["strict-transport-security"] == "max-age=15552000"


async def test_what_belongs_to_somebody_is_not_kept_by_caches() -> None:
    visitor = (await client_of().get("/api/v1/courses")).headers
    assert "cache-control" not in visitor
    assert visitor["vary"] == "Authorization"
    assert (await client_of(signed_in=True).get("/api/v1/courses")).headers["cache-control"] == "no-store"
    assert (await client_of().post("/api/v1/auth/login")).headers["cache-control"] == "no-store"
    assert (await client_of().get("/nothing")).headers["cache-control"] == "no-store"


async def test_other_scopes_pass_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], send))

    await SecurityHeaders(app, Settings.model_construct())(
        cast("Any", {"type": "lifespan"}), cast("Any", app), cast("Any", app)
    )
    assert seen == [("lifespan", app)]
