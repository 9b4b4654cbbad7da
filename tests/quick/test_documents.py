"""Documents without a server: what is stored, and what comes back."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from beanie import init_beanie
from pymongo.asynchronous.database import AsyncDatabase

from lms import transactions
from lms.accounts.documents import Role, SignIn, User
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus
from lms.database import DOCUMENTS, bind
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.rules import pins_of
from lms.outbox.documents import Event
from tests.build import a_course, a_user
from tests.quick.memory import memory_database

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
async def in_memory() -> AsyncGenerator[AsyncDatabase[dict[str, Any]]]:
    real = transactions.open_database()
    database = memory_database()
    await init_beanie(database=database, document_models=DOCUMENTS, skip_indexes=True)
    transactions.use_database(database)
    yield database
    transactions.use_database(real)
    if real is not None:
        await bind(real)


async def test_a_person_is_found_by_address() -> None:
    sam = await a_user("Sam", Role.STUDENT).insert()
    found = await User.by_email("sam@school.example")
    assert found is not None
    assert (found.id, found.role, found.auth_epoch) == (sam.id, Role.STUDENT, 0)
    assert await User.by_email("stella@school.example") is None


async def test_people_have_random_ids_and_documents_ordered_ones() -> None:
    ivy = a_user("Ivy", Role.INSTRUCTOR)
    first, second = a_course(ivy.id), a_course(ivy.id)
    assert ivy.id.version == 4
    assert (first.id.version, first.id < second.id) == (7, True)


async def test_a_course_comes_back_as_it_was_stored() -> None:
    course = await a_course(a_user("Ivy").id).insert()
    found = await Course.by_slug("plants-of-the-tidal-zone")
    assert found is not None
    assert found.model_dump() == course.model_dump()
    assert found.status is CourseStatus.PUBLISHED


async def test_times_are_kept_to_the_millisecond() -> None:
    course = await a_course(a_user("Ivy").id).insert()
    found = await Course.get(course.id)
    assert found is not None
    assert found.created_at == course.created_at
    assert course.created_at.microsecond % 1000 == 0


async def test_an_enrolment_keeps_its_pins_by_lesson() -> None:
    course = a_course(a_user("Ivy").id, lessons=3)
    pins = pins_of([lesson.model_dump() for lesson in course.lessons])
    stored = {"student_id": uuid4(), "course_id": course.id, "progress": pins}
    enrollment = await Enrollment.model_validate(stored).insert()
    found = await Enrollment.get(enrollment.id)
    assert found is not None
    assert set(found.progress) == {lesson.id for lesson in course.lessons}
    assert found.status is EnrollmentStatus.ACTIVE


async def test_a_session_stores_no_token() -> None:
    now = utc_now()
    sign_in = SignIn(user_id=uuid4(), nonce="n", rotated_at=now, expires_at=now + timedelta(days=1))
    await sign_in.insert()
    raw = await SignIn.get_pymongo_collection().find_one({"_id": sign_in.id})
    assert raw is not None
    assert not {"token", "refresh_token", "access_token"} & raw.keys()


async def test_an_event_goes_when_its_last_job_is_done() -> None:
    event = Event(kind="user.registered", data={"user_id": str(uuid4())}, todo=["a", "b"], bucket=0, due=utc_now())
    await event.insert()
    assert [await event.finish("a"), await event.finish("a"), await event.finish("b")] == [True, False, True]
    assert await Event.count() == 0
