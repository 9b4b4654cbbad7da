from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from lms.auth import CurrentUser, OptionalUser, requires
from lms.courses import queries
from lms.courses.controller import read_opt, write_opt
from lms.courses.listing import STAFF
from lms.courses.rules import CourseNotFound, CourseTooLarge, LastRequiredLesson
from lms.courses.schemas import ModuleCreate, ModuleRead
from lms.courses.service import check_visible
from lms.outline import service
from lms.outline.rules import ModuleNotEmpty, ModuleNotFound, OutlineNotWhole
from lms.outline.schemas import ModuleUpdate, OutlineRead, OutlineUpdate
from lms.transactions import Session
from lms.web.etags import if_match, strong_tag
from lms.web.idempotency import Answer, Once

WithLessons = Annotated[
    Literal["delete"] | None,
    QueryParameter(name="lessons", description="`delete`: with all lessons and modules that are in it."),
]


class OutlineController(Controller):
    path = "/courses/{course_id:uuid}"
    tags = ["outline"]

    @get("/outline", opt=read_opt())
    async def get_outline(self, course_id: FromPath[UUID], viewer: OptionalUser) -> Response[OutlineRead]:
        """The whole tree of a course, in order, without lesson bodies."""
        raw = await queries.course(course_id, queries.OUTLINE)
        await check_visible(raw, viewer)
        if raw is None:
            raise CourseNotFound
        return Response(service.shown_outline(raw), headers={"ETag": strong_tag(raw["outline_rev"])})

    @put(
        "/outline",
        guards=[requires(*STAFF)],
        opt=write_opt(OutlineNotWhole, CourseTooLarge, idempotent=False),
    )
    async def put_outline(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        data: JSONBody[OutlineUpdate],
        user: CurrentUser,
    ) -> Response[OutlineRead]:
        """Move and reorder modules and lessons: all at once, or not at all.

        Every module and lesson is named exactly once, so that what somebody else added meanwhile is not lost.
        """
        outline, etag = await service.put_outline(user, course_id, data, if_match(request))
        return Response(outline, headers={"ETag": etag})

    @post("/modules", status_code=201, guards=[requires(*STAFF)], opt=write_opt(CourseTooLarge))
    async def create_module(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        data: JSONBody[ModuleCreate],
        user: CurrentUser,
        once: NamedDependency[Once],
    ) -> Response[ModuleRead]:
        """Append a module, or with `parent_id` a sub-module. The ETags of modules are the outline's."""
        tags = if_match(request)

        async def add(session: Session) -> Answer:
            module, etag = await service.add_module(user, course_id, data, tags, session)
            return Answer(ModuleRead.of(module), 201, {"Location": f"/api/v1/courses/{course_id}", "ETag": etag})

        return await once.run(add)

    @patch(
        "/modules/{module_id:str}",
        guards=[requires(*STAFF)],
        opt=write_opt(ModuleNotFound, CourseTooLarge, idempotent=False),
    )
    async def update_module(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        module_id: FromPath[str],
        data: JSONBody[ModuleUpdate],
        user: CurrentUser,
    ) -> Response[ModuleRead]:
        """Rename a module. It is moved by `PUT outline`."""
        raw, etag = await service.update_module(user, course_id, module_id, data, if_match(request))
        return Response(ModuleRead.from_raw({**raw, "_id": raw["id"]}), headers={"ETag": etag})

    @delete(
        "/modules/{module_id:str}",
        guards=[requires(*STAFF)],
        opt=write_opt(ModuleNotFound, ModuleNotEmpty, LastRequiredLesson, idempotent=False),
    )
    async def delete_module(
        self,
        request: Request[Any, Any, Any],
        course_id: FromPath[UUID],
        module_id: FromPath[str],
        user: CurrentUser,
        lessons: WithLessons = None,
    ) -> None:
        """Delete an empty module, or with `lessons=delete` all that is in it as well."""
        with_lessons = lessons == "delete"
        await service.delete_module(user, course_id, module_id, if_match(request), with_lessons=with_lessons)
