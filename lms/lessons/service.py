"""Authoring lessons: load with rights, check, write with the precondition in the filter."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from lms.auth import Caller
from lms.courses import queries
from lms.courses.documents import ContentType, CourseStatus, Lesson, Module
from lms.courses.rules import (
    LessonNotFound,
    LessonSlugTaken,
    ModuleUnknown,
    check_keeps_required,
    check_lesson_content,
    check_metadata,
    free_slug,
    next_order,
)
from lms.courses.schemas import LessonCreate, LessonUpdate
from lms.courses.service import check_seen, check_size, editable_course, tidy, write_course
from lms.courses.slugs import slug_of
from lms.outline.service import EDITING, check_outline_seen, remove
from lms.transactions import Session, in_transaction
from lms.web.etags import strong_tag


async def add_lesson(
    caller: Caller, course_id: UUID, data: LessonCreate, tags: list[str] | None, session: Session
) -> Lesson:
    """Append a lesson to its module, or to the untitled default module, which is made when it is first needed."""
    check_lesson_content(data.content_type, data.video_url)
    check_metadata(len(msgspec.json.encode(data.metadata)), data.metadata)
    found = await editable_course(caller, course_id, EDITING, session)
    check_outline_seen(found, tags)
    module, is_new = _module_for(found["modules"], data.module_id)
    fields = tidy(msgspec.structs.asdict(data))
    place = {"module_id": module.id, "order": next_order(module.id, found["modules"], found["lessons"])}
    lesson = Lesson.model_validate({**fields, **place, "slug": _lesson_slug(data, found["lessons"])})
    push: dict[str, Any] = {"lessons": lesson.model_dump()} | ({"modules": module.model_dump()} if is_new else {})
    await write_course({"_id": course_id}, {"$push": push, "$inc": {"outline_rev": 1}}, session)
    await check_size(course_id, session, lesson=lesson.title)
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


async def update_lesson(
    caller: Caller, course_id: UUID, lesson_id: str, data: LessonUpdate, tags: list[str] | None
) -> dict[str, Any]:
    """Set what is named in one lesson. Raises as `update_course` does."""
    changes = tidy(data.changes())
    found, lesson = await _editable_lesson(caller, course_id, lesson_id)
    check_seen(lesson, tags, changes, strong_tag(lesson["rev"]))
    merged = {**lesson, **changes}
    check_lesson_content(ContentType(merged["content_type"]), merged["video_url"])
    check_metadata(len(msgspec.json.encode(merged["metadata"])), merged["metadata"])
    if "slug" in changes and any(o["slug"] == changes["slug"] and o["id"] != lesson_id for o in found["lessons"]):
        raise LessonSlugTaken(slug=changes["slug"])
    if not changes:
        return lesson
    becomes_optional = lesson["required"] and not merged["required"]
    if becomes_optional:
        check_keeps_required(found, [lesson_id])
    # The revision that was judged is the one that is changed; without If-Match a lost race is simply judged again.
    match: dict[str, Any] = {"_id": course_id, "lessons": {"$elemMatch": {"id": lesson_id, "rev": lesson["rev"]}}}
    if "slug" in changes:
        match["$nor"] = [{"lessons": {"$elemMatch": {"slug": changes["slug"], "id": {"$ne": lesson_id}}}}]
    if becomes_optional:
        another = {"lessons": {"$elemMatch": {"id": {"$ne": lesson_id}, "required": True}}}
        match["$or"] = [{"status": {"$ne": CourseStatus.PUBLISHED.value}}, another]
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
    updated = await write_course(match, change, session, [{"one.id": lesson["id"]}])
    if updated is not None:
        await check_size(match["_id"], session, lesson=lesson["title"])
    return updated


async def _editable_lesson(caller: Caller, course_id: UUID, lesson_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    found = await editable_course(caller, course_id, EDITING)
    one = await queries.lesson_with_body(course_id, lesson_id)
    lessons = one.get("lessons", []) if one else []
    if not lessons:
        raise LessonNotFound
    return found, lessons[0]


async def delete_lesson(caller: Caller, course_id: UUID, lesson_id: str, tags: list[str] | None) -> None:
    """Delete a lesson; what students recorded in it stays. Raises `LastRequiredLesson`."""

    async def write(session: Session) -> None:
        found = await editable_course(caller, course_id, EDITING, session)
        lesson = next((one for one in found["lessons"] if one["id"] == lesson_id), None)
        if lesson is None:
            raise LessonNotFound
        check_seen(lesson, tags, (), strong_tag(lesson["rev"]))
        await remove(found, (), [lesson_id], session)

    await in_transaction(write)
