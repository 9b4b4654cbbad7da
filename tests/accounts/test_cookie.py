import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from http.cookies import SimpleCookie

import httpx
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from lms.accounts.documents import SignIn, User
from lms.accounts.service import Accounts
from lms.app import create_app
from tests.accounts.people import PASSWORD, Signed, a_person, me, refusal, sign_in
from tests.conftest import HeldClock, open_client, settings_for

ORIGIN = "https://app.school.example"
BROWSER = {"Origin": ORIGIN, "X-LMS-CSRF": "1"}
NAME = "lms_refresh"


@pytest.fixture
async def person(client: httpx.AsyncClient, accounts: Accounts) -> User:
    return await a_person(accounts, "Sam")


def given(response: httpx.Response, name: str = NAME) -> str:
    """What the answer has the browser keep."""
    return SimpleCookie(response.headers["set-cookie"])[name].value


def kept(value: str, **headers: str) -> dict[str, str]:
    return {"Cookie": f"{NAME}={value}", **headers}


async def begin(client: httpx.AsyncClient, person: User, **headers: str) -> httpx.Response:
    body = {"email": person.email, "password": PASSWORD, "delivery": "cookie"}
    answer = await client.post("/auth/login", json=body, headers={"Origin": ORIGIN} | headers)
    # The client must not be a browser by itself here.
    client.cookies.clear()
    return answer


async def refresh(
    client: httpx.AsyncClient, value: str, body: dict[str, str] | None = None, **headers: str
) -> httpx.Response:
    answer = await client.post("/auth/refresh", json=body or {}, headers=kept(value, **(headers or BROWSER)))
    client.cookies.clear()
    return answer


async def test_the_cookie_takes_the_refresh_token_and_the_answer_has_none(
    client: httpx.AsyncClient, person: User
) -> None:
    answer = await begin(client, person)
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_expires_in", "user"}
    assert answer.headers["cache-control"] == "no-store"
    value = given(answer)
    assert value not in answer.text
    (header,) = answer.headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in header.split(";")[1:]}
    assert parts == {"path=/", "max-age=2592000", "httponly", "samesite=strict"}
    assert await me(client, Signed(answer)) == 200


@pytest.fixture
async def in_production(app: Litestar, mongodb_url: str, redis_url: str) -> AsyncGenerator[httpx.AsyncClient]:
    _ = app
    settings = settings_for(
        mongodb_url, redis_url, LMS_ENVIRONMENT="production", LMS_PUBLIC_URL="https://api.school.example"
    )
    app = create_app(settings)
    async with open_client(app) as client:
        yield client
    app.state.accounts.passwords.close()


async def test_over_https_the_cookie_is_secure_and_bound_to_the_host(
    in_production: httpx.AsyncClient, person: User
) -> None:
    answer = await begin(in_production, person)
    (header,) = answer.headers.get_list("set-cookie")
    assert header.startswith("__Host-lms_refresh=")
    parts = {part.strip().lower() for part in header.split(";")[1:]}
    assert parts == {"path=/", "max-age=2592000", "httponly", "samesite=strict", "secure"}
    value = given(answer, "__Host-lms_refresh")
    # Another host of the site can plant one of the plain name.
    planted = await in_production.post("/auth/refresh", json={}, headers=kept(value, **BROWSER))
    assert refusal(planted) == (422, "validation_failed")
    own = await in_production.post("/auth/refresh", json={}, headers={**BROWSER, "Cookie": f"__Host-{NAME}={value}"})
    assert own.status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.school.example.evil.example", ""])
async def test_no_foreign_page_signs_a_browser_in(client: httpx.AsyncClient, person: User, origin: str) -> None:
    answer = await begin(client, person, Origin=origin)
    assert refusal(answer) == (403, "origin_refused")
    assert "set-cookie" not in answer.headers
    assert await SignIn.count() == 0


