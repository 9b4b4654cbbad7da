"""Authoring: load with rights, check, write with the precondition in the filter."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.people import keep_owner
from lms.auth import Caller
from lms.clock import utc_now
from lms.courses import queries
from lms.courses.documents import ContentType, Course, CourseStatus, Lesson, Module
from lms.courses.rules import (
    MAX_COURSE_BYTES,
    CourseNotFound,
    CourseTooLarge,
    LessonNotFound,
    LessonSlugTaken,
    ModuleUnknown,
    SlugTaken,
    check_can_edit,
    check_lesson_content,
    check_metadata,
    check_publishable,
    free_slug,
    is_staff,
    next_order,
)
from lms.courses.schemas import CourseCreate, CourseUpdate, LessonCreate, LessonUpdate, ModuleCreate
from lms.courses.sequence import next_course_seq
from lms.courses.slugs import slug_of
from lms.transactions import Session, in_transaction
from lms.web.etags import RevisionMismatch, seen_revision, strong_tag

EDITING = {
    **queries.RIGHTS,
    "modules": 1,
    "lessons.id": 1,
    "lessons.slug": 1,
    "lessons.module_id": 1,
    "lessons.order": 1,
}


async def editable_course(
    caller: Caller, course_id: UUID, projection: Mapping[str, Any], session: Session | None = None
) -> dict[str, Any]:
    """The course, if the caller is of its staff. Hidden courses are 404 for outsiders, published ones 403.

    With a session as that transaction sees it, so that two editors cannot give one place twice.
    """
    found = await Course.get_pymongo_collection().find_one({"_id": course_id}, projection, session=session)
    if found is None:
        raise CourseNotFound
    check_can_edit(found, staff=is_staff(found, caller.id, caller.role))
    return found


async def create_course(caller: Caller, data: CourseCreate, session: Session) -> Course:
    check_metadata(len(msgspec.json.encode(data.metadata)), data.metadata)
    given = _tidy(msgspec.structs.asdict(data))
    base = slug_of(data.title)
    slug = data.slug or free_slug(base, set(await queries.slugs_like([base], session)))
    own = {"slug": slug, "instructor_id": caller.id, "seq": await next_course_seq(session)}
    course = Course.model_validate(given | own)
    await keep_owner(caller.id, session)
    if data.slug is not None and await Course.find_one({"slug": slug}, session=session) is not None:
        raise SlugTaken(slug=slug)
    await course.insert(session=session)
    return course


async def update_course(caller: Caller, course_id: UUID, data: CourseUpdate, tags: list[str] | None) -> dict[str, Any]:
    """Set what is named. Raises `RevisionMismatch` with the current values of the named fields, `SlugTaken`."""
    changes = _tidy(data.changes())
    if "metadata" in changes:
        check_metadata(len(msgspec.json.encode(changes["metadata"])), changes["metadata"])
    shown = {**queries.RIGHTS, **dict.fromkeys(changes, 1)}
    found = await editable_course(caller, course_id, shown)
    _check_seen(found, tags, changes, strong_tag(found["rev"], found["outline_rev"]))
    precondition = {"_id": course_id} if tags is None else {"_id": course_id, "rev": found["rev"]}

    async def write(session: Session) -> dict[str, Any] | None:
        if not changes:
            return await queries.course(course_id, queries.OUTLINE)
        return await _update(precondition, {"$set": changes, "$inc": {"rev": 1}}, session)

    try:
        updated = await in_transaction(write)
    except DuplicateKeyError:
        raise SlugTaken(slug=changes["slug"]) from None
    return updated or await _lost_race(caller, course_id, changes)


async def _lost_race(caller: Caller, course_id: UUID, named: Mapping[str, Any]) -> dict[str, Any]:
    """Between the read and the write somebody else wrote: always raises, with what stands there now."""
    current = await editable_course(caller, course_id, {**queries.RIGHTS, **dict.fromkeys(named, 1)})
    raise RevisionMismatch(
        strong_tag(current["rev"], current["outline_rev"]), {name: current.get(name) for name in named}
    )


def _check_seen(found: Mapping[str, Any], tags: list[str] | None, named: Mapping[str, Any], etag: str) -> None:
    if not seen_revision(tags, found["rev"]):
        raise RevisionMismatch(etag, {name: found.get(name) for name in named})


async def set_status(caller: Caller, course_id: UUID, status: CourseStatus, session: Session) -> dict[str, Any]:
    """Publish, unpublish or archive; doing it again changes nothing."""
    found = await editable_course(caller, course_id, queries.OUTLINE, session)
    if status is CourseStatus.PUBLISHED:
        check_publishable(found["lessons"])
    changes: dict[str, Any] = {"status": status.value}
    if status is CourseStatus.PUBLISHED:
        changes["published_at"] = utc_now()
    wanted = {"_id": course_id, "status": {"$ne": status.value}}
    return await _update(wanted, {"$set": changes, "$inc": {"rev": 1}}, session) or found


async def add_module(caller: Caller, course_id: UUID, data: ModuleCreate, session: Session) -> Module:
    """Append a module, or to a parent a sub-module."""
    found = await editable_course(caller, course_id, EDITING, session)
    if data.parent_id is not None and data.parent_id not in {module["id"] for module in found["modules"]}:
        raise ModuleUnknown("#/parent_id")
    order = next_order(data.parent_id, found["modules"], found["lessons"])
    module = Module(title=data.title.strip(), parent_id=data.parent_id, order=order)
    change = {"$push": {"modules": module.model_dump()}, "$inc": {"outline_rev": 1}}
    await _update({"_id": course_id}, change, session)
    await _check_size(course_id, session, module=module.title)
    return module


async def add_lesson(caller: Caller, course_id: UUID, data: LessonCreate, session: Session) -> Lesson:
    """Append a lesson to its module, or to the untitled default module, which is made when it is first needed."""
    check_lesson_content(data.content_type, data.video_url)
    check_metadata(len(msgspec.json.encode(data.metadata)), data.metadata)
    found = await editable_course(caller, course_id, EDITING, session)
    module, is_new = _module_for(found["modules"], data.module_id)
    fields = _tidy(msgspec.structs.asdict(data))
    place = {"module_id": module.id, "order": next_order(module.id, found["modules"], found["lessons"])}
    lesson = Lesson.model_validate({**fields, **place, "slug": _lesson_slug(data, found["lessons"])})
    push: dict[str, Any] = {"lessons": lesson.model_dump()} | ({"modules": module.model_dump()} if is_new else {})
    await _update({"_id": course_id}, {"$push": push, "$inc": {"outline_rev": 1}}, session)
    await _check_size(course_id, session, lesson=lesson.title)
    return lesson


def _module_for(modules: Sequence[Mapping[str, Any]], module_id: str | None) -> tuple[Module, bool]:
    wanted = next((one for one in modules if (one["id"] == module_id if module_id else not one["title"])), None)
    if wanted is not None:
        return Module.model_validate(wanted), False
    if module_id is not None:
        raise ModuleUnknown("#/module_id")
    return Module(order=next_order(None, modules, [])), True


def _lesson_slug(data: LessonCreate, lessons: Sequence[Mapping[str, Any]]) -> str:
    taken = {one["slug"] for one in lessons}
    if data.slug is None:
        return free_slug(slug_of(data.title), taken)
    if data.slug in taken:
        raise LessonSlugTaken(slug=data.slug)
    return data.slug


async def _check_size(course_id: UUID, session: Session, **cause: Any) -> None:
    """Judged after the write and inside its transaction, so that a course that grew too large never was."""
    pipeline = [{"$match": {"_id": course_id}}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    found = await (await Course.get_pymongo_collection().aggregate(pipeline, session=session)).to_list(1)
    if found and found[0]["size"] > MAX_COURSE_BYTES:
        raise CourseTooLarge(**cause)


async def update_lesson(
    caller: Caller, course_id: UUID, lesson_id: str, data: LessonUpdate, tags: list[str] | None
) -> dict[str, Any]:
    """Set what is named in one lesson. Raises as `update_course` does."""
    changes = _tidy(data.changes())
    found, lesson = await _editable_lesson(caller, course_id, lesson_id)
    _check_seen(lesson, tags, changes, strong_tag(lesson["rev"]))
    merged = {**lesson, **changes}
    check_lesson_content(ContentType(merged["content_type"]), merged["video_url"])
    check_metadata(len(msgspec.json.encode(merged["metadata"])), merged["metadata"])
    if "slug" in changes and any(o["slug"] == changes["slug"] and o["id"] != lesson_id for o in found["lessons"]):
        raise LessonSlugTaken(slug=changes["slug"])
    if not changes:
        return lesson
    # The revision that was judged is the one that is changed; without If-Match a lost race is simply judged again.
    match: dict[str, Any] = {"_id": course_id, "lessons": {"$elemMatch": {"id": lesson_id, "rev": lesson["rev"]}}}
    if "slug" in changes:
        match["$nor"] = [{"lessons": {"$elemMatch": {"slug": changes["slug"], "id": {"$ne": lesson_id}}}}]
    change = {
        "$set": {f"lessons.$[one].{name}": value for name, value in changes.items()},
        "$inc": {"lessons.$[one].rev": 1, "outline_rev": 1},
    }
    if await in_transaction(lambda session: _sized_update(match, change, merged, session)) is None:
        return await update_lesson(caller, course_id, lesson_id, data, tags)
    return {**merged, "rev": lesson["rev"] + 1}


async def _sized_update(
    match: Mapping[str, Any], change: Mapping[str, Any], lesson: Mapping[str, Any], session: Session
) -> dict[str, Any] | None:
    updated = await _update(match, change, session, [{"one.id": lesson["id"]}])
    if updated is not None:
        await _check_size(match["_id"], session, lesson=lesson["title"])
    return updated


async def _editable_lesson(caller: Caller, course_id: UUID, lesson_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = await editable_course(caller, course_id, EDITING)
    one = await queries.lesson_with_body(course_id, lesson_id)
    lessons = one.get("lessons", []) if one else []
    if not lessons:
        raise LessonNotFound
    return found, lessons[0]


async def _update(
    match: Mapping[str, Any],
    change: Mapping[str, Any],
    session: Session,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """Change one course and give the change its number among all course changes; None where nothing matched."""
    stamped = {**change.get("$set", {}), "updated_at": utc_now(), "seq": await next_course_seq(session)}
    return await Course.get_pymongo_collection().find_one_and_update(
        match,
        {**change, "$set": stamped},
        projection=queries.OUTLINE,
        return_document=ReturnDocument.AFTER,
        array_filters=array_filters,
        session=session,
    )


def _tidy(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Titles are kept without the spaces around them."""
    return {name: value.strip() if name == "title" else value for name, value in fields.items()}
