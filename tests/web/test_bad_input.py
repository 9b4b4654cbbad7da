"""Bad input, over every way in: the right 4xx in the one shape, and nothing is written."""

import json
from typing import Any, NamedTuple

import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from tests.build import a_course
from tests.conftest import ClientFor, open_client
from tests.web.shape import check_shape

Database = AsyncDatabase[dict[str, Any]]
UNKNOWN = "0190a3e4-7b1c-7d2e-8f3a-4b5c6d7e8f90"


class Case(NamedTuple):
    who: str
    request: str
    status: int
    code: str
    body: bytes
    headers: dict[str, str]
    named: list[str]


def refused(name: str, who: str, request: str, answer: str, body: Any = b"", named: str = "", **headers: str) -> Any:
    """`answer` is status and code; `named` the pointers, parameters and headers that must be named."""
    status, code = answer.split()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    return pytest.param(Case(who, request, int(status), code, content, given, sorted(named.split())), id=name)


INVALID = "422 validation_failed"
MALFORMED = "400 malformed_json"
ENROL = "POST /enrollments"
REPORT = "PUT /enrollments/{enrollment}/lessons/{lesson}/progress"
REGISTER = "POST /auth/register"
LESSONS = "POST /courses/{course}/lessons"
SIGN_UP = {"email": "new@school.example", "password": "correct horse battery", "full_name": "New Person"}

CASES = [
    refused("no-body", "sam", ENROL, MALFORMED),
    refused("cut-off", "sam", ENROL, MALFORMED, b'{"course_id": "'),
    refused("two-values", "sam", ENROL, MALFORMED, b"{} {}"),
    refused("not-utf-8", "sam", ENROL, MALFORMED, b'{"course_id": "\xff"}'),
    refused("not-a-number", "sam", REPORT, MALFORMED, b'{"position_seconds": NaN}'),
    refused("too-deep", "sam", REPORT, MALFORMED, b'{"data": ' + b"[" * 100_000),
    refused("a-list", "sam", ENROL, INVALID, [], "#"),
    refused("null", "sam", ENROL, INVALID, None, "#"),
    refused("text", "sam", ENROL, INVALID, "x", "#"),
    refused("nothing-in-it", "sam", ENROL, INVALID, {}, "#/course_id"),
    refused("wrong-types", "sam", ENROL, INVALID, {"course_id": 7, "student_id": "x"}, "#/course_id #/student_id"),
    refused("no-uuid", "sam", ENROL, INVALID, {"course_id": "x"}, "#/course_id"),
    refused("unknown-course", "sam", ENROL, "404 course_not_found", {"course_id": UNKNOWN}),
    refused("a-form", "sam", ENROL, "415 unsupported_media", b"course_id=x", Content_Type="text/plain"),
    refused("huge", "ivy", "POST /courses", "413 request_entity_too_large", {"title": "x" * 3_000_000}),
    refused(
        "everything-broken",
        "visitor",
        REGISTER,
        INVALID,
        {"email": "nobody", "password": "short", "full_name": " ", "role": "admin"},
        "#/email #/full_name #/password #/role",
    ),
    refused("a-line-break", "visitor", REGISTER, INVALID, SIGN_UP | {"full_name": "Sam\r\nBcc: x"}, "#/full_name"),
    refused(
        "operators-for-text",
        "visitor",
        "POST /auth/login",
        INVALID,
        {"email": {"$ne": ""}, "password": {"$gt": ""}},
        "#/email #/password",
    ),
    refused(
        "nobody-of-that-name",
        "visitor",
        "POST /auth/login",
        "401 bad_credentials",
        {"email": "x", "password": "correct horse battery"},
    ),
    refused("a-made-up-token", "visitor", "POST /auth/refresh", "401 refresh_refused", {"refresh_token": "a.0.x"}),
    refused("no-token", "visitor", "GET /enrollments", "401 unauthenticated"),
    refused("a-bad-token", "visitor", "GET /enrollments", "401 unauthenticated", Authorization="Bearer x.y.z"),
    refused("another-scheme", "visitor", "GET /users/me", "401 unauthenticated", Authorization="Basic eDp5"),
    refused("bytes-for-a-token", "visitor", "GET /users/me", "401 unauthenticated", Authorization="Bearer \xff"),
    refused("wrong-role", "sam", "POST /courses", "403 wrong_role", {"title": "Mine"}),
    refused("a-malformed-id", "sam", "GET /enrollments/1", "404 not_found"),
    refused("an-id-of-nothing", "sam", f"GET /enrollments/{UNKNOWN}", "404 enrollment_not_found"),
    refused("dots-in-a-path", "visitor", "GET /courses/%2e%2e/%2e%2e/users", "404 not_found"),
    refused("nul-in-a-path", "visitor", "GET /courses/slug/%00", "404 course_not_found"),
    refused("a-wrong-method", "sam", "DELETE /enrollments", "405 method_not_allowed"),
    refused("an-unknown-parameter", "visitor", "GET /courses?pgae=2", INVALID, named="pgae"),
    refused("page-and-cursor", "visitor", "GET /courses?page=1&cursor=x", INVALID, named="cursor"),
    refused("a-huge-page", "visitor", "GET /courses?page_size=101&page=0", INVALID, named="page page_size"),
    refused("an-unknown-sort", "visitor", "GET /courses?sort=password", INVALID, named="sort"),
    refused("a-value-twice", "sam", "GET /enrollments?status=active&status=dropped", INVALID, named="status"),
    refused(
        "a-broken-course",
        "ivy",
        "POST /courses",
        INVALID,
        {"title": "x" * 256, "tags": ["ok", "", 3], "estimated_duration_minutes": 0, "status": "published"},
        "#/estimated_duration_minutes #/status #/tags/1 #/tags/2 #/title",
    ),
    refused(
        "a-script-for-an-address",
        "ivy",
        LESSONS,
        INVALID,
        {"title": "Film", "content_type": "video", "video_url": "javascript:alert(1)"},
        "#/video_url",
    ),
    refused("no-address", "ivy", LESSONS, INVALID, {"title": "Film", "content_type": "video"}, "#/video_url"),
    refused(
        "no-such-module", "ivy", LESSONS, "422 module_unknown", {"title": "New", "module_id": "nowhere"}, "#/module_id"
    ),
    refused(
        "null-for-a-title", "ivy", "PATCH /courses/{course}", INVALID, {"title": None, "category": None}, "#/title"
    ),
    refused("a-stale-etag", "ivy", "PATCH /courses/{course}", "412 revision_mismatch", {"title": "X"}, If_Match='"0"'),
    refused("anothers-course", "oscar", "PATCH /courses/{course}", "403 not_course_staff", {"title": "X"}),
    refused("anothers-draft", "oscar", "PATCH /courses/{draft}", "404 course_not_found", {"title": "X"}),
    refused("anothers-enrolment", "oscar", REPORT, "404 enrollment_not_found", {"state": "completed"}),
    refused(
        "a-broken-report",
        "sam",
        REPORT,
        INVALID,
        {"position_seconds": -1, "watched": [[5, 9], [1]], "state": "done", "sequence": 1.5},
        "#/position_seconds #/sequence #/state #/watched/1",
    ),
    refused("a-number-of-65-bits", "sam", REPORT, INVALID, {"data": {"a": [2**63]}}, "#/data"),
    refused("nul-in-a-name", "sam", REPORT, INVALID, {"data": {"a\0b": 1}}, "#/data"),
    refused("deep-data", "sam", REPORT, INVALID, b'{"data": ' + b"[" * 60 + b"]" * 60 + b"}", "#/data"),
    refused("deep-metadata", "ivy", "POST /courses", INVALID, {"title": "X", "metadata": {"a": 2**64}}, "#/metadata"),
    refused(
        "an-unknown-lesson",
        "sam",
        "PUT /enrollments/{enrollment}/lessons/nowhere/progress",
        "404 lesson_not_found",
        {"state": "completed"},
    ),
    refused(
        "a-key-with-a-tab", "sam", ENROL, INVALID, {"course_id": UNKNOWN}, "Idempotency-Key", Idempotency_Key="a\tb"
    ),
    refused("a-key-for-nothing", "visitor", REGISTER, INVALID, SIGN_UP, "Idempotency-Key", Idempotency_Key="k"),
]


