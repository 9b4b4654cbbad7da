"""Whose role must have a second factor, and who has none yet, may do nothing but set one up."""

from collections.abc import AsyncGenerator, Iterator

import httpx
import jwt
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from lms.accounts.documents import Role, User
from lms.accounts.people import change_role
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.courses.documents import CourseStatus
from lms.settings import Settings
from lms.web.openapi_errors import signs_in
from tests.accounts.people import Signed, a_person, me, refresh, refusal, sign_in
from tests.build import a_course
from tests.conftest import HeldClock, open_client, running
from tests.second_factor.factors import begin, challenge, enrol, finish, prove, remove, state

REQUIRED = (403, "second_factor_required")
LOGOUT = ("POST", "/api/v1/auth/logout")
"""Asks for no guard, since a browser may come with its cookie alone."""
ALLOWED = {
    ("GET", "/api/v1/users/me"),
    ("GET", "/api/v1/auth/mfa"),
    ("POST", "/api/v1/auth/mfa/totp"),
    ("POST", "/api/v1/auth/mfa/totp/confirm"),
    ("POST", "/api/v1/auth/logout"),
}


@pytest.fixture
async def strict(settings: Settings, client: httpx.AsyncClient) -> AsyncGenerator[Litestar]:
    """An installation whose administrators must have a second factor."""
    demanding = settings.model_copy(update={"mfa_required_for": ["admin"]})
    async with running(create_app(demanding)) as app:
        yield app


@pytest.fixture
async def school(strict: Litestar) -> AsyncGenerator[httpx.AsyncClient]:
    async with open_client(strict) as visitor:
        yield visitor


@pytest.fixture
async def admin(accounts: Accounts, client: httpx.AsyncClient, held_clock: HeldClock) -> User:
    return await a_person(accounts, "Ada", role=Role.ADMIN, verified=True)


@pytest.fixture
async def restricted(school: httpx.AsyncClient, admin: User) -> Signed:
    return await sign_in(school, admin)


