"""Doing what a plan says: one transaction per course, and only where the course still is as the plan saw it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pymongo.errors import DuplicateKeyError

from lms.accounts.people import keep_owner
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus
from lms.courses.sequence import next_course_seq
from lms.loading.plan import Action, CoursePlan, Item, Seen
from lms.transactions import Session, in_transaction

FILTERS_PER_UPDATE = 100
COURSE_SECONDS = 15.0
"""A course of 12 MB is written in several commands; nobody waits for it on a web page."""
ARRAYS = {"module": "modules", "lesson": "lessons"}


class ChangedSincePlan(Exception):
    """Somebody else wrote this course, or took its slug, after the plan was made. Nothing was written."""


async def apply(plan: CoursePlan, *, instructor_id: UUID | None, publish: bool) -> None:
    """Write one course. `instructor_id` and `publish` are for a new one. Raises `ChangedSincePlan`."""
    seen = plan.seen
    try:
        if seen is not None:
            await in_transaction(lambda session: _update(plan, seen, session), seconds=COURSE_SECONDS)
        elif instructor_id is not None:
            await in_transaction(lambda session: _create(plan, instructor_id, publish, session), seconds=COURSE_SECONDS)
        else:
            raise ValueError("A new course needs its instructor.")
    except DuplicateKeyError:
        raise ChangedSincePlan from None


async def _create(plan: CoursePlan, instructor_id: UUID, publish: bool, session: Session) -> None:
    await keep_owner(instructor_id, session)
    now = utc_now()
    fields: dict[str, Any] = {
        **plan.head,
        **{array: [item.fields for item in plan.items if item.kind == kind] for kind, array in ARRAYS.items()},
        "source": plan.source,
        "source_id": plan.source_id,
        "loaded": _loaded(plan),
        "instructor_id": instructor_id,
        "seq": await next_course_seq(session),
        "status": CourseStatus.PUBLISHED if publish else CourseStatus.DRAFT,
        "published_at": now if publish else None,
        "created_at": now,
        "updated_at": now,
    }
    await Course.get_pymongo_collection().insert_one(Course.model_validate(fields).as_stored(), session=session)


async def _update(plan: CoursePlan, seen: Seen, session: Session) -> None:
    courses = Course.get_pymongo_collection()
    as_seen = {"_id": seen.id, "rev": seen.rev, "outline_rev": seen.outline_rev, "updated_at": seen.updated_at}
    changed = [item for item in plan.items if item.action is Action.UPDATE]
    created = [item for item in plan.items if item.action is Action.CREATE]
    sets: dict[str, Any] = {"loaded": _loaded(plan), **{change.field: change.new for change in plan.changes}}
    raised = {"rev": int(bool(plan.changes)), "outline_rev": int(bool(changed or created))}
    update: dict[str, Any] = {"$set": sets}
    if any(raised.values()):
        sets |= {"updated_at": utc_now(), "seq": await next_course_seq(session)}
        update["$inc"] = {name: by for name, by in raised.items() if by}
    result = await courses.update_one(as_seen, update, session=session)
    if result.matched_count == 0:
        raise ChangedSincePlan
    for kind, array in ARRAYS.items():
        for batch in _batches([item for item in changed if item.kind == kind]):
            sets, incs, filters = _changes_of(batch, array)
            change = {"$set": sets} | ({"$inc": incs} if kind == "lesson" else {})
            await courses.update_one({"_id": seen.id}, change, array_filters=filters, session=session)
        if new := [_as_stored(item) for item in created if item.kind == kind]:
            await courses.update_one({"_id": seen.id}, {"$push": {array: {"$each": new}}}, session=session)


def _changes_of(items: Sequence[Item], array: str) -> tuple[dict[str, Any], dict[str, int], list[Mapping[str, Any]]]:
    """What to set, which revisions to raise, and the filters that find each item by its id."""
    sets = {
        f"{array}.$[i{number}].{change.field}": change.new
        for number, item in enumerate(items)
        for change in item.changes
    }
    incs = {f"{array}.$[i{number}].rev": 1 for number in range(len(items))}
    return sets, incs, [{f"i{number}.id": item.id} for number, item in enumerate(items)]


def _as_stored(item: Item) -> dict[str, Any]:
    return item.fields | ({"rev": 1} if item.kind == "lesson" else {})


def _batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + FILTERS_PER_UPDATE] for start in range(0, len(items), FILTERS_PER_UPDATE)]


def _loaded(plan: CoursePlan) -> dict[str, Any]:
    return {"hash": plan.head_hash, "lessons": plan.hashes, "loaded_at": utc_now()}
