"""Erasing a person: who may, who cannot be erased, and that nothing tells of them afterwards."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import Litestar

from lms.accounts.documents import Role, SignIn, User
from lms.app import create_app
from lms.audit.documents import Act, AuditEntry, AuditKey
from lms.auth import Caller
from lms.certificates.documents import Certificate
from lms.clock import utc_now
from lms.courses import service as courses
from lms.courses.documents import Course
from lms.courses.schemas import CourseCreate
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.erasure import tasks
from lms.erasure.rules import OwnsCourses
from lms.erasure.service import LATE, erase
from lms.errors import Unauthenticated
from lms.mail import Mailer
from lms.maintenance.tasks import update_course_statistics
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, run_job
from lms.recovery.documents import MailedLink
from lms.settings import Settings
from lms.transactions import in_transaction
from tests.accounts.people import PASSWORD, a_person, me, refresh, refusal, sign_in
from tests.build import a_course, a_user
from tests.certificates.issued import a_certificate, a_completed_enrollment, an_event
from tests.conftest import ClientFor, HeldClock, open_client, running, settings_for
from tests.erasure.left import JOB, Database, due, is_whole, traces, work, write_down
from tests.promises.system import eventually

ME = "/users/me?confirm=erase"


def path_of(person: User) -> str:
    return f"/users/{person.id}?confirm=erase"


async def acts_of(act: Act) -> list[AuditEntry]:
    await write_down()
    return await AuditEntry.find({"act": act.value}).to_list()


async def test_after_a_whole_life_nothing_tells_of_a_person(
    client: httpx.AsyncClient,
    client_for: ClientFor,
    app: Litestar,
    database: Database,
    settings: Settings,
    course: Course,
    held_clock: HeldClock,
) -> None:
    who = {"email": "zoe@school.example", "full_name": "Zoë Quist", "password": PASSWORD}
    agent = {"User-Agent": "Zoes phone"}
    assert (await client.post("/auth/register", json=who, headers=agent)).status_code == 202
    zoe = await User.by_email("zoe@school.example")
    assert zoe is not None
    signed = await sign_in(client, zoe, **agent)
    await client.post("/auth/forgot-password", json={"email": zoe.email})
    keyed = signed.header | {"Idempotency-Key": "mine"}
    enrolled = await client.post("/enrollments", json={"course_id": str(course.id)}, headers=keyed)
    enrollment = enrolled.json()["id"]
    lesson = f"/enrollments/{enrollment}/lessons/{course.lessons[0].id}/progress"
    report = {"position_seconds": 9, "data": {"note": "Zoes note"}, "device_id": "Zoes phone"}
    assert (await client.put(lesson, json=report, headers=signed.header)).status_code == 200
    moved = {"new_email": "zoe@home.example", "current_password": PASSWORD}
    assert (await client.post("/auth/change-email", json=moved, headers=signed.header)).status_code == 202
    await a_certificate(zoe, await a_course(course.instructor_id, "Tides").insert())
    await write_down()
    words = ("zoe@", "Zoë", "Zoes phone", "Zoes note", str(zoe.id))
    assert {word for _, word in await traces(database, *words)} == set(words)

    assert (await client.delete(ME, headers=signed.header)).status_code == 204
    await work(database, settings)
    await write_down()
    held_clock.advance(seconds=LATE.total_seconds())
    await work(database, settings)
    # What is left are jobs of mails: they find nobody and say nothing.
    for event in await Event.find_all().to_list():
        for name in event.todo:
            await run_job(name, event.id, JobContext(settings, Mailer(settings)))
    assert await traces(database, "zoe@", "Zoë", "Zoes phone", "Zoes note") == []
    # Their random id, which now means nobody: in the chain, and in what their certificate rests on.
    assert {name for name, _ in await traces(database, str(zoe.id), repr(zoe.id))} == {
        "audit",
        "audit_details",
        "certificates",
        "enrollments",
    }
    assert await is_whole()


async def test_only_administrators_erase_others(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, stella: User, ivy: User, ada: User
) -> None:
    assert (await client.delete(path_of(sam))).status_code == 401
    assert (await client.delete(ME)).status_code == 401
    for person in (sam, stella, ivy):
        assert (await (await client_for(person)).delete(path_of(sam))).status_code == 403
    assert await User.get(sam.id) is not None
    admin = await client_for(ada)
    assert (await admin.delete(path_of(sam))).status_code == 204
    assert await User.get(sam.id) is None
    assert refusal(await admin.delete(path_of(sam))) == (404, "user_not_found")
    assert (await admin.delete("/users/nobody?confirm=erase")).status_code == 404
    [entry] = await acts_of(Act.USER_DELETED)
    assert (entry.actor, entry.target_id, entry.facts) == (str(ada.id), str(sam.id), {})
    assert entry.sealed.keys() == {str(ada.id)}


@pytest.mark.parametrize("by_themselves", [True, False])
async def test_from_that_moment_the_audit_log_tells_nothing_of_them_and_is_whole(
    client_for: ClientFor, sam: User, ada: User, *, by_themselves: bool
) -> None:
    mine, hers = await client_for(sam), await client_for(ada)
    await mine.get("/users/me/export", headers={"User-Agent": "Sams phone"})
    await write_down()
    assert "Sams phone" in (await hers.get("/audit")).text
    assert await is_whole()
    path = ME if by_themselves else path_of(sam)
    assert (await (mine if by_themselves else hers).delete(path, headers={"User-Agent": "that one"})).status_code == 204
    # Before any job has run.
    assert await AuditKey.find({"_id": sam.id}).count() == 0
    await write_down()
    response = await hers.get("/audit")
    assert [(one["act"], one["target_id"]) for one in response.json()["items"]] == [
        ("user.deleted", str(sam.id)),
        ("user.data_exported", str(sam.id)),
    ]
    assert "Sams phone" not in response.text
    assert ("that one" in response.text) is not by_themselves
    assert await is_whole()


@pytest.mark.parametrize("query", ["", "?confirm=", "?confirm=yes", "?confirm=erase&confirm=erase"])
async def test_it_is_never_done_without_its_word(client_for: ClientFor, sam: User, ada: User, query: str) -> None:
    assert (await (await client_for(sam)).delete(f"/users/me{query}")).status_code == 422
    assert (await (await client_for(ada)).delete(f"/users/{sam.id}{query}")).status_code == 422
    assert await User.get(sam.id) is not None


async def test_who_owns_courses_is_told_which(client_for: ClientFor, ivy: User, ada: User, course: Course) -> None:
    more = [await a_course(ivy.id, f"Course {number}").insert() for number in range(24)]
    for response in (await (await client_for(ivy)).delete(ME), await (await client_for(ada)).delete(path_of(ivy))):
        assert refusal(response) == (409, "owns_courses")
        assert response.json()["course_count"] == 25
        named = set(response.json()["course_ids"])
        assert len(named) == 20
        assert named <= {str(one.id) for one in (course, *more)}
    assert await User.get(ivy.id) is not None
    assert await AuditKey.find({"_id": ivy.id}).count() == 0
    assert await Event.find({"kind": "user.erased"}).count() == 0


async def test_who_helps_to_teach_leaves_the_course(
    client_for: ClientFor, database: Database, settings: Settings, ivy: User, oscar: User, stella: User
) -> None:
    shared = await a_course(ivy.id, co_instructor_ids=[oscar.id, stella.id]).insert()
    assert (await (await client_for(oscar)).delete(ME)).status_code == 204
    await work(database, settings)
    found = await Course.get(shared.id)
    assert found is not None
    assert found.co_instructor_ids == [stella.id]
    assert (found.rev, found.seq > shared.seq) == (shared.rev + 1, True)


async def test_the_last_administrator_stays(client_for: ClientFor, ada: User, sam: User) -> None:
    await a_user("Anna", Role.ADMIN, active=False).insert()
    client = await client_for(ada)
    for path in (ME, path_of(ada)):
        assert refusal(await client.delete(path)) == (409, "last_admin")
    assert await User.get(ada.id) is not None
    await a_user("Bella", Role.ADMIN).insert()
    assert (await client.delete(ME)).status_code == 204


async def test_of_two_administrators_who_leave_at_once_one_stays(client_for: ClientFor, ada: User) -> None:
    bella = await a_user("Bella", Role.ADMIN).insert()
    for _ in range(5):
        clients = [await client_for(ada), await client_for(bella)]
        answers = await asyncio.gather(*(one.delete(ME) for one in clients))
        assert sorted(one.status_code for one in answers) == [204, 409]
        assert await User.find({"role": "admin"}).count() == 1
        await User.find_all().delete()
        for person in (ada, bella):
            await person.insert()


async def test_no_course_comes_up_while_its_owner_goes(database: Database, ivy: User) -> None:
    caller = Caller(ivy.id, Role.INSTRUCTOR, uuid4())

    async def create() -> None:
        data = CourseCreate(title="Tides")
        await in_transaction(lambda session: courses.create_course(caller, data, session))

    for _ in range(5):
        outcomes = await asyncio.gather(create(), erase(ivy.id), return_exceptions=True)
        assert [type(one) for one in outcomes if isinstance(one, Exception)] in ([Unauthenticated], [OwnsCourses])
        owner = await User.get(ivy.id)
        assert await Course.find({"instructor_id": ivy.id}).count() == (0 if owner is None else 1)
        await Course.find_all().delete()
        if owner is None:
            await ivy.insert()


async def test_who_asks_twice_at_once_is_erased_once(client_for: ClientFor, sam: User) -> None:
    clients = [await client_for(sam), await client_for(sam)]
    answers = await asyncio.gather(*(one.delete(ME) for one in clients))
    assert sorted(one.status_code for one in answers) == [204, 401]
    assert len(await acts_of(Act.USER_DELETED)) == 1


async def test_every_session_is_out_here_and_elsewhere(
    client: httpx.AsyncClient, app: Litestar, mongodb_url: str, redis_url: str
) -> None:
    other = create_app(settings_for(mongodb_url, redis_url))
    sam = await a_person(app.state.accounts, "Sam")
    phone, laptop = await sign_in(client, sam), await sign_in(client, sam)
    async with running(other), open_client(other) as elsewhere:
        assert await me(client, phone) == await me(elsewhere, phone) == await me(elsewhere, laptop) == 200
        assert (await client.delete(ME, headers=phone.header)).status_code == 204
        assert await me(client, phone) == await me(client, laptop) == 401

        async def is_out() -> bool:
            return await me(elsewhere, phone) == await me(elsewhere, laptop) == 401

        await eventually(is_out, 1.0)
        assert (await refresh(elsewhere, laptop.refresh_token)).response.status_code == 401
        assert (await sign_in(elsewhere, sam)).response.status_code == 401
    assert await SignIn.find({"user_id": sam.id}).count() == 0


async def test_the_same_address_makes_a_new_person(
    client: httpx.AsyncClient, app: Litestar, database: Database, settings: Settings, course: Course
) -> None:
    before = await a_person(app.state.accounts, "Sam")
    await a_certificate(before, course)
    signed = await sign_in(client, before)
    await client.post("/auth/forgot-password", json={"email": before.email})
    assert (await client.delete(ME, headers=signed.header)).status_code == 204
    # Before the workers get to what is left of the first one.
    who = {"email": before.email, "full_name": "Sam Again", "password": PASSWORD}
    assert (await client.post("/auth/register", json=who)).status_code == 202
    await work(database, settings)
    after = await User.by_email(before.email)
    assert after is not None
    assert after.id != before.id
    again = await sign_in(client, after)
    for path in ("/enrollments", "/certificates"):
        assert (await client.get(path, headers=again.header)).json()["total"] == 0
    assert [link.user_id for link in await MailedLink.find_all().to_list()] == [after.id]


async def test_what_a_slow_request_wrote_afterwards_goes_too(
    database: Database, settings: Settings, sam: User, course: Course, held_clock: HeldClock
) -> None:
    kept = await a_certificate(sam, course)
    await erase(sam.id)
    await work(database, settings)
    assert len(await Event.find({"todo": JOB}).to_list()) == 1
    # A sign-in, a report and an enrolment whose person was still there when they began.
    now = utc_now()
    await SignIn(user_id=sam.id, nonce="n", rotated_at=now, expires_at=now + timedelta(days=1)).insert()
    await Enrollment(student_id=sam.id, course_id=uuid4()).insert()
    await database["enrollments"].update_one({"_id": kept.id}, {"$set": {"progress": {"a": {"data": "late"}}}})
    await AuditKey(id=sam.id, key=b"k" * 32).insert()
    assert await due(database) == []
    held_clock.advance(seconds=LATE.total_seconds())
    assert await work(database, settings) == 1
    for name in ("sessions", "audit_keys", "outbox"):
        assert await database[name].count_documents({"todo": {"$ne": ["append_to_audit"]}}) == 0
    [left] = await Enrollment.find_all().to_list()
    assert (left.id, left.progress) == (kept.id, {})


async def test_jobs_that_gave_up_on_a_person_go_with_their_errors(
    database: Database, settings: Settings, sam: User, stella: User, course: Course
) -> None:
    issued = await a_certificate(sam, course)
    theirs = [
        await an_event("send_welcome_email", user_id=str(sam.id)),
        await an_event("send_certificate_email", certificate_id=str(issued.id)),
        await an_event("generate_certificate", student_id=str(sam.id)),
    ]
    hers = await an_event("send_welcome_email", user_id=str(stella.id))
    failed = {"failed_at": utc_now(), "due": None, "last_error": "550 no such user sam@school.example"}
    await database["outbox"].update_many({"_id": {"$in": [one.id for one in (*theirs, hers)]}}, {"$set": failed})
    await erase(sam.id)
    await work(database, settings)
    assert [one.id for one in await Event.find({"last_error": {"$ne": None}}).to_list()] == [hers.id]


async def test_a_run_does_so_much_and_the_next_one_goes_on(
    database: Database, settings: Settings, sam: User, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ROWS", 2), ("ENROLLMENTS", 2), ("MOST_BATCHES", 2)):
        monkeypatch.setattr(tasks, name, value)
    kept = await a_certificate(sam, course)
    await database["enrollments"].insert_many(
        [Enrollment(student_id=sam.id, course_id=uuid4()).as_stored() for _ in range(10)]
    )
    await erase(sam.id)
    runs = await work(database, settings)
    assert runs > 2
    assert [row["_id"] async for row in database["enrollments"].find()] == [kept.id]
    assert len(await Event.find({"todo": JOB}).to_list()) == 1


async def test_erasing_what_is_left_twice_changes_nothing(
    database: Database, settings: Settings, sam: User, stella: User, course: Course
) -> None:
    await a_certificate(sam, course)
    await a_certificate(stella, course)
    await erase(sam.id)
    await work(database, settings)
    before = [await database[name].find().to_list() for name in ("enrollments", "certificates", "certificate_pdfs")]
    again = await an_event(JOB, user_id=str(sam.id))
    await run_job(JOB, again.id, JobContext(settings, Mailer(settings)))
    after = [await database[name].find().to_list() for name in ("enrollments", "certificates", "certificate_pdfs")]
    assert before == after
    assert [(one.name, one.student_id) for one in await Certificate.find_all().sort("name").to_list()] == [
        (None, sam.id),
        (stella.full_name, stella.id),
    ]


@pytest.mark.parametrize("status", list(EnrollmentStatus))
async def test_only_what_a_certificate_rests_on_stays(
    database: Database, settings: Settings, sam: User, course: Course, status: EnrollmentStatus
) -> None:
    await a_completed_enrollment(sam, course, status=status)
    await erase(sam.id)
    await work(database, settings)
    assert await Enrollment.find_all().count() == 0


async def test_statistics_stay_exact(
    database: Database, settings: Settings, sam: User, stella: User, course: Course, ivy: User
) -> None:
    other = await a_course(ivy.id, "Tides").insert()
    await a_certificate(sam, course)
    await a_completed_enrollment(stella, course)
    await a_completed_enrollment(sam, other, status=EnrollmentStatus.ACTIVE)

    async def counted() -> dict[UUID, tuple[int, int, int]]:
        event = await an_event(update_course_statistics.name)
        await run_job(update_course_statistics.name, event.id, JobContext(settings, Mailer(settings)))
        rows = await database["course_stats"].find().to_list()
        return {row["_id"]: (row["enrolled"], row["active"], row["completed"]) for row in rows}

    assert await counted() == {course.id: (2, 0, 2), other.id: (1, 1, 0)}
    await erase(sam.id)
    await work(database, settings)
    assert await counted() == {course.id: (2, 0, 2), other.id: (0, 0, 0)}
