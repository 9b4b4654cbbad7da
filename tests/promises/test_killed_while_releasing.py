"""Promises 1, 2 and 4: `kill -9` of the worker while it completes those who are done without a deleted lesson."""

from pathlib import Path

from litestar import Litestar

from lms.accounts.documents import Role
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, LessonProgress
from lms.enrollments.rules import COMPLETED, pins_of
from lms.enrollments.tasks import release_deleted_lessons
from tests.build import a_course, a_user
from tests.promises.faults import a_wire
from tests.promises.issuing import QUIET_SECONDS, SHORT_LEASES, Database, an_event
from tests.promises.system import a_system, eventually, store
from tests.servers import SmtpSink

STUDENTS = 12


async def everybody_lacks_the_last_lesson(database: Database) -> None:
    """Store what is there when the last of two lessons has been deleted, and the event of that."""
    ivy = a_user("Ivy", Role.INSTRUCTOR)
    course = a_course(ivy.id)
    progress = pins_of([lesson.model_dump() for lesson in course.lessons])
    progress[course.lessons[0].id]["state"] = COMPLETED
    gone = course.lessons.pop()
    await store(database, ivy, course)
    for number in range(STUDENTS):
        sam = a_user(f"Sam {number}")
        await store(database, sam, enrollment_of(course, sam.id, progress))
    ids = {"course_id": str(course.id), "lesson_ids": gone.id}
    await store(database, an_event("lessons.deleted", release_deleted_lessons.name, **ids))


def enrollment_of(course: Course, student_id: object, progress: dict[str, dict[str, object]]) -> Enrollment:
    entries = {lesson_id: LessonProgress.model_validate(entry) for lesson_id, entry in progress.items()}
    return Enrollment.model_validate(
        {"student_id": student_id, "course_id": course.id, "percent": 50, "progress": entries}
    )


async def test_the_next_worker_completes_everybody_once(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url}
    async with (
        a_wire(mongodb_url) as wire,
        a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database),
    ):
        await everybody_lacks_the_last_lesson(database)
        wire.hold("commitTransaction", answer=True)
        worker = await system.start("worker", LMS_MONGODB_URL=wire.url)
        # Somebody is completed, which the worker does not know yet.
        await wire.holds()
        await worker.kill()
        assert 0 < await database["enrollments"].count_documents({"status": "completed"}) < STUDENTS
        await system.start("worker")

        async def all_is_quiet() -> bool:
            return await database["outbox"].count_documents({}) == 0

        await eventually(all_is_quiet, QUIET_SECONDS)
        assert await database["enrollments"].count_documents({"status": "completed", "percent": 100}) == STUDENTS
        assert await database["certificates"].count_documents({}) == STUDENTS
        # One number of each student for being completed, and one for the certificate: no transition happened twice.
        assert {row["seq"] async for row in database["student_counters"].find()} == {2}
