import gzip
import re
from typing import Any, cast

import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, get
from litestar.config.compression import CompressionConfig

from lms.settings import Settings
from lms.web.docs import PRECOMPRESSED, docs_router
from lms.web.etags import ConditionalReads
from lms.web.openapi import openapi_config
from lms.web.problems import render_problem
from lms.web.requests import check_request
from lms.web.security_headers import SecurityHeaders

pytestmark = pytest.mark.quick

ADDRESS = re.compile(r"""(?:src|href)="([^"]+)"|url: "([^"]+)\"""")


@get("/api/v1/courses")
async def list_courses() -> dict[str, str]:
    """Courses."""
    return {}


def client_of(compression: CompressionConfig | None = None) -> AsyncClient:
    app = Litestar(
        [list_courses, docs_router],
        middleware=[ConditionalReads()],
        before_request=check_request,
        compression_config=compression,
        exception_handlers={Exception: render_problem},
        openapi_config=openapi_config("Open School"),
        logging_config=None,
    )
    guarded = SecurityHeaders(app, Settings.model_construct())
    return AsyncClient(transport=ASGITransport(cast("Any", guarded)), base_url="http://lms")


async def test_the_page_and_all_it_loads_come_from_here() -> None:
    client = client_of()
    page = await client.get("/docs?utm_source=mail")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    start = (await client.get("/docs/assets/start.js")).text
    found = [source or url for source, url in ADDRESS.findall(page.text + start)]
    assert len(found) == 6
    assert "http:" not in page.text + start
    assert "https:" not in page.text + start
    for address in found:
        answer = await client.get(address)
        assert answer.status_code == 200, address


async def test_the_policy_of_the_page_allows_nothing_from_elsewhere_and_no_inline_script() -> None:
    page = await client_of().get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert not re.search(r"<script>|<style|\son\w+=|style=", page.text)


async def test_assets_are_kept_for_a_year_under_their_version_only() -> None:
    client = client_of()
    page = await client.get("/docs")
    address = next(one for one in re.findall(r'src="([^"]+)"', page.text) if "start.js" in one)
    assert (await client.get(address)).headers["cache-control"] == "public, max-age=31536000, immutable"
    for other in ("/docs/assets/start.js", "/docs/assets/start.js?v=other"):
        assert (await client.get(other)).headers["cache-control"] == "public, no-cache"
    bundle = await client.get("/docs/assets/swagger-ui-bundle.js")
    again = await client.get("/docs/assets/swagger-ui-bundle.js", headers={"If-None-Match": bundle.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["index.html", "..%2f__init__.py", "swagger-ui-standalone-preset.js"])
async def test_nothing_else_of_the_package_is_served(name: str) -> None:
    answer = await client_of().get(f"/docs/assets/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_document_is_served_with_an_etag() -> None:
    client = client_of()
    first = await client.get("/api/v1/openapi.json")
    assert first.headers["content-type"] == "application/json"
    assert first.json()["paths"]["/api/v1/courses"]["get"]["operationId"] == "list_courses"
    assert list(first.json()["paths"]) == ["/api/v1/courses"]
    again = await client.get("/api/v1/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "compression",
    [None, CompressionConfig("gzip"), CompressionConfig("gzip", exclude_opt_key=PRECOMPRESSED)],
    ids=["none", "of everything", "of the rest"],
)
@pytest.mark.parametrize("wanted", ["gzip, br", "identity"])
async def test_everything_arrives_whole_whatever_compresses(compression: CompressionConfig | None, wanted: str) -> None:
    client = client_of(compression)
    for path in ("/docs/assets/swagger-ui-bundle.js", "/api/v1/openapi.json"):
        plain = (await client_of().get(path, headers={"Accept-Encoding": "identity"})).content
        async with client.stream("GET", path, headers={"Accept-Encoding": wanted}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        zipped = wanted != "identity"
        assert ("content-encoding" in answer.headers) == zipped
        assert "Accept-Encoding" in answer.headers["vary"]
        assert (gzip.decompress(raw) if zipped else raw) == plain
