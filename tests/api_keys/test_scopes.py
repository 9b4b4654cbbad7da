"""Every scope at every route, as the route table says: a new route is tested by being there."""

from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.api_keys.documents import Scope
from lms.courses.documents import Course
from lms.web.openapi_errors import signs_in
from tests.api_keys.keys import ALL, a_key, bearer, routes_of
from tests.commands import Commands
from tests.conftest import open_client
from tests.web.shape import check_shape

OUT = {"scope_missing", "api_key_not_allowed", "unauthenticated", "wrong_role"}
UNKNOWN = "0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03"


def path_of(path: str, course: Course) -> str:
    known = {"course_id": str(course.id), "slug": course.slug, "lesson_id": course.lessons[0].id}
    parts = [known.get(part[1:-1], UNKNOWN) if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def scope_of(handler: HTTPRouteHandler) -> Scope | None:
    return handler.opt.get("scope")


async def ask(client: httpx.AsyncClient, method: str, path: str, text: str) -> httpx.Response:
    more: dict[str, Any] = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
    return await client.request(method, f"http://lms.test{path}", headers=bearer(text), **more)


def code_of(response: httpx.Response) -> str:
    is_problem = response.headers.get("content-type") == "application/problem+json"
    return response.json()["code"] if is_problem else "ok"


def test_every_scope_opens_a_route_and_every_route_names_one_that_there_is(app: Litestar) -> None:
    named = {scope for _, _, handler in routes_of(app) if (scope := scope_of(handler))}
    assert named == set(Scope)
    assert all(isinstance(scope, Scope) for scope in named)


async def test_with_all_scopes_but_the_one_it_needs_a_key_is_kept_out(
    app: Litestar, client: httpx.AsyncClient, ada: User, course: Course
) -> None:
    lacking = {scope: (await a_key(ada, *(one for one in ALL if one is not scope)))[1] for scope in ALL}
    seen = 0
    for method, path, handler in routes_of(app):
        scope = scope_of(handler)
        if scope is None:
            continue
        response = await ask(client, method, path_of(path, course), lacking[scope])
        assert (response.status_code, code_of(response)) == (403, "scope_missing"), (method, path)
        assert response.json()["scope"] == scope.value
        assert scope.value in response.json()["detail"]
        assert "ratelimit" in response.headers
        check_shape(response)
        seen += 1
    assert seen > 15


async def test_with_just_the_one_that_it_needs_a_key_is_let_in(
    app: Litestar, client: httpx.AsyncClient, ada: User, course: Course
) -> None:
    just = {scope: (await a_key(ada, scope))[1] for scope in ALL}
    for method, path, handler in routes_of(app):
        scope = scope_of(handler)
        if scope is not None:
            response = await ask(client, method, path_of(path, course), just[scope])
            assert code_of(response) not in OUT, (method, path, response.text)


async def test_what_asks_who_one_is_and_names_no_scope_takes_no_key(
    app: Litestar, client: httpx.AsyncClient, ada: User, course: Course, commands: Commands
) -> None:
    _, text = await a_key(ada, *ALL)
    commands.seen.clear()
    closed: set[str] = set()
    for method, path, handler in routes_of(app):
        if scope_of(handler) is None and signs_in(handler) != "never":
            response = await ask(client, method, path_of(path, course), text)
            if signs_in(handler) == "maybe" and code_of(response) == "validation_failed":
                # Nobody has to sign in, so the body is read first; tests/permissions sends a good one.
                continue
            assert (response.status_code, code_of(response)) == (403, "api_key_not_allowed"), (method, path)
            assert "www-authenticate" not in response.headers
            check_shape(response)
            closed.add(f"{method} {path.removeprefix('/api/v1')}")
    assert closed >= {
        "POST /auth/api-keys",
        "GET /auth/api-keys",
        "DELETE /auth/api-keys/{key_id}",
        "GET /auth/sessions",
        "POST /auth/logout-all",
        "POST /auth/change-password",
        "PATCH /users/me",
        "POST /enrollments",
    }
    # The key is not even looked up.
    assert commands.names == []


async def test_where_nobody_is_asked_who_they_are_a_key_changes_nothing(
    app: Litestar, client: httpx.AsyncClient, ada: User, course: Course, commands: Commands
) -> None:
    _, text = await a_key(ada, *ALL)
    for method, path, handler in routes_of(app):
        if signs_in(handler) == "never" and not handler.opt.get("own_credentials"):
            commands.seen.clear()
            response = await ask(client, method, path_of(path, course), text)
            assert code_of(response) not in OUT, (method, path)
            assert all(command.get("find") != "api_keys" for _, command in commands.seen)


async def test_a_key_is_no_more_than_its_owner(
    client: httpx.AsyncClient, ivy: User, oscar: User, course: Course, database: AsyncDatabase[dict[str, Any]]
) -> None:
    _, hers = await a_key(ivy, *ALL)
    _, his = await a_key(oscar, *ALL)
    await database["courses"].update_one({"_id": course.id}, {"$set": {"status": "draft"}})
    for text, status in ((hers, 200), (his, 404)):
        assert (await client.get(f"/courses/{course.id}", headers=bearer(text))).status_code == status
    audit = await client.get("/audit", headers=bearer(hers))
    assert (audit.status_code, audit.json()["code"]) == (403, "wrong_role")
    body = {"title": "Tides"}
    changed = await client.patch(f"/courses/{course.id}", json=body, headers=bearer(his))
    assert changed.status_code == 404
    changed = await client.patch(f"/courses/{course.id}", json=body, headers=bearer(hers))
    assert (changed.status_code, changed.json()["title"]) == (200, "Tides")


async def test_a_public_read_with_a_key_acts_as_its_owner_where_lists_are_kept_too(
    client: httpx.AsyncClient, ivy: User, course: Course, database: AsyncDatabase[dict[str, Any]]
) -> None:
    await database["courses"].update_one({"_id": course.id}, {"$set": {"status": "draft"}})
    _, text = await a_key(ivy, Scope.COURSES_READ)
    listed = await client.get("/courses", params={"status": "draft"}, headers=bearer(text))
    assert [one["id"] for one in listed.json()["items"]] == [str(course.id)]
    _, other = await a_key(ivy, Scope.COURSES_WRITE)
    refused = await client.get("/courses", headers=bearer(other))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize("parameter", ["key", "api_key", "access_token", "Authorization"])
async def test_a_key_in_the_query_does_nothing(
    client: httpx.AsyncClient, ada: User, commands: Commands, parameter: str
) -> None:
    _, text = await a_key(ada, *ALL)
    commands.seen.clear()
    response = await client.get("/users/me", params={parameter: text})
    assert response.status_code == 401
    open_to_all = await client.get("http://lms.test/verify/123", params={parameter: text})
    assert open_to_all.status_code == 404
    assert text not in response.text + open_to_all.text
    assert all(command.get("find") != "api_keys" for _, command in commands.seen)


async def test_keys_of_one_person_share_their_owners_limit(app: Litestar, ada: User) -> None:
    async with open_client(app) as client:
        left: list[int] = []
        for _ in range(3):
            _, text = await a_key(ada, Scope.PROFILE_READ)
            told = (await client.get("/users/me", headers=bearer(text))).headers["ratelimit"]
            left.append(int(told.split("r=")[1].split(";")[0]))
        assert left[0] > left[1] > left[2]