def routes(app: Litestar) -> Iterator[tuple[str, str, str]]:
    """Method, path, and whether it wants to know who asks."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                yield method, route.path_format, signs_in(handler)


async def ask(client: httpx.AsyncClient, method: str, path: str, **headers: str) -> httpx.Response:
    filled = "/".join(
        "0198c5a2-7d3e-7c41-9f56-2b8a4d1e6f03" if part.startswith("{") else part for part in path.split("/")
    )
    return await client.request(method, f"http://lms.test{filled}", headers=headers)


async def test_who_has_none_is_told_at_once(school: httpx.AsyncClient, restricted: Signed) -> None:
    assert restricted.body["second_factor_required"] is True
    assert await state(school, restricted) == (False, 0, True)
    assert await me(school, restricted) == 200
    claims = jwt.decode(restricted.body["access_token"], options={"verify_signature": False})
    assert claims["restricted"] is True


async def test_every_other_route_is_closed(strict: Litestar, school: httpx.AsyncClient, restricted: Signed) -> None:
    asked = 0
    for method, path, who in routes(strict):
        if method == "OPTIONS" or (method, path) in ALLOWED:
            continue
        answer = await ask(school, method, path, **restricted.header)
        if who == "always":
            assert refusal(answer) == REQUIRED, (method, path)
            asked += 1
        elif who == "maybe":
            visitor = await ask(school, method, path)
            assert answer.status_code == visitor.status_code or refusal(answer) == REQUIRED, (method, path)
            assert "no-store" in answer.headers["cache-control"], (method, path)
    assert asked > 20
    assert {(method, path) for method, path, who in routes(strict) if who == "always"} >= ALLOWED - {LOGOUT}


async def test_what_is_allowed_is_answered(school: httpx.AsyncClient, restricted: Signed) -> None:
    for method, path in sorted(ALLOWED - {LOGOUT}):
        assert (await ask(school, method, path, **restricted.header)).status_code in {200, 415}, path
    assert (await ask(school, "POST", "/api/v1/auth/logout", **restricted.header)).status_code == 200
    assert await me(school, restricted) == 401


async def test_public_reads_see_a_visitor(school: httpx.AsyncClient, restricted: Signed, admin: User) -> None:
    course = await a_course(admin.id).insert()
    draft = await a_course(admin.id, "Draft", status=CourseStatus.DRAFT).insert()
    for path in ("/courses", f"/courses/{course.id}", f"/courses/{course.id}/lessons"):
        visitor, answer = await school.get(path), await school.get(path, headers=restricted.header)
        assert (answer.status_code, answer.json()) == (200, visitor.json())
        assert "www-authenticate" not in answer.headers
        assert "Authorization" in answer.headers["vary"]
    # Where a visitor would be refused, it says why.
    assert refusal(await school.get(f"/courses/{draft.id}", headers=restricted.header)) == REQUIRED
    locked = f"/courses/{course.id}/lessons/{course.lessons[1].id}"
    assert refusal(await school.get(locked, headers=restricted.header)) == REQUIRED
    mine = await school.get("/courses", params={"mine": "true"}, headers=restricted.header)
    assert (mine.status_code, mine.json()["items"]) == (200, [])


async def test_refreshing_does_not_help(school: httpx.AsyncClient, restricted: Signed) -> None:
    again = await refresh(school, restricted.refresh_token)
    assert again.body["second_factor_required"] is True
    assert refusal(await school.get("/enrollments", headers=again.header)) == REQUIRED
    changed = {"current_password": "correct horse battery", "new_password": "a fresh new start"}
    response = await school.post("/auth/change-password", json=changed, headers=again.header)
    assert refusal(response) == REQUIRED
    assert refusal(await prove(school, again)) == REQUIRED


async def test_setting_one_up_opens_everything(
    school: httpx.AsyncClient, restricted: Signed, admin: User, held_clock: HeldClock
) -> None:
    app, whole = await enrol(school, restricted)
    assert "second_factor_required" not in whole.body
    assert (await school.get("/audit", headers=whole.header)).status_code == 200
    again = await refresh(school, whole.refresh_token)
    assert (await school.get("/audit", headers=again.header)).status_code == 200
    held_clock.advance(minutes=1)
    signed = await finish(school, await challenge(school, admin), app.code())
    assert (await school.get("/audit", headers=signed.header)).status_code == 200
    # The token of before is over and not only restricted.
    assert refusal(await school.get("/audit", headers=restricted.header)) == (401, "unauthenticated")


async def test_it_cannot_be_given_up_but_be_replaced(
    school: httpx.AsyncClient, restricted: Signed, admin: User, held_clock: HeldClock
) -> None:
    _, whole = await enrol(school, restricted)
    assert refusal(await remove(school, whole)) == (409, "role_needs_factor")
    assert await state(school, whole) == (True, 10, True)
    held_clock.advance(minutes=1)
    newer, whole = await enrol(school, whole)
    assert await state(school, whole) == (True, 10, True)
    held_clock.advance(minutes=1)
    assert (await finish(school, await challenge(school, admin), newer.code())).body["access_token"]


async def test_others_need_none(school: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock) -> None:
    ivy = await sign_in(school, await a_person(accounts, "Ivy", role=Role.INSTRUCTOR, verified=True))
    assert "second_factor_required" not in ivy.body
    assert await state(school, ivy) == (False, 0, False)
    assert (await school.get("/enrollments", headers=ivy.header)).status_code == 200
    _, whole = await enrol(school, ivy)
    assert (await remove(school, whole)).status_code == 204


async def test_who_becomes_one_of_them_sets_it_up_first(
    school: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock
) -> None:
    ivy = await a_person(accounts, "Ivy", role=Role.INSTRUCTOR, verified=True)
    signed = await sign_in(school, ivy)
    assert await change_role(ivy.id, Role.ADMIN)
    again = await refresh(school, signed.refresh_token)
    assert again.body["second_factor_required"] is True
    assert refusal(await school.get("/audit", headers=again.header)) == REQUIRED
    _, whole = await enrol(school, again)
    assert (await school.get("/audit", headers=whole.header)).status_code == 200


async def test_by_default_nobody_must(client: httpx.AsyncClient, admin: User) -> None:
    signed = await sign_in(client, admin)
    assert await state(client, signed) == (False, 0, False)
    assert (await client.get("/audit", headers=signed.header)).status_code == 200


async def test_the_password_is_asked_for_here_too(school: httpx.AsyncClient, restricted: Signed) -> None:
    assert refusal(await begin(school, restricted, "a wrong guess")) == (403, "wrong_password")


async def test_a_restricted_token_is_not_told_to_those_who_sign_in_anew(
    school: httpx.AsyncClient, restricted: Signed, admin: User
) -> None:
    """Signing in and refreshing bring proofs of their own; what came with them says nothing."""
    wrong = await sign_in(school, admin, "a wrong guess", **restricted.header)
    assert refusal(wrong.response) == (401, "bad_credentials")
    body = {"refresh_token": "nonsense"}
    response = await school.post("/auth/refresh", json=body, headers=restricted.header)
    assert refusal(response) == (401, "refresh_refused")
