"""Checking what YAML says against the shape that is wanted: every mistake, with its place and the way out."""

import enum
import typing
from typing import Any, TypeVar

import msgspec

from lms.courses.documents import ContentType
from lms.courses.rules import check_lesson_content, check_metadata
from lms.errors import FieldError, Invalid
from lms.loading.faults import Faults, Place, nearest
from lms.loading.source import SourceCourse, SourceLesson, SourceModule
from lms.loading.yaml_lines import YamlDocument
from lms.web.bodies import find_errors

T = TypeVar("T", bound=msgspec.Struct)


def check(document: YamlDocument, wanted: type[T], file: str, faults: Faults) -> T | None:
    """The document as `wanted`, or None and every fault."""
    errors = [*find_errors(document.value, wanted), *_rule_errors(document.value, wanted)]
    for error in errors:
        pointer = error.pointer or "#"
        unknown = error.code == "unknown_field"
        place = document.keys.get(pointer) if unknown else document.place_of(pointer)
        hint = _hint(pointer, wanted, unknown=unknown)
        faults.error(error.code, error.message, file, place or Place(), pointer=pointer, hint=hint)
    if errors:
        return None
    checked = msgspec.convert(document.value, wanted)
    title = getattr(checked, "title", None)
    return msgspec.structs.replace(checked, title=title.strip()) if title else checked


def _rule_errors(value: dict[str, Any], wanted: type[msgspec.Struct]) -> list[FieldError]:
    """The rules that the API has besides the limits of single fields."""
    errors: list[FieldError] = []
    fields = wanted.__struct_fields__
    kind, video_url, metadata = value.get("content_type"), value.get("video_url"), value.get("metadata")
    try:
        if "content_type" in fields and kind in list(ContentType):
            check_lesson_content(ContentType(kind), video_url)
    except Invalid as invalid:
        errors += invalid.errors
    try:
        if "metadata" in fields:
            check_metadata(len(msgspec.json.encode(metadata)), metadata)
    except Invalid as invalid:
        errors += invalid.errors
    return errors


def _hint(pointer: str, wanted: type[msgspec.Struct], *, unknown: bool) -> str:
    name = pointer.removeprefix("#/")
    if unknown:
        return nearest(name, wanted.__struct_fields__) or f"Known: {', '.join(wanted.__struct_fields__)}."
    kind = typing.get_type_hints(wanted).get(name)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"One of: {', '.join(str(one.value) for one in kind)}."
    return ""


def check_course(course: SourceCourse, faults: Faults) -> None:
    """What only shows when all files are read: nothing twice, and something to learn."""
    ids: dict[str, str] = {}
    slugs: dict[str, str] = {}
    for lesson in course.lessons:
        _check_once(ids, lesson.source_id, lesson, lesson.place, "id", faults)
        if lesson.slug is not None:
            _check_once(slugs, lesson.slug, lesson, lesson.slug_place, "slug", faults)
    module_ids: dict[str, str] = {}
    for module in course.modules:
        _check_once(module_ids, module.source_id, module, module.place, "id", faults)
    # A lesson that has a fault is missing here; that the course has none would be told for nothing.
    if not course.lessons and not faults.errors:
        faults.error("no_lessons", "The course has no lesson.", course.file)


def _check_once(
    seen: dict[str, str], value: str, item: SourceLesson | SourceModule, place: Place, word: str, faults: Faults
) -> None:
    if value in seen:
        message = f"The {word} {value} is also that of {seen[value]}."
        hint = f"Give one of them another `{word}`."
        faults.error(f"duplicate_{word}", message, item.file, place, hint=hint)
    seen.setdefault(value, item.file)