@pytest.fixture
async def places(client_for: ClientFor, ivy: User, sam: User, course: Course) -> dict[str, str]:
    draft = await a_course(ivy.id, "A draft", status=CourseStatus.DRAFT).insert()
    enrolled = await (await client_for(sam)).post("/enrollments", json={"course_id": str(course.id)})
    ids = {"course": course.id, "draft": draft.id, "lesson": course.lessons[0].id, "enrollment": enrolled.json()["id"]}
    return {name: str(one) for name, one in ids.items()}


async def everything(database: Database) -> dict[str, list[dict[str, Any]]]:
    names = await database.list_collection_names()
    return {name: await database[name].find({}).sort("_id", 1).to_list(1000) for name in names}


@pytest.mark.parametrize("case", CASES)
async def test_it_is_refused_and_nothing_is_written(
    case: Case, app: Litestar, client_for: ClientFor, database: Database, places: dict[str, str], cast: dict[str, User]
) -> None:
    client = open_client(app) if case.who == "visitor" else await client_for(cast[case.who])
    before = await everything(database)
    method, _, path = case.request.partition(" ")
    headers = [(name.encode(), value.encode("latin-1")) for name, value in case.headers.items()]
    async with client:
        answer = await client.request(method, path.format(**places), content=case.body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (case.status, case.code), answer.text
    check_shape(answer)
    if case.named:
        errors = answer.json()["errors"]
        assert sorted(one.get("pointer") or one.get("parameter") or one["header"] for one in errors) == case.named
    after = await everything(database)
    # That somebody tried to sign in is counted, under a hash of what they gave.
    tried = ("POST /auth/login", 401)
    assert (after.pop("sign_in_failures") == before.pop("sign_in_failures")) is ((case.request, case.status) != tried)
    assert after == before


@pytest.fixture
def cast(ivy: User, oscar: User, sam: User) -> dict[str, User]:
    return {"ivy": ivy, "oscar": oscar, "sam": sam}
