from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from lms.api_keys.documents import Scope
from lms.auth import CurrentUser, OptionalUser, requires
from lms.courses import queries
from lms.courses.controller import read_opt, write_opt
from lms.courses.listing import STAFF
from lms.courses.rules import (
    CourseNotFound,
    CourseTooLarge,
    LastRequiredLesson,
    LessonNotFound,
    LessonSlugTaken,
    NotEnrolled,
    check_can_read_body,
    in_order,
)
from lms.courses.schemas import LessonCreate, LessonRead, LessonSummary, LessonUpdate
from lms.courses.service import check_visible
from lms.enrollments.queries import is_enrolled
from lms.lessons import service
from lms.transactions import Session
from lms.web.etags import if_match, strong_tag
from lms.web.idempotency import Answer, Once
from lms.web.lists import CursorPage, Page, Paging, answer_list, slice_page


class LessonController(Controller):
    path = "/courses/{course_id:uuid}/lessons"
    tags = ["lessons"]

    @post("/", status_code=201, guards=[requires(*STAFF)], opt=write_opt(LessonSlugTaken, CourseTooLarge))
    async def create_lesson(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        data: JSONBody[LessonCreate],
        user: CurrentUser,
        once: NamedDependency[Once],
    ) -> Response[LessonRead]:
        """Append a lesson to its module, or without `module_id` to an untitled default module.

        `If-Match` takes the outline's ETag; the answer has the lesson's own.
        """
        tags = if_match(request)

        async def add(session: Session) -> Answer:
            lesson = await service.add_lesson(user, course_id, data, tags, session)
            location = f"/api/v1/courses/{course_id}/lessons/{lesson.id}"
            return Answer(LessonRead.of(lesson), 201, {"Location": location, "ETag": strong_tag(lesson.rev)})

        return await once.run(add)

    @get("/", opt={"scope": Scope.COURSES_READ, "errors": [CourseNotFound]})
    async def list_lessons(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        viewer: OptionalUser,
        paging: NamedDependency[Paging],
    ) -> Response[Page[LessonSummary] | CursorPage[LessonSummary]]:
        """The lessons in order, without bodies."""
        raw = await queries.course(course_id, queries.OUTLINE)
        await check_visible(raw, viewer)
        _, lessons = in_order(raw["modules"], raw["lessons"]) if raw else ([], [])
        rows, total, cursor = slice_page(lessons, paging)
        items = [LessonSummary.from_raw({**row, "_id": row["id"]}) for row in rows]
        return answer_list(request, paging, items, total, cursor)

    @get("/{lesson_id:str}", opt=read_opt(LessonNotFound, NotEnrolled))
    async def get_lesson(
        self, course_id: FromPath[UUID], lesson_id: FromPath[str], viewer: OptionalUser
    ) -> Response[LessonRead]:
        """A lesson with its body: for staff and enrolled students, a preview lesson for everyone."""
        raw = await queries.lesson_with_body(course_id, lesson_id)
        staff, enrolled = await check_visible(raw, viewer)
        lessons = raw.get("lessons", []) if raw else []
        if not lessons:
            raise LessonNotFound
        if not (staff or enrolled or viewer is None or lessons[0]["preview"]):
            enrolled = await is_enrolled(viewer.id, course_id)
        check_can_read_body(lessons[0], staff=staff, enrolled=enrolled, signed_in=viewer is not None)
        return _lesson(lessons[0])

    @patch(
        "/{lesson_id:str}",
        guards=[requires(*STAFF)],
        opt=write_opt(LessonNotFound, LessonSlugTaken, LastRequiredLesson, CourseTooLarge, idempotent=False),
    )
    async def update_lesson(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        lesson_id: FromPath[str],
        data: JSONBody[LessonUpdate],
        user: CurrentUser,
    ) -> Response[LessonRead]:
        """Change what is named; edits of a published course are live at once."""
        return _lesson(await service.update_lesson(user, course_id, lesson_id, data, if_match(request)))

    @delete(
        "/{lesson_id:str}",
        guards=[requires(*STAFF)],
        opt=write_opt(LessonNotFound, LastRequiredLesson, idempotent=False),
    )
    async def delete_lesson(
        self, request: Request[Any, Any, Any], course_id: FromPath[UUID], lesson_id: FromPath[str], user: CurrentUser
    ) -> None:
        """Delete a lesson. What students recorded stays, and who has done all the others is soon completed.

        409 for the last required lesson of a published course.
        """
        await service.delete_lesson(user, course_id, lesson_id, if_match(request))


def _lesson(raw: dict[str, Any]) -> Response[LessonRead]:
    body = LessonRead.from_raw({**raw, "_id": raw["id"]})
    return Response(body, headers={"ETag": strong_tag(raw["rev"])})
