"""What a person gets about themselves, compared with what is stored."""

import tracemalloc
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import SignIn, User
from lms.accounts.people import change_role
from lms.app import create_app
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus
from lms.enrollments.documents import Enrollment
from lms.export.schemas import PersonExport
from lms.export.service import export
from lms.outbox.documents import Event
from lms.schemas import Moment
from lms.settings import Settings
from tests.build import a_course, a_user
from tests.certificates.issued import a_certificate
from tests.commands import Commands
from tests.conftest import ClientFor, open_client, running, settings_for, token_for
from tests.erasure.left import write_down

Database = AsyncDatabase[dict[str, Any]]
MINE = "/users/me/export"


async def exported(client: httpx.AsyncClient, path: str = MINE) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    msgspec.json.decode(response.content, type=PersonExport, dec_hook=lambda kind, value: kind(value))
    return response.json()


async def test_a_person_who_did_nothing_gets_empty_lists(client_for: ClientFor, sam: User) -> None:
    found = await exported(await client_for(sam))
    assert found["profile"] == {
        "id": str(sam.id),
        "email": "sam@school.example",
        "full_name": "Sam Okafor",
        "role": "student",
        "active": True,
        "verified": True,
        "locale": "en",
        "time_zone": "UTC",
        "created_at": Moment.of(sam.created_at),
    }
    assert len(found["sessions"]) == 1
    lists = ("identities", "api_keys", "invitations", "courses", "enrollments", "certificates", "audit")
    assert [found[name] for name in lists] == [[]] * len(lists)
    assert (found["second_factor"], found["email_change"]) == (None, None)
    assert found["complete"] is True
    assert list(found)[-1] == "complete"


async def test_it_is_a_file_that_nobody_keeps(client_for: ClientFor, sam: User) -> None:
    response = await (await client_for(sam)).get(MINE)
    headers = response.headers
    assert headers["content-disposition"] == f'attachment; filename="lms-export-{sam.id}.json"'
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/json"
    assert "etag" not in headers
    assert "content-length" not in headers


@pytest.mark.parametrize("name", ["Zoë Ōkafor", "李小龍", "محمد الفاسي", '🦀 O\'Neil "Q" \\ </script>'])
async def test_names_come_out_as_they_were_given(client_for: ClientFor, database: Database, name: str) -> None:
    person = await a_user("Sam", full_name=name).insert()
    assert (await exported(await client_for(person)))["profile"]["full_name"] == name


async def test_progress_comes_out_as_it_was_reported(client_for: ClientFor, sam: User, course: Course) -> None:
    client = await client_for(sam)
    enrolled = (await client.post("/enrollments", json={"course_id": str(course.id)})).json()
    lesson = course.lessons[0].id
    report = {
        "position_seconds": 40,
        "watched": [[0, 40]],
        "data": {"note": "ünïcode"},
        "device_id": "phone-1",
        "sequence": 7,
    }
    reported = await client.put(f"/enrollments/{enrolled['id']}/lessons/{lesson}/progress", json=report)
    [found] = (await exported(client))["enrollments"]
    assert (found["id"], found["course_id"], found["course_title"]) == (
        enrolled["id"],
        str(course.id),
        "Plants of the tidal zone",
    )
    assert found["progress"].keys() == {one.id for one in course.lessons}
    told = found["progress"][lesson]
    assert told.items() >= reported.json()["progress"].items()
    for came_from in (told["position_from"], told["data_from"]):
        assert (came_from["device_id"], came_from["sequence"]) == ("phone-1", 7)
    assert found["progress"][course.lessons[1].id]["position_from"] is None


async def test_certificates_come_with_where_their_pdf_is(client_for: ClientFor, sam: User, course: Course) -> None:
    issued = await a_certificate(sam, course)
    client = await client_for(sam)
    [found] = (await exported(client))["certificates"]
    assert (found["number"], found["name"], found["instructor_name"]) == (issued.number, "Sam Okafor", "Ivy Okafor")
    assert found["verify_url"] == f"http://lms.test/verify/{issued.number}"
    pdf = await client.get(found["pdf_path"].removeprefix("/api/v1"))
    assert pdf.headers["content-type"] == "application/pdf"


