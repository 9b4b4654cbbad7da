from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from lms.api_keys.documents import Scope
from lms.auth import Caller, CurrentUser, OptionalUser, requires
from lms.courses import queries, service
from lms.courses.documents import Course, CourseStatus
from lms.courses.listing import STAFF, Listing, SearchText, SortName, answer_from_memory, kept_lists, provide_listing
from lms.courses.rules import (
    CourseNotFound,
    CourseNotPublishable,
    CourseTooLarge,
    LessonNotFound,
    LessonSlugTaken,
    NotCourseStaff,
    NotEnrolled,
    SlugTaken,
    check_can_read_body,
    check_can_see,
    in_order,
    is_open,
    is_staff,
)
from lms.courses.schemas import (
    CourseCreate,
    CourseRead,
    CourseSummary,
    CourseUpdate,
    LessonCreate,
    LessonRead,
    LessonSummary,
    LessonUpdate,
    ModuleCreate,
    ModuleRead,
)
from lms.enrollments.queries import is_enrolled
from lms.errors import LMSError
from lms.transactions import Session
from lms.web.etags import if_match, strong_tag
from lms.web.idempotency import Answer, Once
from lms.web.lists import CursorPage, Page, Paging, answer_list, slice_page


def _read_opt(*errors: type[LMSError]) -> dict[str, Any]:
    return {"scope": Scope.COURSES_READ, "conditional": True, "errors": [CourseNotFound, *errors]}


def _write_opt(*errors: type[LMSError]) -> dict[str, Any]:
    return {"scope": Scope.COURSES_WRITE, "idempotent": True, "errors": [CourseNotFound, NotCourseStaff, *errors]}


def _edit_opt(*errors: type[LMSError]) -> dict[str, Any]:
    return {"scope": Scope.COURSES_WRITE, "conditional": True, "errors": [CourseNotFound, NotCourseStaff, *errors]}


