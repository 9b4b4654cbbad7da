"""Authoring the tree of a course: modules, their order, what goes."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from lms.auth import Caller
from lms.courses import queries
from lms.courses.documents import Course, Module
from lms.courses.rules import CourseNotFound, ModuleUnknown, check_keeps_required, next_order
from lms.courses.schemas import ModuleCreate
from lms.courses.service import check_size, editable_course, tidy, write_course
from lms.enrollments.tasks import emit_lessons_deleted
from lms.outline.rules import (
    ModuleNotEmpty,
    ModuleNotFound,
    Place,
    WantedModule,
    inside_of,
    places_of,
    places_without,
    tree_of,
)
from lms.outline.schemas import ModuleUpdate, OutlineRead, OutlineUpdate
from lms.transactions import Session, in_transaction
from lms.web.etags import RevisionMismatch, seen_revision, strong_tag

EDITING = {
    **queries.RIGHTS,
    "modules": 1,
    **{f"lessons.{name}": 1 for name in ("id", "slug", "title", "module_id", "order", "required", "rev")},
}


def shown_outline(raw: Mapping[str, Any]) -> OutlineRead:
    return OutlineRead.from_raw({"modules": tree_of(raw["modules"], raw["lessons"])})


def check_outline_seen(found: Mapping[str, Any], tags: list[str] | None, **current: Any) -> None:
    """Raises `RevisionMismatch` with what stands there now; what is costly to show is a function."""
    if not seen_revision(tags, found["outline_rev"]):
        shown = {name: value() if callable(value) else value for name, value in current.items()}
        raise RevisionMismatch(strong_tag(found["outline_rev"]), shown)


async def add_module(
    caller: Caller, course_id: UUID, data: ModuleCreate, tags: list[str] | None, session: Session
) -> tuple[Module, str]:
    """Append a module, or to a parent a sub-module. Gives also the outline's new ETag."""
    found = await editable_course(caller, course_id, EDITING, session)
    check_outline_seen(found, tags)
    if data.parent_id is not None and data.parent_id not in {module["id"] for module in found["modules"]}:
        raise ModuleUnknown("#/parent_id")
    order = next_order(data.parent_id, found["modules"], found["lessons"])
    module = Module(title=data.title.strip(), parent_id=data.parent_id, order=order)
    change = {"$push": {"modules": module.model_dump()}, "$inc": {"outline_rev": 1}}
    await write_course({"_id": course_id}, change, session)
    await check_size(course_id, session, module=module.title)
    return module, strong_tag(found["outline_rev"] + 1)


async def update_module(
    caller: Caller, course_id: UUID, module_id: str, data: ModuleUpdate, tags: list[str] | None
) -> tuple[dict[str, Any], str]:
    """Set what is named. Gives also the outline's ETag."""
    changes = tidy(data.changes())

    async def write(session: Session) -> tuple[dict[str, Any], str]:
        found = await editable_course(caller, course_id, EDITING, session)
        module = _module(found, module_id)
        check_outline_seen(found, tags, **{name: module[name] for name in changes})
        if not changes:
            return module, strong_tag(found["outline_rev"])
        change = {
            "$set": {f"modules.$[one].{name}": value for name, value in changes.items()},
            "$inc": {"outline_rev": 1},
        }
        await write_course({"_id": course_id}, change, session, [{"one.id": module_id}])
        await check_size(course_id, session, module=changes["title"])
        return {**module, **changes}, strong_tag(found["outline_rev"] + 1)

    return await in_transaction(write)


def _module(found: Mapping[str, Any], module_id: str) -> dict[str, Any]:
    module = next((one for one in found["modules"] if one["id"] == module_id), None)
    if module is None:
        raise ModuleNotFound
    return module


async def delete_module(
    caller: Caller, course_id: UUID, module_id: str, tags: list[str] | None, *, with_lessons: bool
) -> None:
    """Delete an empty module, or all that is in it as well. Raises `ModuleNotEmpty`, `LastRequiredLesson`."""

    async def write(session: Session) -> None:
        found = await editable_course(caller, course_id, EDITING, session)
        _module(found, module_id)
        check_outline_seen(found, tags)
        modules, lessons = inside_of(module_id, found["modules"], found["lessons"])
        if (modules or lessons) and not with_lessons:
            raise ModuleNotEmpty(modules=len(modules), lessons=len(lessons))
        await remove(found, {module_id, *modules}, lessons, session)

    await in_transaction(write)


async def put_outline(
    caller: Caller, course_id: UUID, data: OutlineUpdate, tags: list[str] | None
) -> tuple[OutlineRead, str]:
    """Give everything its place, all at once or not at all. Raises `OutlineNotWhole`."""
    wanted = [
        WantedModule(one.id, one.parent_id, one.after_lessons, [lesson.id for lesson in one.lessons])
        for one in data.modules
    ]

    async def write(session: Session) -> dict[str, Any]:
        found = await editable_course(caller, course_id, queries.OUTLINE, session)
        check_outline_seen(found, tags, modules=lambda: shown_outline(found).modules)
        places = places_of(wanted, found["modules"], found["lessons"])
        moved = await _move(found, places, session)
        await check_size(course_id, session)
        return moved

    raw = await in_transaction(write)
    return shown_outline(raw), strong_tag(raw["outline_rev"])


async def remove(found: Mapping[str, Any], modules: Collection[str], lessons: list[str], session: Session) -> None:
    """Delete these modules and lessons and close the gaps. Who had to do one of the lessons is told by a job."""
    check_keeps_required(found, lessons)
    gone = {*modules, *lessons}
    pulled = {"$pull": {"modules": {"id": {"$in": [*modules]}}, "lessons": {"id": {"$in": lessons}}}}
    await Course.get_pymongo_collection().update_one({"_id": found["_id"]}, pulled, session=session)
    staying = {name: [one for one in found[name] if one["id"] not in gone] for name in ("modules", "lessons")}
    await _move({**found, **staying}, places_without(gone, found["modules"], found["lessons"]), session, changed=True)
    await emit_lessons_deleted(found["_id"], lessons, session)


async def _move(
    found: Mapping[str, Any], places: Mapping[str, Place], session: Session, *, changed: bool = False
) -> dict[str, Any]:
    """Write the places that differ. A lesson shows its place, so that moving it raises its revision.

    By their index in the arrays as this transaction sees them: any number in one command, where a filter for each
    would make it large. Who wrote the arrays meanwhile has raised `outline_rev`, and the transaction starts over.
    """
    sets: dict[str, Any] = {}
    raised = {"outline_rev": 1}
    for array, parent in (("modules", "parent_id"), ("lessons", "module_id")):
        for index, one in enumerate(found[array]):
            place = places.get(one["id"], Place(one[parent], one["order"]))
            if place != Place(one[parent], one["order"]):
                sets |= {f"{array}.{index}.{parent}": place.parent, f"{array}.{index}.order": place.order}
                raised |= {f"lessons.{index}.rev": 1} if array == "lessons" else {}
    if not sets and not changed:
        return dict(found)
    as_seen = {"_id": found["_id"], "outline_rev": found["outline_rev"]}
    moved = await write_course(as_seen, {"$set": sets, "$inc": raised}, session)
    if moved is None:
        raise CourseNotFound
    return moved
