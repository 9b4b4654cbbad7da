"""Who sees and who edits courses, and when one can be published. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role
from lms.courses.documents import ContentType, CourseStatus
from lms.documents import why_not_stored
from lms.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated

MAX_COURSE_BYTES = 12 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024


class CourseNotFound(NotFound):
    detail = "There is no such course."


class LessonNotFound(NotFound):
    detail = "There is no such lesson in this course."


class NotCourseStaff(Forbidden):
    detail = "Only the staff of this course and administrators may change it."


class NotEnrolled(Forbidden):
    detail = "Enrol in this course to read its lessons."


class SignInToRead(Unauthenticated):
    code = "not_enrolled"
    detail = "Sign in and enrol in this course to read its lessons."


class SlugTaken(Conflict):
    detail = "Another course has this slug."


class LessonSlugTaken(Conflict):
    detail = "Another lesson of this course has this slug."


class CourseNotPublishable(Conflict):
    detail = "The course cannot be published yet; `missing` and `errors` say what it lacks."


class CourseTooLarge(TooLarge):
    detail = "This would make the course larger than 12 MB."


class CourseHasEnrollments(Conflict):
    detail = "People are or were enrolled in this course, so that it cannot be deleted; archive it instead."

    def __init__(self, count: int) -> None:
        super().__init__(count=count, hint="archive")


class NotCourseOwner(Forbidden):
    detail = "Only the owner of this course and administrators may say who teaches it."


class LastRequiredLesson(Conflict):
    detail = "A published course keeps a required lesson, or nobody could complete it; unpublish the course first."


class ModuleUnknown(Invalid):
    def __init__(self, pointer: str) -> None:
        super().__init__(errors=[FieldError(code="unknown", message="There is no such module.", pointer=pointer)])


def is_staff(course: Mapping[str, Any], user_id: UUID | None, role: Role | None) -> bool:
    """The owner, the co-instructors and every administrator."""
    if user_id is None:
        return False
    return role is Role.ADMIN or user_id == course["instructor_id"] or user_id in course["co_instructor_ids"]


def is_open(course: Mapping[str, Any]) -> bool:
    return course["status"] == CourseStatus.PUBLISHED


def check_can_see(course: Mapping[str, Any] | None, *, staff: bool, enrolled: bool) -> None:
    """Published courses are for everyone; the others for staff, and for those who are in already."""
    if course is None or not (is_open(course) or staff or enrolled):
        raise CourseNotFound


def check_can_edit(course: Mapping[str, Any] | None, *, staff: bool) -> None:
    """A hidden course looks unknown to outsiders; a published one is refused."""
    check_can_see(course, staff=staff, enrolled=False)
    if not staff:
        raise NotCourseStaff


def check_can_read_body(lesson: Mapping[str, Any], *, staff: bool, enrolled: bool, signed_in: bool) -> None:
    """Staff and enrolled students read everything, others the preview lessons."""
    if staff or enrolled or lesson["preview"]:
        return
    if not signed_in:
        raise SignInToRead
    raise NotEnrolled


def check_owns(course: Mapping[str, Any], user_id: UUID, role: Role) -> None:
    """Co-instructors do not choose each other, nor a new owner."""
    if role is not Role.ADMIN and user_id != course["instructor_id"]:
        raise NotCourseOwner


def check_teachers(named: Mapping[str, Sequence[UUID]], able: Collection[UUID]) -> None:
    """Raises 422 for each person, by the field that names them, who is no active instructor or administrator."""
    errors = [
        FieldError(
            code="unknown",
            message="There is no such active instructor or administrator.",
            pointer=f"#/{field}/{index}" if field == "co_instructor_ids" else f"#/{field}",
        )
        for field, people in named.items()
        for index, person in enumerate(people)
        if person not in able
    ]
    if errors:
        raise Invalid(errors=errors)


def check_keeps_required(course: Mapping[str, Any], without: Collection[str]) -> None:
    """`without` are lessons that go or become optional."""
    required = {lesson["id"] for lesson in course["lessons"] if lesson["required"]}
    if is_open(course) and required and required <= set(without):
        raise LastRequiredLesson


def check_publishable(lessons: Sequence[Mapping[str, Any]], empty: Collection[str] = ()) -> None:
    """Raises `CourseNotPublishable` with everything that is missing. `lessons` in order; `empty` are ids of lessons."""
    missing: dict[str, list[FieldError]] = {}
    if not lessons:
        missing["lessons"] = [_missing("The course has no lesson.", "#/lessons")]
    elif not any(lesson["required"] for lesson in lessons):
        # Nobody could ever complete it.
        missing["required_lessons"] = [_missing("No lesson is required.", "#/lessons")]
    hollow = [(index, lesson["title"]) for index, lesson in enumerate(lessons) if empty and lesson["id"] in empty]
    if hollow:
        missing["lesson_content"] = [
            _missing(f"There is nothing to read in {title}.", f"#/lessons/{index}/content") for index, title in hollow
        ]
    if missing:
        raise CourseNotPublishable(missing=[*missing], errors=[one for found in missing.values() for one in found])


def _missing(message: str, pointer: str) -> FieldError:
    return FieldError(code="missing", message=message, pointer=pointer)


def check_lesson_content(content_type: ContentType, video_url: str | None) -> None:
    """A video or an embedded page needs its address."""
    if content_type in (ContentType.VIDEO, ContentType.EMBED) and not video_url:
        message = f"A lesson of type {content_type} needs its address."
        raise Invalid(errors=[FieldError(code="required", message=message, pointer="#/video_url")])


def check_metadata(size: int, metadata: Any = None) -> None:
    """`size` is in bytes of JSON. Raises 422 for what is too large or cannot be stored."""
    if size > MAX_METADATA_BYTES:
        message = f"At most {MAX_METADATA_BYTES:,} bytes of JSON."
        raise Invalid(errors=[FieldError(code="too_large", message=message, pointer="#/metadata")])
    if message := why_not_stored(metadata):
        raise Invalid(errors=[FieldError(code="invalid", message=message, pointer="#/metadata")])


def free_slug(wanted: str, taken: set[str]) -> str:
    """`wanted`, or with the first free number behind it."""
    if wanted not in taken:
        return wanted
    base = numbered(wanted)
    return next(slug for number in range(2, len(taken) + 3) if (slug := f"{base}{number}") not in taken)


def numbered(slug: str) -> str:
    """What a number is put behind, short enough that the result is no longer than a slug may be."""
    return f"{slug[:74].rstrip('-')}-"


def in_order(
    modules: Sequence[Mapping[str, Any]], lessons: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Modules and lessons as they are read: depth first, lessons and sub-modules of a module in one order."""
    inside: dict[str | None, list[tuple[int, bool, Mapping[str, Any]]]] = {}
    known = {module["id"] for module in modules}
    for module in modules:
        inside.setdefault(module.get("parent_id"), []).append((module["order"], True, module))
    for lesson in lessons:
        home = lesson["module_id"] if lesson["module_id"] in known else None
        inside.setdefault(home, []).append((lesson["order"], False, lesson))
    ordered: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] = ([], [])
    stack = _reversed(inside.get(None, []))
    while stack:
        _, is_module, one = stack.pop()
        ordered[0 if is_module else 1].append(one)
        if is_module:
            stack.extend(_reversed(inside.get(one["id"], [])))
    return ordered


