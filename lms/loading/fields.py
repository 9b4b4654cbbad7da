"""What is stored of a source: the fields of its head, modules and lessons, with ids and slugs that stay."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from lms.courses.rules import free_slug
from lms.courses.slugs import slug_of
from lms.ids import short_id_of
from lms.loading.faults import Faults
from lms.loading.source import SourceCourse, SourceLesson

HEAD = (
    "title",
    "slug",
    "description",
    "category",
    "tags",
    "difficulty_level",
    "thumbnail_url",
    "estimated_duration_minutes",
    "metadata",
)
MODULE = ("title", "parent_id", "order")
LESSON = (
    "module_id",
    "slug",
    "title",
    "content_type",
    "content",
    "video_url",
    "duration_minutes",
    "order",
    "preview",
    "required",
    "metadata",
)


def hash_of(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    text = canonical({name: fields.get(name) for name in names})
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def canonical(value: Any) -> str:
    """The same for the same value, whatever order its keys have; to Python, `True`, `1` and `1.0` would be one."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def head_fields(course: SourceCourse, slug: str) -> dict[str, Any]:
    """`slug` is taken where the source gives none."""
    return {name: _plain(getattr(course.head, name)) for name in HEAD} | {"slug": course.head.slug or slug}


def _module_id(course: SourceCourse, source_id: str) -> str:
    """A module and a lesson may have one source id; the word between keeps their ids apart."""
    return short_id_of(course.source, course.source_id, "module", source_id)


def module_fields(course: SourceCourse) -> dict[str, dict[str, Any]]:
    return {
        (module_id := _module_id(course, module.source_id)): {
            "id": module_id,
            "title": module.title,
            "parent_id": None if module.parent is None else _module_id(course, module.parent),
            "order": module.order,
            "source_id": module.source_id,
        }
        for module in course.modules
    }


def lesson_fields(course: SourceCourse, stored: Mapping[str, Any], faults: Faults) -> dict[str, dict[str, Any]]:
    ids = [short_id_of(course.source, course.source_id, lesson.source_id) for lesson in course.lessons]
    slugs = _lesson_slugs(ids, course.lessons, stored.get("lessons", []), faults)
    own = [name for name in LESSON if name not in ("module_id", "slug")]
    return {
        lesson_id: {name: _plain(getattr(lesson, name)) for name in own}
        | {
            "id": lesson_id,
            "module_id": _module_id(course, lesson.module),
            "slug": slugs[lesson_id],
            "source_id": lesson.source_id,
        }
        for lesson_id, lesson in zip(ids, course.lessons, strict=True)
    }


def _lesson_slugs(
    ids: Sequence[str], lessons: Sequence[SourceLesson], stored: Sequence[Mapping[str, Any]], faults: Faults
) -> dict[str, str]:
    """A slug that is not given is made once and then kept, whatever becomes of the title: addresses stay."""
    own = set(ids)
    taken = {old["slug"] for old in stored if old["id"] not in own}
    slugs: dict[str, str] = {}
    for lesson_id, lesson in zip(ids, lessons, strict=True):
        if lesson.slug is None:
            continue
        if lesson.slug in taken:
            message = f"The slug {lesson.slug} is that of another lesson, which is stored but not in the source."
            faults.error("duplicate_slug", message, lesson.file, lesson.slug_place, pointer="#/slug")
        slugs[lesson_id] = lesson.slug
    taken |= set(slugs.values())
    kept = {old["id"]: old["slug"] for old in stored if old["id"] in own and old["slug"] not in taken}
    taken |= set(kept.values())
    for lesson_id, lesson in zip(ids, lessons, strict=True):
        if lesson_id not in slugs:
            slugs[lesson_id] = kept.get(lesson_id) or free_slug(slug_of(lesson.title), taken)
            taken.add(slugs[lesson_id])
    return slugs


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StrEnum) else value
