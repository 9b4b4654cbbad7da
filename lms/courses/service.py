"""Authoring: load with rights, check, write with the precondition in the filter."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import Role, User
from lms.accounts.people import keep_owner
from lms.auth import Caller
from lms.clock import utc_now
from lms.courses import queries
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.courses.rules import (
    MAX_COURSE_BYTES,
    CourseHasEnrollments,
    CourseNotFound,
    CourseTooLarge,
    SlugTaken,
    check_can_edit,
    check_can_see,
    check_metadata,
    check_owns,
    check_publishable,
    check_teachers,
    copied_tree,
    free_slug,
    in_order,
    is_open,
    is_staff,
)
from lms.courses.schemas import CourseCreate, CourseUpdate
from lms.courses.sequence import next_course_seq
from lms.courses.slugs import slug_of
from lms.enrollments.queries import count_enrollments, is_enrolled
from lms.enrollments.tasks import emit_course_published
from lms.ids import new_short_id
from lms.transactions import Session, in_transaction
from lms.web.etags import RevisionMismatch, seen_revision, strong_tag

TEACHERS = ("instructor_id", "co_instructor_ids")
COPIED = (
    *("title", "description", "category", "tags", "difficulty_level"),
    *("thumbnail_url", "estimated_duration_minutes", "metadata"),
)
"""Of the head, what a duplicate has as well."""


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


async def check_visible(raw: Mapping[str, Any] | None, viewer: Caller | None) -> tuple[bool, bool]:
    """Whether the viewer is staff and whether enrolled; the latter is asked only where it decides."""
    if raw is None:
        raise CourseNotFound
    staff = is_staff(raw, viewer.id if viewer else None, viewer.role if viewer else None)
    enrolled = False
    if viewer is not None and not staff and not is_open(raw):
        enrolled = await is_enrolled(viewer.id, raw["_id"])
    check_can_see(raw, staff=staff, enrolled=enrolled)
    return staff, enrolled


async def create_course(caller: Caller, data: CourseCreate, session: Session) -> Course:
    check_metadata(len(msgspec.json.encode(data.metadata)), data.metadata)
    given = tidy(msgspec.structs.asdict(data))
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
    changes = tidy(data.changes())
    if "metadata" in changes:
        check_metadata(len(msgspec.json.encode(changes["metadata"])), changes["metadata"])
    shown = {**queries.RIGHTS, **dict.fromkeys(changes, 1)}
    found = await editable_course(caller, course_id, shown)
    check_seen(found, tags, changes, strong_tag(found["rev"], found["outline_rev"]))
    teachers = _named_teachers(caller, found, changes)
    # Who teaches is judged by who owns the course, so that both are of one revision; else only what is named is set.
    precondition = {"_id": course_id} if tags is None and not teachers else {"_id": course_id, "rev": found["rev"]}

    async def write(session: Session) -> dict[str, Any] | None:
        if not changes:
            return await queries.course(course_id, queries.OUTLINE)
        await _check_teachers(teachers, session)
        updated = await write_course(precondition, {"$set": changes, "$inc": {"rev": 1}}, session)
        await check_size(course_id, session)
        return updated

    try:
        updated = await in_transaction(write)
    except DuplicateKeyError:
        raise SlugTaken(slug=changes["slug"]) from None
    if updated is None and tags is None:
        return await update_course(caller, course_id, data, tags)
    return updated or await _lost_race(caller, course_id, changes)


def _named_teachers(caller: Caller, found: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, list[UUID]]:
    """Who is named, by field. The owner is no co-instructor beside that, and nobody is one twice."""
    given = {name: changes[name] for name in TEACHERS if name in changes}
    if not given:
        return {}
    check_owns(found, caller.id, caller.role)
    owner = given.get("instructor_id", found["instructor_id"])
    others = given.get("co_instructor_ids", found["co_instructor_ids"])
    changes["co_instructor_ids"] = [one for one in dict.fromkeys(others) if one != owner]
    return {name: value if isinstance(value, list) else [value] for name, value in given.items()}


async def _check_teachers(named: Mapping[str, list[UUID]], session: Session) -> None:
    if not named:
        return
    wanted = {"_id": {"$in": [one for people in named.values() for one in people]}}
    able = {**wanted, "active": True, "role": {"$in": [Role.INSTRUCTOR.value, Role.ADMIN.value]}}
    found = User.get_pymongo_collection().find(able, {"_id": 1}, session=session)
    check_teachers(named, {row["_id"] async for row in found})
    for owner in named.get("instructor_id", []):
        await keep_owner(owner, session)


async def _lost_race(caller: Caller, course_id: UUID, named: Mapping[str, Any]) -> dict[str, Any]:
    """Between the read and the write somebody else wrote: always raises, with what stands there now."""
    current = await editable_course(caller, course_id, {**queries.RIGHTS, **dict.fromkeys(named, 1)})
    raise RevisionMismatch(
        strong_tag(current["rev"], current["outline_rev"]), {name: current.get(name) for name in named}
    )


def check_seen(found: Mapping[str, Any], tags: list[str] | None, named: Iterable[str], etag: str) -> None:
    if not seen_revision(tags, found["rev"]):
        raise RevisionMismatch(etag, {name: found.get(name) for name in named})


def _check_course_seen(found: Mapping[str, Any], tags: list[str] | None, *named: str) -> None:
    check_seen(found, tags, named, strong_tag(found["rev"], found["outline_rev"]))


async def set_status(
    caller: Caller, course_id: UUID, status: CourseStatus, tags: list[str] | None, session: Session
) -> dict[str, Any]:
    """Publish, unpublish or archive; doing it again changes nothing."""
    found = await editable_course(caller, course_id, queries.OUTLINE, session)
    _check_course_seen(found, tags, "status")
    changes: dict[str, Any] = {"status": status.value}
    if status is CourseStatus.PUBLISHED:
        _, lessons = in_order(found["modules"], found["lessons"])
        check_publishable(lessons, await queries.empty_lessons(course_id, session))
        changes["published_at"] = utc_now()
    wanted = {"_id": course_id, "status": {"$ne": status.value}}
    updated = await write_course(wanted, {"$set": changes, "$inc": {"rev": 1}}, session)
    if updated is not None and status is CourseStatus.PUBLISHED and updated.get("has_enrollments"):
        await emit_course_published(course_id, session)
    return updated or found


async def delete_course(caller: Caller, course_id: UUID, tags: list[str] | None) -> None:
    """Delete what nobody ever enrolled in. Raises `CourseHasEnrollments`.

    An enrolment at the same time is in its way by `has_enrollments`: the first one writes it, so that the one that
    comes second finds the other. Later ones only read it, so once set it refuses for good, even where all who ever
    enrolled were erased and none is left to count.
    """
    shown = {**queries.RIGHTS, "has_enrollments": 1}

    async def delete(session: Session) -> None:
        found = await editable_course(caller, course_id, shown, session)
        _check_course_seen(found, tags)
        count = await count_enrollments(course_id, session)
        if found.get("has_enrollments") or count:
            raise CourseHasEnrollments(count)
        await Course.get_pymongo_collection().delete_one({"_id": course_id}, session=session)
        await CourseStats.get_pymongo_collection().delete_one({"_id": course_id}, session=session)

    await in_transaction(delete)


async def duplicate_course(caller: Caller, course_id: UUID, tags: list[str] | None, session: Session) -> dict[str, Any]:
    """A draft of the caller's own with the same content under new ids; nothing ties it to the first one's source."""
    found = await editable_course(caller, course_id, {"loaded": 0}, session)
    _check_course_seen(found, tags)
    slug = free_slug(found["slug"], set(await queries.slugs_like([found["slug"]], session)))
    fields = {
        **{name: found[name] for name in COPIED},
        **copied_tree(found["modules"], found["lessons"], new_short_id),
        "slug": slug,
        "instructor_id": caller.id,
        "seq": await next_course_seq(session),
    }
    made = Course.model_validate(fields).as_stored()
    await keep_owner(caller.id, session)
    await Course.get_pymongo_collection().insert_one(made, session=session)
    await check_size(made["_id"], session)
    return made


async def check_size(course_id: UUID, session: Session, **cause: Any) -> None:
    """Judged after the write and inside its transaction, so that a course that grew too large never was.

    Raises `CourseTooLarge` with its cause, which without a given one is the largest lesson.
    """
    courses, this = Course.get_pymongo_collection(), {"$match": {"_id": course_id}}
    pipeline = [this, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    found = await (await courses.aggregate(pipeline, session=session)).to_list(1)
    if not found or found[0]["size"] <= MAX_COURSE_BYTES:
        return
    if not cause:
        sizes = {"_id": 0, "lesson": "$lessons.title", "bytes": {"$strLenBytes": "$lessons.content"}}
        largest = [this, {"$unwind": "$lessons"}, {"$project": sizes}, {"$sort": {"bytes": -1}}, {"$limit": 1}]
        rows = await (await courses.aggregate(largest, session=session)).to_list(1)
        cause = rows[0] if rows else {}
    raise CourseTooLarge(**cause)


async def write_course(
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


def tidy(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Titles are kept without the spaces around them."""
    return {name: value.strip() if name == "title" else value for name, value in fields.items()}
