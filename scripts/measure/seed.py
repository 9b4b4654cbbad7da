"""The data that is measured on: courses with lessons, students, and as many enrolments as the scale says.

Written past the product, with the driver, so that a million enrolments take minutes. Each kind of document is made
once by its model, so that it has the shape that the product writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import bson
from bson.binary import UuidRepresentation
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, SignIn
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.enrollments.documents import Enrollment
from lms.enrollments.rules import pins_of
from lms.ids import new_id, short_id_of

Database = AsyncDatabase[dict[str, Any]]

COURSES = 200
LESSONS = 20
MODULES = 4
STUDENTS = 500
"""Those who send requests; with a larger scale they are spread among all others."""
PER_STUDENT = 3
BATCH = 2_000
PASSWORD = "correct horse battery"  # noqa: S105 - of people who exist while this runs
CATEGORIES = ("biology", "physics", "languages", "crafts", "history")
TAGS = ("plants", "numbers", "reading", "tools", "maps", "music", "light")
TEXT = (
    "Between the tides live those who can hold on. Twice a day the sea leaves them to sun and wind, and twice a day it "
    "comes back with food and with waves. Look at one square metre and write down what you see.\n\n"
)
_BORN = datetime(2026, 1, 1, tzinfo=UTC)
# What stands in a template where ids and time go in: nothing else in it has these bytes.
_STUDENT, _ID = UUID("5e0c7a1b-93d2-4f86-b0a4-17c9e2d86f35"), UUID("c2a94d70-6b1e-4835-9f27-e8d05a13b64c")
_CREATED = datetime(1987, 6, 5, 4, 3, 21, 987_000, tzinfo=UTC)


@dataclass(slots=True)
class World:
    """What was made. `numbers` are those of the active students among all; `enrollments` has (enrolment, course index)
    by the index of an active student.
    """

    instructor_id: UUID
    courses: list[dict[str, Any]]
    numbers: list[int] = field(default_factory=list[int])
    students: list[UUID] = field(default_factory=list[UUID])
    emails: list[str] = field(default_factory=list[str])
    enrollments: list[list[tuple[UUID, int]]] = field(default_factory=list[list[tuple[UUID, int]]])
    sessions: list[UUID] = field(default_factory=list[UUID])


async def seed(database: Database, password_hash: str, enrollments: int) -> World:
    """At least 500 students with three enrolments each."""
    instructor = _person("ivy@school.example", "Ivy Okafor", password_hash, Role.INSTRUCTOR)
    await database["users"].insert_one(instructor)
    world = World(instructor["_id"], [_course(number, instructor["_id"]) for number in range(COURSES)])
    await database["courses"].insert_many(world.courses)
    people = max(STUDENTS, enrollments // PER_STUDENT)
    await database["course_stats"].insert_many([_stats(course, people) for course in world.courses])
    await _students(database, world, people, password_hash)
    return world


async def _students(database: Database, world: World, people: int, password_hash: str) -> None:
    raw_enrollments = [_template(course) for course in world.courses]
    step = people // STUDENTS
    for batch in _batches(range(people)):
        persons = [_person(f"student{n}@school.example", f"Sam Okafor {n}", password_hash) for n in batch]
        enrolled = [[(new_id(), index) for index in _chosen(n)] for n in batch]
        await database["users"].insert_many(persons, ordered=False)
        made = [
            raw_enrollments[index](enrollment_id, person["_id"], _BORN + timedelta(seconds=n))
            for n, person, mine in zip(batch, persons, enrolled, strict=True)
            for enrollment_id, index in mine
        ]
        await database["enrollments"].insert_many(made, ordered=False)  # pyright: ignore[reportArgumentType]
        for n, person, mine in zip(batch, persons, enrolled, strict=True):
            if n % step == 0 and len(world.students) < STUDENTS:
                world.numbers.append(n)
                world.students.append(person["_id"])
                world.emails.append(person["email"])
                world.enrollments.append(mine)
    world.sessions = [new_id() for _ in world.students]
    pairs = zip(world.sessions, world.students, strict=True)
    await database["sessions"].insert_many([_session(session_id, student_id) for session_id, student_id in pairs])


def _batches(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), BATCH):
        yield numbers[start : start + BATCH]


def _chosen(number: int) -> list[int]:
    """Which courses a student is in."""
    return [(number * 7 + offset * 61) % COURSES for offset in range(PER_STUDENT)]


def free_courses(number: int) -> list[int]:
    """Which courses the student of this number is not in, as indexes."""
    taken = set(_chosen(number))
    return [index for index in range(COURSES) if index not in taken]


def _stored(document: dict[str, Any]) -> dict[str, Any]:
    return {"_id" if name == "id" else name: value for name, value in document.items()}


def _person(email: str, name: str, password_hash: str, role: Role = Role.STUDENT) -> dict[str, Any]:
    return {
        "_id": uuid4(),
        "created_at": _BORN,
        "email": email,
        "full_name": name,
        "role": role.value,
        "password_hash": password_hash,
        "active": True,
        "verified": True,
        "locale": "en",
        "time_zone": "UTC",
        "auth_epoch": 0,
    }


def _session(session_id: UUID, user_id: UUID) -> dict[str, Any]:
    now = datetime.now(UTC)
    sign_in = SignIn(id=session_id, user_id=user_id, nonce="bench", rotated_at=now, expires_at=now + timedelta(days=9))
    return _stored(sign_in.model_dump())


def _stats(course: dict[str, Any], people: int) -> dict[str, Any]:
    enrolled = people * PER_STUDENT // COURSES
    made = CourseStats(id=course["_id"], enrolled=enrolled, active=enrolled, rating_sum=9, rating_count=2)
    return _stored(made.model_dump())


def _course(number: int, instructor_id: UUID) -> dict[str, Any]:
    module_ids = [short_id_of("bench", "m", str(number), str(n)) for n in range(MODULES)]
    modules = [{"id": one, "title": f"Part {n + 1}", "order": n} for n, one in enumerate(module_ids)]
    made = Course.model_validate(
        {
            "title": f"Plants of the tidal zone, walk {number}",
            "slug": f"plants-of-the-tidal-zone-walk-{number}",
            "description": TEXT[:180],
            "category": CATEGORIES[number % len(CATEGORIES)],
            "tags": [TAGS[number % len(TAGS)], TAGS[number * 3 % len(TAGS)]],
            "status": CourseStatus.PUBLISHED,
            "instructor_id": instructor_id,
            "estimated_duration_minutes": 100 + number,
            "modules": modules,
            "lessons": [_lesson(number, n, module_ids[n * MODULES // LESSONS]) for n in range(LESSONS)],
            "created_at": _BORN + timedelta(minutes=number),
            "updated_at": _BORN + timedelta(minutes=number),
        }
    )
    return _stored(made.model_dump())


def _lesson(course: int, number: int, module_id: str) -> dict[str, Any]:
    return {
        "id": short_id_of("bench", "l", str(course), str(number)),
        "module_id": module_id,
        "slug": f"square-metre-{number + 1}",
        "title": f"Square metre {number + 1}",
        "content": f"# Square metre {number + 1}\n\n{TEXT * 2}",
        "duration_minutes": 5 + number,
        "order": number % (LESSONS // MODULES),
        "preview": number == 0,
    }


class _template:  # noqa: N801 - called as a function is
    """Enrolments of one course as BSON: encoded once, then only ids and time are put in, which is 50 times faster."""

    def __init__(self, course: dict[str, Any]) -> None:
        fields = Enrollment.model_validate(
            {
                "id": _ID,
                "student_id": _STUDENT,
                "course_id": course["_id"],
                "progress": pins_of(course["lessons"]),
                "created_at": _CREATED,
                "enrolled_at": _CREATED,
                "changed_at": _CREATED,
                "seq": 1,
            }
        )
        options = bson.CodecOptions[dict[str, Any]](uuid_representation=UuidRepresentation.STANDARD)
        self._raw = bson.encode(_stored(fields.model_dump()), codec_options=options)

    def __call__(self, enrollment_id: UUID, student_id: UUID, created_at: datetime) -> RawBSONDocument:
        raw = self._raw.replace(_ID.bytes, enrollment_id.bytes).replace(_STUDENT.bytes, student_id.bytes)
        return RawBSONDocument(raw.replace(_time(_CREATED), _time(created_at)))


def _time(moment: datetime) -> bytes:
    return int(moment.timestamp() * 1000).to_bytes(8, "little", signed=True)
