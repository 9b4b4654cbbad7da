"""The world that the hot list is asked in: the seeded one, with a wide catalogue and one student who has done a lot.

What the catalogue holds makes every filter work hard: few courses match and thousands do not.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from litestar import Litestar

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.certificates.numbers import number_of
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.ids import new_id
from lms.mail import Mailer
from lms.outbox.documents import BUCKETS, Event
from lms.outbox.jobs import JobContext, run_job
from lms.scheduler import lead
from lms.settings import Settings
from scripts.measure.explaining import listener
from scripts.measure.seed import PASSWORD, Database, World, free_courses

SHELF = 5_200
"""Courses beside the seeded ones: more than a search may have candidates, fewer than a total counts."""
DRAFTS, HIS = 33, 3
"""Drafts, and how many of them are the second instructor's."""
EXTRA = 40
"""What the student is enrolled in beside what was seeded, for more than one page."""
DUE, LATER = 150, 2_000
"""Events that wait in the outbox: for the relay now, and for their next attempt."""
CLOSED_MAIL = "smtp://127.0.0.1:9"
_BORN = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Cast:
    """Who asks, and the ids that stand in paths and bodies. `people` has (person, role) by name."""

    app: Litestar
    settings: Settings
    database: Database
    people: dict[str, tuple[UUID, Role]]
    ids: dict[str, str] = field(default_factory=dict[str, str])
    tokens: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def accounts(self) -> Accounts:
        return self.app.state.accounts

    @property
    def context(self) -> JobContext:
        """That of a worker whose mail server is away, so that no letter leaves."""
        closed = self.settings.model_copy(update={"smtp_url": CLOSED_MAIL})
        return JobContext(closed, Mailer(closed))

    async def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who in self.tokens else {}
        transport = httpx.ASGITransport(cast("Any", self.app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://lms.example") as client:
            return await client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    async def api(self, who: str, method: str, path: str, **more: Any) -> dict[str, Any]:
        """For what prepares the world. Raises RuntimeError where it is refused."""
        answer = await self.ask(who, method, f"/api/v1{path}", **more)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else {}

    async def new_session(self, who: str) -> None:
        """One more sign-in of a person, without the cost of a password; visitors have none."""
        if who not in self.people:
            return
        (person, role), now = self.people[who], utc_now()
        expires_at = now + timedelta(days=1)
        sign_in = SignIn(user_id=person, nonce="hot", rotated_at=now, expires_at=expires_at)
        await self.database["sessions"].insert_one(_stored(sign_in.model_dump()))
        self.tokens[who] = self.accounts.keys.issue(person, sign_in.id, role, 0, now)


@asynccontextmanager
async def opened(settings: Settings, database: Database, world: World) -> AsyncGenerator[Cast]:
    """The application between start and stop, whose commands the listener hears of. `database` is for preparing."""
    listener()
    app = create_app(settings)
    people = {"student": (world.students[0], Role.STUDENT), "instructor": (world.instructor_id, Role.INSTRUCTOR)}
    async with app.lifespan():
        yield Cast(app, settings, database, people)


async def arrange(cast: Cast, world: World) -> None:
    """Once in a seeded database: its catalogue, a history for the student, a crowd with certificates, a full outbox."""
    await _widen(cast, world)
    await _crowd(cast.database, world)
    await _outbox(cast.database)
    await lead("hot")
    credentials = {"email": world.emails[0], "password": PASSWORD}
    signed_in = await cast.api("visitor", "POST", "/auth/login", json=credentials)
    cast.ids |= {"email": world.emails[0], "refresh_token": signed_in["refresh_token"]}
    await cast.new_session("student")
    await _study(cast, world)


async def _widen(cast: Cast, world: World) -> None:
    """Ten courses of 5,400 have what the rare filters ask for; the second instructor has twenty of them."""
    courses, oscar = cast.database["courses"], await _second_instructor(cast.database)
    ids = [course["_id"] for course in world.courses]
    await courses.update_many({"_id": {"$in": ids[::20]}}, {"$set": {"difficulty_level": "advanced"}})
    await courses.update_many({"_id": {"$in": ids[3::10]}}, {"$set": {"instructor_id": oscar}})
    shelf = [_on_the_shelf(number, world.instructor_id) for number in range(SHELF)]
    await courses.insert_many(shelf, ordered=False)
    await cast.database["course_stats"].insert_many(
        [_stored(CourseStats(id=course["_id"]).model_dump()) for course in shelf], ordered=False
    )
    drafts = [_draft(number, oscar if number < HIS else world.instructor_id) for number in range(DRAFTS)]
    await courses.insert_many(drafts, ordered=False)
    cast.ids["oscar"] = str(oscar)


async def _second_instructor(database: Database) -> UUID:
    made = User(email="oscar@school.example", full_name="Oscar Okafor", role=Role.INSTRUCTOR, password_hash="none")  # noqa: S106
    await database["users"].insert_one(_stored(made.model_dump()))
    return made.id


def _on_the_shelf(number: int, instructor_id: UUID, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "title": f"Limpet walk {number:04}",
        "slug": f"limpet-walk-{number:04}",
        "description": "A walk for those who look for limpets.",
        "category": "walks",
        "tags": ["outdoors", "plants"] if number % 50 == 0 else ["outdoors"],
        "status": CourseStatus.PUBLISHED,
        "instructor_id": instructor_id,
        "estimated_duration_minutes": 200,
        "created_at": _BORN + timedelta(minutes=number),
    }
    return _stored(Course(**(fields | more)).model_dump())


def _draft(number: int, instructor_id: UUID) -> dict[str, Any]:
    return _on_the_shelf(SHELF + number, instructor_id, status=CourseStatus.DRAFT)


def _stored(document: dict[str, Any]) -> dict[str, Any]:
    return {"_id" if name == "id" else name: value for name, value in document.items()}


async def _crowd(database: Database, world: World) -> None:
    """Everybody else has completed ten of the courses, and has the certificate: as many as the scale makes them."""
    ten = [course["_id"] for course in world.courses[5::20]]
    theirs: dict[str, Any] = {"course_id": {"$in": ten}, "student_id": {"$ne": world.students[0]}}
    done = {"status": "completed", "percent": 100, "certificate_issued": True, "completed_at": _BORN}
    await database["enrollments"].update_many(theirs, {"$set": done})
    texts = ("course_slug", "number", "name", "course_title", "instructor_name", "issuer")
    shown: dict[str, Any] = {
        **dict.fromkeys(("student_id", "course_id", "created_at", "seq"), 1),
        **{name: {"$literal": "x"} for name in texts},
        "status": {"$literal": "valid"},
        "revision": {"$literal": 1},
        "issued_at": "$completed_at",
    }
    pipeline: list[dict[str, Any]] = [{"$match": theirs}, {"$project": shown}, {"$merge": {"into": "certificates"}}]
    await (await database["enrollments"].aggregate(pipeline)).to_list()


async def _outbox(database: Database) -> None:
    """Nobody is told: the jobs of these events are never run."""
    now = datetime.now(UTC)
    rows = [_event(number, now - timedelta(minutes=1)) for number in range(DUE)]
    rows += [_event(number, now + timedelta(hours=1)) for number in range(LATER)]
    await database["outbox"].insert_many(rows, ordered=False)


def _event(number: int, due: datetime) -> dict[str, Any]:
    """The buckets by turns, each the one that its id says."""
    bucket = number % BUCKETS
    event_id = UUID(int=new_id().int // BUCKETS * BUCKETS + bucket)
    data: dict[str, Any] = {"user_id": str(new_id())}
    made = Event(id=event_id, bucket=bucket, kind="user.registered", data=data, todo=["send_welcome_email"], due=due)
    return _stored(made.model_dump())


async def _study(cast: Cast, world: World) -> None:
    """The student enrols in forty more courses and completes two, of which the second still has its last lesson."""
    free = [world.courses[index] for index in free_courses(0)]
    made = [await _enroll(cast, course) for course in free[:EXTRA]]
    await cast.database["courses"].update_one({"_id": free[0]["_id"]}, {"$push": {"lessons": _optional(free[0])}})
    for enrollment_id, course in ((made[1], free[1]), (made[2], free[2])):
        for lesson in course["lessons"][: -1 if enrollment_id == made[2] else None]:
            await cast.api("student", "POST", f"/enrollments/{enrollment_id}/lessons/{lesson['id']}/complete")
    await _issue(cast, made[1])
    cast.ids |= {
        "course": str(free[0]["_id"]),
        "slug": free[0]["slug"],
        "preview": free[0]["lessons"][0]["id"],
        "lesson": free[0]["lessons"][3]["id"],
        "another_lesson": free[0]["lessons"][4]["id"],
        "optional": OPTIONAL,
        "enrollment": made[0],
        "certificate": made[1],
        "number": number_of(UUID(made[1])),
        "nearly_done": made[2],
        "last_lesson": free[2]["lessons"][-1]["id"],
        "dropped": made[3],
        "dropped_course": str(free[3]["_id"]),
        "free": str(free[EXTRA]["_id"]),
        "another_free": str(free[EXTRA + 1]["_id"]),
    }


OPTIONAL = "zzzzzzzzzzz2"


def _optional(course: dict[str, Any]) -> dict[str, Any]:
    return course["lessons"][0] | {"id": OPTIONAL, "slug": "one-more", "required": False, "order": 99}


async def _enroll(cast: Cast, course: dict[str, Any]) -> str:
    return (await cast.api("student", "POST", "/enrollments", json={"course_id": str(course["_id"])}))["id"]


async def _issue(cast: Cast, enrollment_id: str) -> None:
    await run_job("generate_certificate", await event_of(cast, "enrollment.completed", enrollment_id), cast.context)


async def event_of(cast: Cast, kind: str, subject: str) -> UUID:
    """The event of a completed enrolment, of its certificate, which has the same id, or of an act for the audit log."""
    name = {"certificate.issued": "certificate_id", "audit": "act"}.get(kind, "enrollment_id")
    found = await cast.database["outbox"].find_one({"kind": kind, f"data.{name}": subject}, {"_id": 1})
    if found is None:
        raise RuntimeError(f"There is no event {kind} of {subject}.")
    return found["_id"]