def _reversed(children: list[tuple[int, bool, Mapping[str, Any]]]) -> list[tuple[int, bool, Mapping[str, Any]]]:
    """By order, where two share a place the lesson first; last first, as a stack wants it."""
    return sorted(children, key=lambda child: child[:2], reverse=True)


def next_order(
    parent_id: str | None, modules: Sequence[Mapping[str, Any]], lessons: Sequence[Mapping[str, Any]]
) -> int:
    """The place behind everything in a module, or with None behind all top modules."""
    taken = [one["order"] for one in modules if one.get("parent_id") == parent_id]
    taken += [one["order"] for one in lessons if one["module_id"] == parent_id]
    return max(taken, default=-1) + 1


def copied_tree(
    modules: Sequence[Mapping[str, Any]], lessons: Sequence[Mapping[str, Any]], new_id: Callable[[], str]
) -> dict[str, list[dict[str, Any]]]:
    """The same modules and lessons in the same places, under ids of their own."""
    ids = {one["id"]: new_id() for one in (*modules, *lessons)}
    own: dict[str, Any] = {"source_id": None}
    return {
        "modules": [{**one, **own, "id": ids[one["id"]], "parent_id": ids.get(one["parent_id"])} for one in modules],
        "lessons": [
            {**one, **own, "id": ids[one["id"]], "module_id": ids.get(one["module_id"], ""), "rev": 1}
            for one in lessons
        ],
    }