async def test_refreshing_by_the_cookie_renews_it(client: httpx.AsyncClient, person: User) -> None:
    first = given(await begin(client, person))
    answer = await refresh(client, first)
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()
    second = given(answer)
    assert second.split(".")[:2] == [first.split(".")[0], "1"]
    assert (await refresh(client, second)).status_code == 200


async def test_two_tabs_refresh_at_once(client: httpx.AsyncClient, person: User) -> None:
    first = given(await begin(client, person))
    tabs = await asyncio.gather(*(refresh(client, first) for _ in range(5)))
    assert {answer.status_code for answer in tabs} == {200}
    (second,) = {given(answer) for answer in tabs}
    assert (await refresh(client, second)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-LMS-CSRF": "1"}, "origin_refused"),
        ({"X-LMS-CSRF": "1", "Origin": "https://evil.example"}, "origin_refused"),
        ({"X-LMS-CSRF": "1", "Origin": "http://app.school.example"}, "origin_refused"),
        ({"Origin": ORIGIN}, "csrf_header_missing"),
        ({"Origin": ORIGIN, "X-LMS-CSRF": "0"}, "csrf_header_missing"),
    ],
)
async def test_the_cookie_alone_does_nothing(
    client: httpx.AsyncClient, person: User, headers: dict[str, str], code: str
) -> None:
    value = given(await begin(client, person))
    assert refusal(await refresh(client, value, None, **headers)) == (403, code)
    assert refusal(await client.post("/auth/logout", headers=kept(value, **headers))) == (403, code)
    (stored,) = await SignIn.find_all().to_list()
    assert (stored.generation, stored.ended_at) == (0, None)
    # It is not taken away either.
    assert (await refresh(client, value)).status_code == 200


async def test_two_tokens_are_one_too_many_and_none_too_few(client: httpx.AsyncClient, person: User) -> None:
    value, other = given(await begin(client, person)), (await sign_in(client, person)).refresh_token
    for answer in (await refresh(client, value, {"refresh_token": other}), await client.post("/auth/refresh", json={})):
        assert refusal(answer) == (422, "validation_failed")
        assert [error["pointer"] for error in answer.json()["errors"]] == ["#/refresh_token"]
    assert {row.generation for row in await SignIn.find_all().to_list()} == {0}


async def test_what_is_in_the_cookie_never_goes_into_a_body(client: httpx.AsyncClient, person: User) -> None:
    value = given(await begin(client, person))
    answer = await refresh(client, value, {"delivery": "body"})
    assert refusal(answer) == (422, "validation_failed")
    assert answer.json()["errors"][0]["pointer"] == "#/delivery"


async def test_a_token_of_a_body_can_move_into_the_cookie(client: httpx.AsyncClient, person: User) -> None:
    body = {"refresh_token": (await sign_in(client, person)).refresh_token, "delivery": "cookie"}
    refused = await client.post("/auth/refresh", json=body, headers={"Origin": "https://evil.example"})
    assert refusal(refused) == (403, "origin_refused")
    moved = await client.post("/auth/refresh", json=body, headers={"Origin": ORIGIN})
    assert "refresh_token" not in moved.json()
    client.cookies.clear()
    assert (await refresh(client, given(moved))).status_code == 200


async def test_a_refused_cookie_is_taken_away(client: httpx.AsyncClient, person: User) -> None:
    value = given(await begin(client, person))
    await SignIn.get_pymongo_collection().update_many({}, {"$set": {"ended_at": person.created_at}})
    for worthless in (value, "nonsense"):
        answer = await refresh(client, worthless)
        assert refusal(answer) == (401, "refresh_refused")
        assert is_taken_away(answer)


def is_taken_away(answer: httpx.Response) -> bool:
    return given(answer) == "" and "max-age=0" in answer.headers["set-cookie"].lower()


