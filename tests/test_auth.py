import httpx
import pytest
from litestar import Litestar, get
from litestar.di import Provide

from lms.accounts.documents import SignIn, User
from lms.accounts.service import Accounts
from lms.api_keys.verdicts import KeyVerdicts
from lms.auth import Authentication, CurrentUser, provide_user
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus
from lms.ids import new_id
from lms.keys import new_seed
from lms.tokens import KeyRing
from lms.web.problems import render_problem
from tests.build import a_course
from tests.conftest import ClientFor, HeldClock, token_for
from tests.conftest import open_client as open_http

INVALID = 'Bearer error="invalid_token"'

STAFF_ONLY = [
    ("POST", "/courses"),
    ("PATCH", "/courses/{course}"),
    ("POST", "/courses/{course}/publish"),
    ("POST", "/courses/{course}/unpublish"),
    ("POST", "/courses/{course}/archive"),
    ("POST", "/courses/{course}/modules"),
    ("POST", "/courses/{course}/lessons"),
    ("PATCH", "/courses/{course}/lessons/{lesson}"),
]
SIGNED_IN_ONLY = [
    ("POST", "/auth/logout"),
    ("POST", "/auth/logout-all"),
    ("GET", "/users/me"),
    ("GET", "/enrollments"),
    ("POST", "/enrollments"),
    ("GET", "/certificates"),
]


def path_of(template: str, course: Course) -> str:
    return template.format(course=course.id, lesson=course.lessons[0].id)


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def challenge(response: httpx.Response) -> list[str]:
    return response.headers.get_list("www-authenticate")


@pytest.mark.parametrize(("method", "template"), STAFF_ONLY)
async def test_a_student_is_kept_from_what_staff_does(
    client_for: ClientFor, sam: User, course: Course, method: str, template: str
) -> None:
    response = await (await client_for(sam)).request(method, path_of(template, course), json={})
    assert outcome(response) == (403, "wrong_role")
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize(("method", "template"), [*STAFF_ONLY, *SIGNED_IN_ONLY])
async def test_a_visitor_is_asked_to_sign_in(
    client: httpx.AsyncClient, course: Course, method: str, template: str
) -> None:
    response = await client.request(method, path_of(template, course))
    assert outcome(response) == (401, "unauthenticated")
    assert challenge(response) == ["Bearer"]


@pytest.mark.parametrize(("method", "template"), [*STAFF_ONLY, *SIGNED_IN_ONLY])
async def test_a_bad_token_is_told_so_where_one_is_needed(
    client: httpx.AsyncClient, course: Course, method: str, template: str
) -> None:
    headers = {"Authorization": "Bearer nonsense"}
    response = await client.request(method, path_of(template, course), headers=headers)
    assert outcome(response) == (401, "unauthenticated")
    assert challenge(response) == [INVALID]
    assert response.headers["cache-control"] == "no-store"


async def test_staff_gets_past_the_guard(client_for: ClientFor, ivy: User, oscar: User, ada: User) -> None:
    for person in (ivy, oscar, ada):
        response = await (await client_for(person)).post("/courses", json={})
        assert outcome(response) == (422, "validation_failed")


async def test_everybody_who_signed_in_gets_past_the_other_guard(
    client_for: ClientFor, sam: User, ivy: User, ada: User
) -> None:
    for person in (sam, ivy, ada):
        assert (await (await client_for(person)).get("/certificates")).status_code == 200


async def test_a_route_that_forgot_its_guard_asks_a_visitor_all_the_same(accounts: Accounts, sam: User) -> None:
    @get("/api/v1/forgotten")
    async def forgotten(user: CurrentUser) -> str:
        return str(user.id)

    app = Litestar(
        [forgotten],
        dependencies={"user": Provide(provide_user)},
        middleware=[Authentication(accounts.keys, accounts.verdicts, KeyVerdicts(()))],
        exception_handlers={Exception: render_problem},
        openapi_config=None,
    )
    async with open_http(app) as client:
        response = await client.get("/forgotten")
        assert (outcome(response), challenge(response)) == ((401, "unauthenticated"), ["Bearer"])
        headers = {"Authorization": f"Bearer {await token_for(accounts, sam)}"}
        assert (await client.get("/forgotten", headers=headers)).text == str(sam.id)


async def bad_tokens(accounts: Accounts, user: User) -> dict[str, str]:
    good = await token_for(accounts, user)
    foreign = KeyRing(accounts.settings.model_copy(update={"jwt_keys": type(accounts.settings.jwt_keys)(new_seed())}))
    ended = await token_for(accounts, user)
    (_, last) = await SignIn.find_all().sort("_id").to_list()
    await SignIn.get_pymongo_collection().update_one({"_id": last.id}, {"$set": {"ended_at": utc_now()}})
    now = utc_now()
    return {
        "nothing after the scheme": "Bearer",
        "empty": "Bearer ",
        "no scheme": good,
        "another scheme": f"Basic {good}",
        "garbage": "Bearer nonsense",
        "cut": f"Bearer {good[:-2]}",
        "two": f"Bearer {good} {good}",
        "foreign": f"Bearer {foreign.issue(user.id, new_id(), user.role, 0, now)}",
        "ended": f"Bearer {ended}",
        "unknown session": f"Bearer {accounts.keys.issue(user.id, new_id(), user.role, 0, now)}",
        "unknown person": f"Bearer {accounts.keys.issue(new_id(), last.id, user.role, 0, now)}",
        "not ASCII": "Bearer \xe9",
    }