class CourseController(Controller):
    path = "/courses"
    tags = ["courses"]

    @get(
        "/",
        dependencies={"listing": provide_listing},
        before_request=answer_from_memory,
        opt={"scope": Scope.COURSES_READ},
    )
    async def list_courses(
        self,
        request: Request[Caller | None, Any, Any],
        listing: NamedDependency[Listing],
        search: SearchText = None,
        sort: SortName = "-created_at",
    ) -> Response[Page[CourseSummary] | CursorPage[CourseSummary]]:
        """Published courses, newest first; for staff also their own with `mine` or `status`.

        Others may get an answer that is up to half a second old.
        """

        async def answer() -> Response[Any]:
            paging = listing.paging
            items, total, cursor = await queries.list_courses(listing.wanted, search, queries.SORTS[sort], paging)
            return answer_list(request, paging, items, total, cursor)

        kept = kept_lists(request)
        return await (answer() if kept is None else kept.get(request.scope["query_string"], answer))

    @post(
        "/",
        status_code=201,
        guards=[requires(*STAFF)],
        opt={"scope": Scope.COURSES_WRITE, "idempotent": True, "errors": [SlugTaken]},
    )
    async def create_course(
        self, data: JSONBody[CourseCreate], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Create a draft."""

        async def create(session: Session) -> Answer:
            return _created(await service.create_course(user, data, session))

        return await once.run(create)

    @get("/{course_id:uuid}", opt=_read_opt())
    async def get_course(self, course_id: FromPath[UUID], viewer: OptionalUser) -> Response[CourseRead]:
        """A course with its outline, without lesson bodies."""
        return await _show(await queries.shown_by_id.get(course_id), viewer)

    @get("/slug/{slug:str}", opt=_read_opt())
    async def get_course_by_slug(self, slug: FromPath[str], viewer: OptionalUser) -> Response[CourseRead]:
        """The same by slug."""
        return await _show(await queries.shown_by_slug.get(slug), viewer)

    @patch("/{course_id:uuid}", guards=[requires(*STAFF)], opt=_edit_opt(SlugTaken))
    async def update_course(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        data: JSONBody[CourseUpdate],
        user: CurrentUser,
    ) -> Response[CourseRead]:
        """Change what is named; `null` clears what may be empty."""
        raw = await service.update_course(user, course_id, data, if_match(request))
        return _respond(raw, await queries.with_stats(raw))

    @post("/{course_id:uuid}/publish", status_code=200, guards=[requires(*STAFF)], opt=_write_opt(CourseNotPublishable))
    async def publish_course(
        self, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Open the course to everyone. 409 says what is missing."""
        return await _change_status(user, course_id, CourseStatus.PUBLISHED, once)

    @post("/{course_id:uuid}/unpublish", status_code=200, guards=[requires(*STAFF)], opt=_write_opt())
    async def unpublish_course(
        self, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Hide the course from newcomers; whoever is enrolled goes on."""
        return await _change_status(user, course_id, CourseStatus.DRAFT, once)

    @post("/{course_id:uuid}/archive", status_code=200, guards=[requires(*STAFF)], opt=_write_opt())
    async def archive_course(
        self, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Retire the course; whoever is enrolled goes on."""
        return await _change_status(user, course_id, CourseStatus.ARCHIVED, once)


class LessonController(Controller):
    path = "/courses/{course_id:uuid}"
    tags = ["lessons"]

    @post("/modules", status_code=201, guards=[requires(*STAFF)], opt=_write_opt(CourseTooLarge))
    async def create_module(
        self,
        course_id: FromPath[UUID],
        data: JSONBody[ModuleCreate],
        user: CurrentUser,
        once: NamedDependency[Once],
    ) -> Response[ModuleRead]:
        """Append a module, or with `parent_id` a sub-module."""

        async def add(session: Session) -> Answer:
            module = await service.add_module(user, course_id, data, session)
            location = {"Location": f"/api/v1/courses/{course_id}"}
            return Answer(ModuleRead.of(module), 201, location)

        return await once.run(add)

    @post("/lessons", status_code=201, guards=[requires(*STAFF)], opt=_write_opt(LessonSlugTaken, CourseTooLarge))
    async def create_lesson(
        self,
        course_id: FromPath[UUID],
        data: JSONBody[LessonCreate],
        user: CurrentUser,
        once: NamedDependency[Once],
    ) -> Response[LessonRead]:
        """Append a lesson to its module, or without `module_id` to an untitled default module."""

        async def add(session: Session) -> Answer:
            lesson = await service.add_lesson(user, course_id, data, session)
            location = f"/api/v1/courses/{course_id}/lessons/{lesson.id}"
            return Answer(LessonRead.of(lesson), 201, {"Location": location, "ETag": strong_tag(lesson.rev)})

        return await once.run(add)

    @get("/lessons", opt={"scope": Scope.COURSES_READ, "errors": [CourseNotFound]})
    async def list_lessons(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        viewer: OptionalUser,
        paging: NamedDependency[Paging],
    ) -> Response[Page[LessonSummary] | CursorPage[LessonSummary]]:
        """The lessons in order, without bodies."""
        raw = await queries.course(course_id, queries.OUTLINE)
        await _check_visible(raw, viewer)
        _, lessons = in_order(raw["modules"], raw["lessons"]) if raw else ([], [])
        rows, total, cursor = slice_page(lessons, paging)
        items = [LessonSummary.from_raw({**row, "_id": row["id"]}) for row in rows]
        return answer_list(request, paging, items, total, cursor)

    @get("/lessons/{lesson_id:str}", opt=_read_opt(LessonNotFound, NotEnrolled))
    async def get_lesson(
        self, course_id: FromPath[UUID], lesson_id: FromPath[str], viewer: OptionalUser
    ) -> Response[LessonRead]:
        """A lesson with its body: for staff and enrolled students, a preview lesson for everyone."""
        raw = await queries.lesson_with_body(course_id, lesson_id)
        staff, enrolled = await _check_visible(raw, viewer)
        lessons = raw.get("lessons", []) if raw else []
        if not lessons:
            raise LessonNotFound
        if not (staff or enrolled or viewer is None or lessons[0]["preview"]):
            enrolled = await is_enrolled(viewer.id, course_id)
        check_can_read_body(lessons[0], staff=staff, enrolled=enrolled, signed_in=viewer is not None)
        return _lesson(lessons[0])

    @patch(
        "/lessons/{lesson_id:str}",
        guards=[requires(*STAFF)],
        opt=_edit_opt(LessonNotFound, LessonSlugTaken, CourseTooLarge),
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


async def _check_visible(raw: dict[str, Any] | None, viewer: Caller | None) -> tuple[bool, bool]:
    """Whether the viewer is staff and whether enrolled; the latter is asked only where it decides."""
    if raw is None:
        raise CourseNotFound
    staff = is_staff(raw, viewer.id if viewer else None, viewer.role if viewer else None)
    enrolled = False
    if viewer is not None and not staff and not is_open(raw):
        enrolled = await is_enrolled(viewer.id, raw["_id"])
    check_can_see(raw, staff=staff, enrolled=enrolled)
    return staff, enrolled


async def _show(
    found: tuple[dict[str, Any], dict[str, Any] | None] | None, viewer: Caller | None
) -> Response[CourseRead]:
    if found is None:
        raise CourseNotFound
    raw, stats = found
    await _check_visible(raw, viewer)
    return _respond(raw, queries.shown_course(raw, stats))


def _respond(raw: Mapping[str, Any], body: CourseRead) -> Response[CourseRead]:
    return Response(body, headers={"ETag": strong_tag(raw["rev"], raw["outline_rev"])})


async def _change_status(caller: Caller, course_id: UUID, status: CourseStatus, once: Once) -> Response[CourseRead]:
    async def change(session: Session) -> Answer:
        raw = await service.set_status(caller, course_id, status, session)
        etag = strong_tag(raw["rev"], raw["outline_rev"])
        return Answer(await queries.with_stats(raw), 200, {"ETag": etag})

    return await once.run(change)


def _created(course: Course) -> Answer:
    raw = {**course.model_dump(mode="python"), "_id": course.id}
    body = CourseRead.from_raw(
        raw, is_published=False, managed=False, enrollment_count=0, average_rating=None, review_count=0
    )
    headers = {"Location": f"/api/v1/courses/{course.id}", "ETag": strong_tag(course.rev, course.outline_rev)}
    return Answer(body, 201, headers)


def _lesson(raw: dict[str, Any]) -> Response[LessonRead]:
    body = LessonRead.from_raw({**raw, "_id": raw["id"]})
    return Response(body, headers={"ETag": strong_tag(raw["rev"])})
