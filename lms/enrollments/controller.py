from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from pymongo.errors import DuplicateKeyError

from lms.api_keys.documents import Scope
from lms.auth import ANYONE_SIGNED_IN, Caller, CurrentUser, requires
from lms.courses.rules import CourseNotFound, LessonNotFound, is_staff
from lms.enrollments import queries, service
from lms.enrollments.documents import EnrollmentStatus
from lms.enrollments.rules import (
    AlreadyEnrolled,
    CourseNotOpen,
    EnrollmentCompleted,
    EnrollmentNotActive,
    EnrollmentNotFound,
    EnrollmentTooLarge,
    check_can_see_enrollment,
)
from lms.enrollments.schemas import (
    EnrollmentCreate,
    EnrollmentRead,
    EnrollmentSummary,
    ProgressReport,
    ProgressResult,
)
from lms.transactions import Session
from lms.web.idempotency import Answer, Once
from lms.web.lists import CursorPage, Page, Paging, answer_list

REPORT_ERRORS = [EnrollmentNotFound, LessonNotFound, EnrollmentNotActive, EnrollmentTooLarge]


class EnrollmentController(Controller):
    path = "/enrollments"
    tags = ["enrollments"]
    guards = [requires(*ANYONE_SIGNED_IN)]

    @post("/", status_code=201, opt={"idempotent": True, "errors": [AlreadyEnrolled, CourseNotFound, CourseNotOpen]})
    async def create_enrollment(
        self, data: JSONBody[EnrollmentCreate], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[EnrollmentRead]:
        """Enrol in a course. After a drop the same enrolment becomes active again, from the start."""

        async def enroll(session: Session) -> Answer:
            return _enrolled(*await service.enroll(user, data.course_id, session))

        async def enroll_again(session: Session) -> Answer:
            return _enrolled(*await service.enroll_again(user, data.course_id, session))

        try:
            return await once.run(enroll)
        except DuplicateKeyError:
            # There is one already, perhaps by a parallel request: the unique index said so.
            return await once.run(enroll_again)

    @get("/", opt={"scope": Scope.ENROLLMENTS_READ})
    async def list_enrollments(
        self,
        request: Request[Caller, Any, Any],
        paging: NamedDependency[Paging],
        status: FromQuery[EnrollmentStatus | None] = None,
        course_id: FromQuery[UUID | None] = None,
    ) -> Response[Page[EnrollmentSummary] | CursorPage[EnrollmentSummary]]:
        """The caller's own enrolments, newest first."""
        given = {"status": status.value if status else None, "course_id": course_id}
        wanted = {"student_id": request.user.id} | {name: value for name, value in given.items() if value is not None}
        items, total, cursor = await queries.list_enrollments(wanted, paging)
        return answer_list(request, paging, items, total, cursor)

    @get("/{enrollment_id:uuid}", opt={"scope": Scope.ENROLLMENTS_READ, "errors": [EnrollmentNotFound]})
    async def get_enrollment(self, enrollment_id: FromPath[UUID], user: CurrentUser) -> EnrollmentRead:
        """An enrolment with its progress: for the student, the course's staff and administrators."""
        raw = await queries.enrollment(enrollment_id, user.id)
        head = await queries.course_heads.get(raw["course_id"]) if raw else None
        staff = head is not None and is_staff(head, user.id, user.role)
        check_can_see_enrollment(raw, user.id, user.role, staff=staff)
        if raw is None or head is None:
            raise EnrollmentNotFound
        return queries.shown_enrollment(raw, head)

    @delete("/{enrollment_id:uuid}", opt={"errors": [EnrollmentNotFound, EnrollmentCompleted]})
    async def drop_enrollment(self, enrollment_id: FromPath[UUID], user: CurrentUser) -> None:
        """Leave the course; a completed enrolment stays."""
        await service.drop(user, enrollment_id)

    @put("/{enrollment_id:uuid}/lessons/{lesson_id:str}/progress", opt={"errors": REPORT_ERRORS})
    async def report_progress(
        self, enrollment_id: FromPath[UUID], lesson_id: FromPath[str], data: JSONBody[ProgressReport], user: CurrentUser
    ) -> ProgressResult:
        """Report what a device saw; reports merge in any order and progress never goes backwards."""
        return await service.report_progress(user, enrollment_id, lesson_id, data)

    # Repeating it changes nothing, so that a key needs no record.
    @post(
        "/{enrollment_id:uuid}/lessons/{lesson_id:str}/complete",
        status_code=200,
        opt={"idempotent": True, "errors": REPORT_ERRORS},
    )
    async def complete_lesson(
        self, enrollment_id: FromPath[UUID], lesson_id: FromPath[str], user: CurrentUser
    ) -> ProgressResult:
        """Mark a lesson completed. The last required one completes the enrolment and issues the certificate."""
        return await service.report_progress(user, enrollment_id, lesson_id, ProgressReport(state="completed"))


def _enrolled(raw: Mapping[str, Any], course: Mapping[str, Any]) -> Answer:
    body = queries.shown_enrollment(raw, course)
    return Answer(body, 201, {"Location": f"/api/v1/enrollments/{body.id}"})