async def test_sessions_show_devices_and_no_secret(client_for: ClientFor, sam: User) -> None:
    now = utc_now()
    over = SignIn(
        user_id=sam.id,
        nonce="the-nonce",
        rotated_at=now,
        expires_at=now + timedelta(days=1),
        ended_at=now,
        methods=["pwd", "otp"],
        user_agent="Phone/1.0 (ü)",
        address="192.0.2.7",
    )
    await over.insert()
    response = await (await client_for(sam)).get(MINE)
    found = next(one for one in response.json()["sessions"] if one["id"] == str(over.id))
    assert (found["address"], found["user_agent"], found["methods"]) == ("192.0.2.7", "Phone/1.0 (ü)", ["pwd", "otp"])
    assert found["ended_at"] == Moment.of(now)
    for secret in ("nonce", "password", sam.password_hash, "generation", "sealed", "hash"):
        assert secret not in response.text


async def test_courses_that_one_owns_or_helps_to_teach_are_named(
    client_for: ClientFor, ivy: User, oscar: User, course: Course
) -> None:
    await a_course(oscar.id, "Tides", co_instructor_ids=[ivy.id], status=CourseStatus.DRAFT).insert()
    found = (await exported(await client_for(ivy)))["courses"]
    assert [(one["title"], one["part"], one["status"]) for one in found] == [
        ("Plants of the tidal zone", "owner", "published"),
        ("Tides", "co_instructor", "draft"),
    ]


async def test_what_was_noted_of_a_person_is_opened_and_others_stay_closed(
    client_for: ClientFor, sam: User, ada: User
) -> None:
    hers, mine = await client_for(ada), await client_for(sam)
    response = await hers.get(f"/users/{sam.id}/export", headers={"User-Agent": "Adas laptop"})
    assert response.status_code == 200
    await mine.get(MINE, headers={"User-Agent": "Sams phone"})
    await change_role(sam.id, sam.role.INSTRUCTOR)
    await write_down()
    client = await client_for(await User.get(sam.id) or sam)
    response = await client.get(MINE)
    acts = response.json()["audit"]
    shown = [(one["act"], one["actor"], one["target"], one["about"].get("user_agent")) for one in acts]
    assert shown == [
        ("user.data_exported", "you", "you", "Sams phone"),
        ("user.role_changed", "operator", "you", None),
        ("user.data_exported", "somebody", "you", None),
    ]
    assert acts[1]["facts"] == {"role_before": "student", "role": "instructor"}
    assert str(ada.id) not in response.text
    assert "Adas laptop" not in response.text


async def test_an_export_is_written_down(client_for: ClientFor, sam: User, ada: User) -> None:
    assert (await (await client_for(ada)).get(f"/users/{sam.id}/export")).status_code == 200
    [event] = await Event.find({"kind": "audit"}).to_list()
    assert (event.data["act"], event.data["actor"], event.data["target_id"]) == (
        Act.DATA_EXPORTED.value,
        str(ada.id),
        str(sam.id),
    )


async def test_only_administrators_export_others(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, stella: User, ivy: User, ada: User
) -> None:
    path = f"/users/{sam.id}/export"
    for person in (sam, stella, ivy):
        assert (await (await client_for(person)).get(path)).status_code == 403
    for asked in (path, MINE):
        assert (await client.get(asked)).status_code == 401
    admin = await client_for(ada)
    assert (await exported(admin, path))["profile"]["email"] == sam.email
    for unknown in (uuid4(), "nobody"):
        assert (await admin.get(f"/users/{unknown}/export")).status_code == 404
    assert await Event.find({"kind": "audit"}).count() == 1


