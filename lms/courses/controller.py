from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from lms.api_keys.documents import Scope
from lms.auth import Caller, CurrentUser, OptionalUser, requires
from lms.courses import queries, service
from lms.courses.documents import CourseStatus
from lms.courses.listing import STAFF, Listing, SearchText, SortName, answer_from_memory, kept_lists, provide_listing
from lms.courses.rules import (
    CourseHasEnrollments,
    CourseNotFound,
    CourseNotPublishable,
    CourseTooLarge,
    NotCourseOwner,
    NotCourseStaff,
    SlugTaken,
)
from lms.courses.schemas import CourseCreate, CourseRead, CourseSummary, CourseUpdate
from lms.errors import LMSError
from lms.transactions import Session
from lms.web.etags import if_match, strong_tag
from lms.web.idempotency import Answer, Once
from lms.web.lists import CursorPage, Page, answer_list

Change = Request[Any, Any, Any]


def read_opt(*errors: type[LMSError]) -> dict[str, Any]:
    return {"scope": Scope.COURSES_READ, "conditional": True, "errors": [CourseNotFound, *errors]}


def write_opt(*errors: type[LMSError], idempotent: bool = True) -> dict[str, Any]:
    """Of a route that changes a course: `If-Match` holds on every one."""
    refusals = [CourseNotFound, NotCourseStaff, *errors]
    return {"scope": Scope.COURSES_WRITE, "idempotent": idempotent, "conditional": True, "errors": refusals}


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
            return _created((await service.create_course(user, data, session)).as_stored())

        return await once.run(create)

    @get("/{course_id:uuid}", opt=read_opt())
    async def get_course(self, course_id: FromPath[UUID], viewer: OptionalUser) -> Response[CourseRead]:
        """A course with its outline, without lesson bodies."""
        return await _show(await queries.shown_by_id.get(course_id), viewer)

    @get("/slug/{slug:str}", opt=read_opt())
    async def get_course_by_slug(self, slug: FromPath[str], viewer: OptionalUser) -> Response[CourseRead]:
        """The same by slug."""
        return await _show(await queries.shown_by_slug.get(slug), viewer)

    @patch(
        "/{course_id:uuid}",
        guards=[requires(*STAFF)],
        opt=write_opt(NotCourseOwner, SlugTaken, CourseTooLarge, idempotent=False),
    )
    async def update_course(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        data: JSONBody[CourseUpdate],
        user: CurrentUser,
    ) -> Response[CourseRead]:
        """Change what is named; `null` clears what may be empty.

        Who teaches is for the owner and administrators to say; the owner can be another one.
        """
        raw = await service.update_course(user, course_id, data, if_match(request))
        return _respond(raw, await queries.with_stats(raw))

    @post("/{course_id:uuid}/publish", status_code=200, guards=[requires(*STAFF)], opt=write_opt(CourseNotPublishable))
    async def publish_course(
        self, request: Change, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Open the course to everyone. 409 says all that is missing, each with its place in the course."""
        return await _change_status(request, user, course_id, CourseStatus.PUBLISHED, once)

    @post("/{course_id:uuid}/unpublish", status_code=200, guards=[requires(*STAFF)], opt=write_opt())
    async def unpublish_course(
        self, request: Change, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Hide the course from newcomers; whoever is enrolled goes on."""
        return await _change_status(request, user, course_id, CourseStatus.DRAFT, once)

    @post("/{course_id:uuid}/archive", status_code=200, guards=[requires(*STAFF)], opt=write_opt())
    async def archive_course(
        self, request: Change, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """Retire the course; whoever is enrolled goes on. Publishing brings it back."""
        return await _change_status(request, user, course_id, CourseStatus.ARCHIVED, once)

    @post("/{course_id:uuid}/duplicate", status_code=201, guards=[requires(*STAFF)], opt=write_opt(CourseTooLarge))
    async def duplicate_course(
        self, request: Change, course_id: FromPath[UUID], user: CurrentUser, once: NamedDependency[Once]
    ) -> Response[CourseRead]:
        """A draft of the caller's own with the same lessons, under new ids and a numbered slug."""
        tags = if_match(request)

        async def copy(session: Session) -> Answer:
            return _created(await service.duplicate_course(user, course_id, tags, session))

        return await once.run(copy)

    @delete("/{course_id:uuid}", guards=[requires(*STAFF)], opt=write_opt(CourseHasEnrollments, idempotent=False))
    async def delete_course(self, request: Change, course_id: FromPath[UUID], user: CurrentUser) -> None:
        """Delete a course that nobody ever enrolled in; 409 for others, which can be archived."""
        await service.delete_course(user, course_id, if_match(request))


async def _show(
    found: tuple[dict[str, Any], dict[str, Any] | None] | None, viewer: Caller | None
) -> Response[CourseRead]:
    if found is None:
        raise CourseNotFound
    raw, stats = found
    await service.check_visible(raw, viewer)
    return _respond(raw, queries.shown_course(raw, stats))


def _respond(raw: Mapping[str, Any], body: CourseRead) -> Response[CourseRead]:
    return Response(body, headers={"ETag": strong_tag(raw["rev"], raw["outline_rev"])})


async def _change_status(
    request: Change, caller: Caller, course_id: UUID, status: CourseStatus, once: Once
) -> Response[CourseRead]:
    tags = if_match(request)

    async def change(session: Session) -> Answer:
        raw = await service.set_status(caller, course_id, status, tags, session)
        etag = strong_tag(raw["rev"], raw["outline_rev"])
        return Answer(await queries.with_stats(raw), 200, {"ETag": etag})

    return await once.run(change)


def _created(raw: Mapping[str, Any]) -> Answer:
    headers = {"Location": f"/api/v1/courses/{raw['_id']}", "ETag": strong_tag(raw["rev"], raw["outline_rev"])}
    return Answer(queries.shown_course(raw, None), 201, headers)
