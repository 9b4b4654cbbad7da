"""Every route answers every failure in the one shape."""

import asyncio
import uuid
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, PyMongoError

from lms.accounts.documents import User
from lms.app import create_app
from lms.errors import LMSError, code_of
from lms.settings import Settings
from tests.conftest import ClientFor, open_client, running, settings_for
from tests.web.shape import check_shape

ROOT = "http://lms.test"


def routes(app: Litestar) -> Generator[tuple[str, str, dict[str, Any]]]:
    """Method, address with unknown ids, and options of everything that is served."""
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        ids = {name: uuid.uuid4() for name in route.path_parameters}
        path = "".join(f"/{part if isinstance(part, str) else ids[part.name]}" for part in route.path_components)
        for method, (handler, _) in route.route_handler_map.items():
            yield method, path, dict(handler.opt)


async def test_an_unknown_parameter_is_refused_by_every_route_that_does_not_say_otherwise(
    app: Litestar, client_for: ClientFor, ada: User
) -> None:
    client, asked = await client_for(ada), 0
    for method, path, opt in routes(app):
        if method == "OPTIONS" or opt.get("any_query"):
            continue
        answer = await client.request(method, f"{ROOT}{path}?no_such_parameter=1")
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), f"{method} {path}"
        assert answer.json()["errors"][0]["parameter"] == "no_such_parameter"
        check_shape(answer)
        asked += 1
    assert asked > 25


@pytest.mark.parametrize("who", ["visitor", "student", "administrator"])
async def test_whatever_fails_has_the_shape(
    app: Litestar, client: httpx.AsyncClient, client_for: ClientFor, sam: User, ada: User, who: str
) -> None:
    people = {"visitor": client, "student": await client_for(sam), "administrator": await client_for(ada)}
    refused = 0
    for method, path, _ in routes(app):
        for content in (b"", b"[1]"):
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            answer = await people[who].request(method, ROOT + path, content=content, headers=headers)
            # Readiness tells what is wrong in words of its own.
            if answer.status_code >= 400 and path != "/health/ready":
                check_shape(answer)
                refused += 1
    assert refused > 25


async def test_nothing_but_the_methods_of_a_route_is_answered(app: Litestar, client: httpx.AsyncClient) -> None:
    known = {(method, path) for method, path, _ in routes(app)}
    for path in {path for _, path in known}:
        answer = await client.request("TRACE", ROOT + path)
        assert answer.status_code == 405
        check_shape(answer)


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v2/courses", "/favicon.ico", "/api/v1/courses/x/y/z"])
async def test_unknown_addresses_are_a_404_in_the_shape(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(ROOT + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    check_shape(answer)


SECRET = "mongodb://user:hunter2@db.internal"


def labelled(code: int, label: str) -> PyMongoError:
    return OperationFailure(SECRET, code, {"errorLabels": [label]})


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError(SECRET), 500, "internal_error"),
        (OperationFailure(SECRET, 2), 500, "internal_error"),
        (AutoReconnect(SECRET), 503, "unavailable"),
        (NetworkTimeout(SECRET), 503, "unavailable"),
        (OperationFailure(SECRET, 50), 503, "unavailable"),
        (labelled(251, "TransientTransactionError"), 503, "unavailable"),
        (labelled(64, "UnknownTransactionCommitResult"), 503, "unavailable"),
        (TimeoutError(SECRET), 500, "internal_error"),
    ],
)
async def test_what_breaks_inside_shows_a_request_id_and_nothing_else(
    settings: Settings, error: Exception, status: int, code: str
) -> None:
    @get("/broken")
    async def broken() -> None:
        raise error

    app = create_app(settings)
    app.register(broken)
    async with running(app), open_client(app, Origin="https://app.school.example") as client:
        answer = await client.get(f"{ROOT}/broken")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "hunter2" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "https://app.school.example"
    check_shape(answer)


async def test_a_request_that_takes_too_long_is_given_up(mongodb_url: str) -> None:
    given_up = asyncio.Event()

    @get("/slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    app = create_app(settings_for(mongodb_url, "", LMS_REQUEST_TIMEOUT_SECONDS="0.05"))
    app.register(slow)
    async with running(app), open_client(app) as client:
        answer = await client.get(f"{ROOT}/slow")
    assert (answer.status_code, answer.json()["code"]) == (503, "request_timeout")
    assert given_up.is_set()
    check_shape(answer)


def subclasses(base: type[LMSError]) -> Generator[type[LMSError]]:
    for one in base.__subclasses__():
        yield one
        yield from subclasses(one)


def test_every_error_has_a_code_of_its_own_and_a_sentence(app: Litestar) -> None:
    found = [
        one for one in subclasses(LMSError) if one.__module__.startswith("lms.") and not one.__name__.startswith("_")
    ]
    assert len(found) > 20
    for one in found:
        assert 400 <= one.status < 600
        assert one.detail[0].isupper()
        assert one.detail.endswith(".")
    named = [one for one in found if one.__module__ != "lms.errors"]
    codes = [(one.status, one.code) for one in named]
    assert len(set(codes)) == len(codes)


def test_a_code_is_the_class_name_in_words() -> None:
    names = ("AlreadyEnrolled", "NotFound", "PDFTooLarge", "X2Y")
    assert [code_of(name) for name in names] == ["already_enrolled", "not_found", "pdf_too_large", "x2_y"]