async def test_a_browser_signs_out_also_when_its_access_token_has_run_out(
    client: httpx.AsyncClient, person: User, held_clock: HeldClock
) -> None:
    first = await begin(client, person)
    value = given(first)
    held_clock.advance(hours=1)
    answer = await client.post("/auth/logout", headers=kept(value, **BROWSER, **Signed(first).header))
    assert (answer.status_code, answer.json()) == (200, {"status": "signed_out"})
    assert is_taken_away(answer)
    assert refusal(await refresh(client, value)) == (401, "refresh_refused")
    again = await client.post("/auth/logout", headers=kept(value, **BROWSER))
    assert (again.status_code, is_taken_away(again)) == (200, True)


async def test_nobody_is_signed_out_by_a_forged_cookie(client: httpx.AsyncClient, person: User) -> None:
    family, generation, _ = given(await begin(client, person)).split(".")
    for forged in (f"{family}.{generation}.forged", "x", f"{family}.{generation}"):
        assert (await client.post("/auth/logout", headers=kept(forged, **BROWSER))).status_code == 200
    assert await SignIn.find({"ended_at": None}).count() == 1


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/logout-all"])
async def test_whoever_signs_out_by_the_token_loses_the_cookie_too(
    client: httpx.AsyncClient, person: User, path: str
) -> None:
    first = await begin(client, person)
    answer = await client.post(path, headers=kept(given(first), **Signed(first).header))
    assert (answer.status_code, is_taken_away(answer)) == (200, True)
    assert await SignIn.find({"ended_at": None}).count() == 0


async def test_a_changed_password_renews_the_cookie(client: httpx.AsyncClient, person: User) -> None:
    first = await begin(client, person)
    body = {"current_password": PASSWORD, "new_password": "a fresh new start", "delivery": "cookie"}
    refused = await client.post("/auth/change-password", json=body, headers=Signed(first).header)
    assert refusal(refused) == (403, "origin_refused")
    changed = await client.post(
        "/auth/change-password", json=body, headers=kept(given(first), Origin=ORIGIN, **Signed(first).header)
    )
    client.cookies.clear()
    assert "refresh_token" not in changed.json()
    assert refusal(await refresh(client, given(first))) == (401, "refresh_refused")
    assert (await refresh(client, given(changed))).status_code == 200


async def test_the_cookie_lives_as_long_as_its_session(
    client: httpx.AsyncClient, person: User, held_clock: HeldClock
) -> None:
    value, begun = given(await begin(client, person)), held_clock.now
    for days in (29, 58, 80):
        held_clock.now = begun + timedelta(days=days)
        answer = await refresh(client, value)
        value = given(answer)
        rest = min(30, 90 - days) * 86_400
        assert answer.json()["refresh_expires_in"] == rest
        assert f"max-age={rest};" in answer.headers["set-cookie"].lower()


async def test_everywhere_else_whoever_has_nothing_but_the_cookie_is_a_visitor(
    app: Litestar, client: httpx.AsyncClient, person: User
) -> None:
    value = given(await begin(client, person))
    asked = 0
    for method, path in sorted(every_route(app)):
        if path in {"/api/v1/auth/refresh", "/api/v1/auth/logout"}:
            continue
        url = f"http://lms.test{path}"
        body = {} if method in {"POST", "PUT", "PATCH"} else None
        without = await client.request(method, url, json=body, headers=BROWSER)
        answer = await client.request(method, url, json=body, headers=kept(value, **BROWSER))
        assert answer.status_code == without.status_code, (method, path)
        assert "set-cookie" not in answer.headers, (method, path)
        asked += 1
    assert asked > 40
    (stored,) = await SignIn.find_all().to_list()
    assert (stored.generation, stored.ended_at) == (0, None)


def every_route(app: Litestar) -> set[tuple[str, str]]:
    found = {
        (method, route.path_format.replace("{", "").replace("}", ""))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.route_handler_map
    }
    return {(method, path) for method, path in found if method not in {"OPTIONS", "HEAD"}}
