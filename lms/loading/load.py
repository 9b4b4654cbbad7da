"""`lms load`: read, validate everything, plan, and unless it is a dry run apply, course by course."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from lms.accounts.documents import Role, User
from lms.accounts.rules import normal_email
from lms.courses.documents import Course
from lms.courses.queries import slugs_like
from lms.courses.rules import CourseNotPublishable, check_publishable, free_slug
from lms.courses.slugs import slug_of
from lms.loading.apply import ChangedSincePlan, apply
from lms.loading.detect import Found, read_path
from lms.loading.faults import Fault, Faults
from lms.loading.plan import Action, CoursePlan, plan_course
from lms.loading.source import SourceCourse

OK, FAULTY, REFUSED = 0, 1, 2


class LoadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`source` names the source where the files give none; `instructor_email` says who owns new courses."""

    dry_run: bool = False
    source: str | None = None
    overwrite_edits: bool = False
    publish: bool = False
    instructor_email: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a course without faults was not written all the same."""

    code: str
    message: str
    items: list[str] = []


class CourseReport(msgspec.Struct, kw_only=True):
    """One course folder. `plan` is None where faults stand in the way; `applied` says that it was written."""

    name: str
    errors: list[Fault]
    notes: list[Fault]
    plan: CoursePlan | None = None
    refusal: Refusal | None = None
    applied: bool = False


class LoadReport(msgspec.Struct, kw_only=True):
    """A course with faults or a refusal is not written at all; the others of the same load are."""

    dry_run: bool
    courses: list[CourseReport]

    @property
    def exit_code(self) -> int:
        """0 done, 1 there are faults, 2 no faults but something was refused."""
        if any(course.errors for course in self.courses):
            return FAULTY
        return REFUSED if any(course.refusal for course in self.courses) else OK


async def load(paths: Sequence[Path], options: LoadOptions) -> LoadReport:
    """Load every course of `paths` into the open database."""
    found: list[Found] = []
    for path in paths:
        found += await asyncio.to_thread(read_path, path, options.source, str(path) if len(paths) > 1 else "")
    _check_distinct(found)
    courses = await _plan_all(found)
    owner = await _owner(options) if any(_is_new(course) for course in courses) else None
    for course in courses:
        course.refusal = _refusal(course, owner, options)
        if not options.dry_run and course.refusal is None:
            await _apply(course, owner, options)
    return LoadReport(dry_run=options.dry_run, courses=courses)


def _check_distinct(found: Iterable[Found]) -> None:
    """Two folders that say they are the same course would overwrite each other."""
    seen: dict[tuple[str, str], str] = {}
    for one in found:
        if one.course is None:
            continue
        identity = (one.course.source, one.course.source_id)
        if identity in seen:
            message = f"The id {identity[1]} of source {identity[0]} is also that of {seen[identity]}."
            one.faults.error("duplicate_course", message, one.course.file, hint="Give one of them another `id`.")
        seen.setdefault(identity, one.course.file)


async def _plan_all(found: Sequence[Found]) -> list[CourseReport]:
    """What is asked of the database for all of them is asked at once; a course that is stored is read when its turn
    comes, so that only one is in memory.
    """
    good = [one.course for one in found if one.course is not None and not one.faults.errors]
    stored = await _stored_ids(good) if len(good) > 1 else None
    unnamed = [slug_of(course.head.title) for course in good if course.head.slug is None and not _is_in(stored, course)]
    named = [course.head.slug for course in good if course.head.slug is not None]
    slugs = Slugs(await slugs_like([*named, *unnamed]) if stored is not None and named + unnamed else None)
    return [await _plan(one, slugs, stored) for one in found]


async def _stored_ids(courses: Sequence[SourceCourse]) -> set[tuple[str, str]]:
    """Which courses, by source and id in it, are stored."""
    by_source: dict[str, list[str]] = {}
    for course in courses:
        by_source.setdefault(course.source, []).append(course.source_id)
    wanted = [{"source": source, "source_id": {"$in": ids}} for source, ids in by_source.items()]
    shown = {"_id": 0, "source": 1, "source_id": 1}
    rows = await Course.get_pymongo_collection().find({"$or": wanted}, shown).to_list()
    return {(row["source"], row["source_id"]) for row in rows}


def _is_in(stored: set[tuple[str, str]] | None, course: SourceCourse) -> bool:
    return stored is None or (course.source, course.source_id) in stored


class Slugs:
    """Which slugs are in use: those `known` to be stored (None: asked for when needed), and those of this load."""

    def __init__(self, known: dict[str, UUID] | None) -> None:
        self._known = known
        self._own: set[str] = set()

    async def in_use(self, base: str, *, but: UUID | None) -> set[str]:
        """Of `base` and its kin at least, those that other courses than `but` have."""
        known = await slugs_like([base]) if self._known is None else self._known
        return self._own | {slug for slug, course_id in known.items() if course_id != but}

    def take(self, slug: str) -> None:
        self._own.add(slug)


async def _plan(found: Found, slugs: Slugs, stored_ids: set[tuple[str, str]] | None) -> CourseReport:
    plan = None
    if found.course is not None and not found.faults.errors:
        stored = None
        if _is_in(stored_ids, found.course):
            identity = {"source": found.course.source, "source_id": found.course.source_id}
            stored = await Course.get_pymongo_collection().find_one(identity)
        slug = await _slug_for(found.course, stored, slugs, found.faults)
        slugs.take(slug)
        plan = plan_course(found.course, stored, slug, found.faults)
    errors = found.faults.errors
    return CourseReport(name=found.name, errors=errors, notes=found.faults.notes, plan=None if errors else plan)


async def _slug_for(course: SourceCourse, stored: Mapping[str, Any] | None, slugs: Slugs, faults: Faults) -> str:
    """A given slug must be free; one from the title gets a number where it is not, and is kept from then on."""
    given = course.head.slug
    if given is None and stored is not None:
        return str(stored["slug"])
    base = given or slug_of(course.head.title)
    in_use = await slugs.in_use(base, but=stored["_id"] if stored else None)
    if given is None:
        return free_slug(base, in_use)
    if given in in_use:
        message = f"Another course has the slug {given}."
        faults.error("slug_taken", message, course.file, course.slug_place, pointer="#/slug")
    return given


def _is_new(course: CourseReport) -> bool:
    return course.plan is not None and course.plan.action is Action.CREATE


async def _owner(options: LoadOptions) -> UUID | Refusal:
    """Who owns new courses: the named instructor, or without a name the only administrator."""
    if options.instructor_email is not None:
        user = await User.by_email(normal_email(options.instructor_email))
        if user is not None and user.active and user.role in (Role.INSTRUCTOR, Role.ADMIN):
            return user.id
        message = f"{options.instructor_email} is no active instructor or administrator."
        return Refusal(code="unknown_instructor", message=message)
    admins = await User.find({"role": Role.ADMIN, "active": True}).limit(2).to_list()
    if len(admins) == 1:
        return admins[0].id
    how_many = "more than one administrator" if admins else "no administrator"
    message = f"There is {how_many}; say with --instructor who owns new courses."
    return Refusal(code="no_instructor", message=message)


def _refusal(course: CourseReport, owner: UUID | Refusal | None, options: LoadOptions) -> Refusal | None:
    if _is_new(course) and isinstance(owner, Refusal):
        return owner
    if options.publish and course.plan is not None and _is_new(course):
        try:
            check_publishable([item.fields for item in course.plan.items if item.kind == "lesson"])
        except CourseNotPublishable:
            message = "A course that is published needs a required lesson; load it without --publish."
            return Refusal(code="course_not_publishable", message=message)
    if course.plan is not None and course.plan.action is Action.UPDATE and course.plan.is_left_without_required:
        message = "This would leave a published course without a required lesson; require one, or unpublish it first."
        return Refusal(code="last_required_lesson", message=message)
    edited = course.plan.edited if course.plan is not None else []
    if not edited or options.overwrite_edits:
        return None
    message = "This was edited in the app since the last load; --overwrite-edits writes over it."
    return Refusal(code="edited_in_app", message=message, items=edited)


async def _apply(course: CourseReport, owner: UUID | Refusal | None, options: LoadOptions) -> None:
    if course.plan is None or course.plan.action is Action.UNCHANGED:
        return
    try:
        instructor_id = owner if isinstance(owner, UUID) else None
        await apply(course.plan, instructor_id=instructor_id, publish=options.publish)
    except ChangedSincePlan:
        message = "Somebody else changed this course meanwhile; nothing of it was written. Load it again."
        course.refusal = Refusal(code="changed_since_plan", message=message)
    else:
        course.applied = True