async def test_nothing_of_others_is_in_it(client_for: ClientFor, sam: User, stella: User, course: Course) -> None:
    await a_certificate(stella, course)
    await a_certificate(sam, course)
    text = (await (await client_for(sam)).get(MINE)).text
    for foreign in (stella.email, stella.full_name, str(stella.id), "ivy@school.example"):
        assert foreign not in text


async def test_many_enrolments_are_held_a_few_at_a_time(
    database: Database, settings: Settings, sam: User, commands: Commands
) -> None:
    """20,000 of them take no more memory than some hundreds would."""
    one = Enrollment(student_id=sam.id, course_id=uuid4()).as_stored()
    for _ in range(4):
        await database["enrollments"].insert_many([one | {"_id": uuid4(), "course_id": uuid4()} for _ in range(5_000)])
    commands.seen.clear()
    parts = 0
    tracemalloc.start()
    async for part in await export(sam.id, sam.id, settings):
        assert len(part) < 10_000
        parts += part.startswith((b',{"id"', b',"enrollments"'))
        commands.seen.clear()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parts == 20_000
    assert peak < 2_000_000


async def test_large_enrolments_are_held_one_at_a_time(database: Database, settings: Settings, sam: User) -> None:
    """Twelve of 3 MB each take no more memory than one."""
    entry = {
        "state": 1,
        "furthest": 0,
        "position": 0,
        "stamp": None,
        "data_stamp": None,
        "watched": [],
        "first_completed_at": None,
        "required": True,
        "epoch": 0,
        "length": 60,
    }
    one = Enrollment(student_id=sam.id, course_id=uuid4()).as_stored()
    for _ in range(12):
        progress = {f"lesson-{number}": entry | {"data": "x" * 30_000} for number in range(100)}
        await database["enrollments"].insert_one(one | {"_id": uuid4(), "course_id": uuid4(), "progress": progress})
        del progress
    parts = 0
    tracemalloc.start()
    async for part in await export(sam.id, sam.id, settings):
        parts += len(part) > 3_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parts == 12
    assert peak < 25_000_000


async def test_each_caller_has_a_few_exports_an_hour(
    app: Litestar, mongodb_url: str, redis_url: str, sam: User, stella: User
) -> None:
    limited = create_app(settings_for(mongodb_url, redis_url, LMS_RATE_EXPORTS="2/3600", LMS_REDIS_PREFIX=uuid4().hex))
    async with running(limited):
        statuses: list[int] = []
        for person in (sam, sam, sam, stella):
            token = await token_for(limited.state.accounts, person)
            async with open_client(limited, Authorization=f"Bearer {token}") as client:
                response = await client.get(MINE)
                statuses.append(response.status_code)
                # Other reads are another account.
                assert (await client.get("/users/me")).status_code == 200
    assert statuses == [200, 200, 429, 200]


async def test_what_breaks_behind_the_first_byte_does_not_look_whole(
    client_for: ClientFor, database: Database, sam: User
) -> None:
    """The fault is an enrolment that this version cannot read."""
    await Enrollment(student_id=sam.id, course_id=uuid4()).insert()
    await database["enrollments"].update_one({"student_id": sam.id}, {"$set": {"status": "from the future"}})
    client = await client_for(sam)
    for encoding in ("identity", "gzip"):
        async with client.stream("GET", MINE, headers={"Accept-Encoding": encoding}) as response:
            assert response.status_code == 200
            got = b"".join([part async for part in response.aiter_raw()])
        assert b"complete" not in got
        assert encoding == "gzip" or got.startswith(b'{"profile":')


async def test_it_comes_compressed_to_who_wants_that(client_for: ClientFor, sam: User) -> None:
    client = await client_for(sam)
    found = await client.get(MINE, headers={"Accept-Encoding": "gzip"})
    plain = await client.get(MINE, headers={"Accept-Encoding": "identity"})
    assert (found.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert found.json()["profile"] == plain.json()["profile"]