async def test_a_public_read_with_a_bad_token_is_served_as_for_a_visitor(
    client: httpx.AsyncClient, accounts: Accounts, sam: User, course: Course
) -> None:
    for path in ("/courses", f"/courses/{course.id}", f"/courses/slug/{course.slug}"):
        visitor = await client.get(path)
        assert visitor.status_code == 200
        assert "www-authenticate" not in visitor.headers
        await SignIn.find_all().delete()
        for name, header in (await bad_tokens(accounts, sam)).items():
            response = await client.get(path, headers={"Authorization": header.encode("latin-1")})  # pyright: ignore[reportArgumentType]
            assert (response.status_code, response.json()) == (200, visitor.json()), name
            assert challenge(response) == [INVALID], name
            assert response.headers.get_list("cache-control") == ["no-store"], name
            assert "Authorization" in response.headers["vary"], name


async def test_with_a_good_token_nothing_is_said(client_for: ClientFor, sam: User, course: Course) -> None:
    response = await (await client_for(sam)).get(f"/courses/{course.id}")
    assert response.status_code == 200
    assert "www-authenticate" not in response.headers


async def test_the_scheme_is_read_in_any_letters(client: httpx.AsyncClient, accounts: Accounts, sam: User) -> None:
    token = await token_for(accounts, sam)
    for header in (f"bearer {token}", f"BEARER  {token} "):
        assert (await client.get("/users/me", headers={"Authorization": header})).status_code == 200


async def test_a_bad_token_is_a_401_where_a_visitor_would_get_a_404(
    client: httpx.AsyncClient, course: Course, ivy: User
) -> None:
    draft = await a_course(ivy.id, "Draft", status=CourseStatus.DRAFT).insert()
    for path in (f"/courses/{draft.id}", f"/courses/{new_id()}", "/courses/slug/nothing"):
        assert (await client.get(path)).status_code == 404
        response = await client.get(path, headers={"Authorization": "Bearer nonsense"})
        assert outcome(response) == (401, "unauthenticated")
        assert challenge(response) == [INVALID]
        assert response.headers.get_list("cache-control") == ["no-store"]


async def test_a_locked_lesson_tells_a_bad_token_from_none(client: httpx.AsyncClient, course: Course) -> None:
    path = f"/courses/{course.id}/lessons/{course.lessons[1].id}"
    visitor = await client.get(path)
    assert (visitor.status_code, challenge(visitor)) == (401, ["Bearer"])
    stale = await client.get(path, headers={"Authorization": "Bearer nonsense"})
    assert (stale.status_code, challenge(stale)) == (401, [INVALID])


async def test_an_answer_for_a_visitor_is_not_reused_for_a_bad_token(client: httpx.AsyncClient, course: Course) -> None:
    tag = (await client.get(f"/courses/{course.id}")).headers["etag"]
    headers = {"Authorization": "Bearer nonsense", "If-None-Match": tag}
    response = await client.get(f"/courses/{course.id}", headers=headers)
    assert response.status_code == 304
    assert challenge(response) == [INVALID]
    assert response.headers.get_list("cache-control") == ["no-store"]


async def test_a_token_that_was_good_before_ends_at_its_time(
    client: httpx.AsyncClient, accounts: Accounts, sam: User, held_clock: HeldClock
) -> None:
    headers = {"Authorization": f"Bearer {await token_for(accounts, sam)}"}
    assert (await client.get("/users/me", headers=headers)).status_code == 200
    held_clock.advance(seconds=899)
    assert (await client.get("/users/me", headers=headers)).status_code == 200
    held_clock.advance(seconds=1)
    late = await client.get("/users/me", headers=headers)
    assert (outcome(late), challenge(late)) == ((401, "unauthenticated"), [INVALID])


@pytest.fixture
async def a_token(accounts: Accounts, sam: User) -> str:
    return await token_for(accounts, sam)


async def test_where_nobody_can_tell_the_answer_is_a_503_and_not_a_401(
    app: Litestar, a_token: str, course: Course, without_mongodb: None
) -> None:
    async with open_http(app, Authorization=f"Bearer {a_token}") as signed_in:
        for path in ("/users/me", f"/courses/{course.id}"):
            response = await signed_in.get(path)
            assert (outcome(response), response.json()["part"]) == ((503, "unavailable"), "mongodb")
            assert int(response.headers["retry-after"]) > 0
            assert challenge(response) == []


async def test_a_bad_token_needs_no_database_to_be_refused(client: httpx.AsyncClient, without_mongodb: None) -> None:
    response = await client.get("/users/me", headers={"Authorization": "Bearer nonsense"})
    assert (outcome(response), challenge(response)) == ((401, "unauthenticated"), [INVALID])
