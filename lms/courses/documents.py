"""Courses, with their modules and lessons as two flat arrays: a nested array could not be updated positionally."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field
from pymongo import ASCENDING, DESCENDING, TEXT, IndexModel

from lms.clock import utc_now
from lms.documents import BaseDocument
from lms.ids import new_short_id


class CourseStatus(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class Difficulty(StrEnum):
    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"


class ContentType(StrEnum):
    TEXT = "text"
    VIDEO = "video"
    EMBED = "embed"


class Module(BaseModel):
    """A part of a course, or with a `parent_id` of that module. Sub-modules and lessons share one `order` from 0."""

    id: str = Field(default_factory=new_short_id)
    title: str = ""
    parent_id: str | None = None
    order: int = 0
    source_id: str | None = None


class Lesson(BaseModel):
    """`order` counts inside the module from 0; `rev` rises with every change and is the lesson's ETag."""

    id: str = Field(default_factory=new_short_id)
    module_id: str
    slug: str
    title: str
    content_type: ContentType = ContentType.TEXT
    content: str = ""
    video_url: str | None = None
    duration_minutes: int | None = None
    order: int = 0
    preview: bool = False
    required: bool = True
    metadata: dict[str, Any] = {}
    rev: int = 1
    source_id: str | None = None


class LoadedFrom(BaseModel):
    """What `lms load` wrote: `hash` of the course's head and each lesson as loaded, so that later edits show."""

    hash: str
    lessons: dict[str, str] = {}
    loaded_at: datetime


class Course(BaseDocument):
    """`rev` counts changes of the head, `outline_rev` those of the tree; `seq` is its place among all changes.

    `has_enrollments` is set once, by the first enrolment in its transaction: a deletion writes the same document, so
    that of the two only one comes about.
    """

    title: str
    slug: str
    description: str = ""
    category: str | None = None
    tags: list[str] = []
    difficulty_level: Difficulty = Difficulty.BEGINNER
    status: CourseStatus = CourseStatus.DRAFT
    thumbnail_url: str | None = None
    estimated_duration_minutes: int | None = None
    instructor_id: UUID
    co_instructor_ids: list[UUID] = []
    metadata: dict[str, Any] = {}
    modules: list[Module] = []
    lessons: list[Lesson] = []
    source: str | None = None
    source_id: str | None = None
    loaded: LoadedFrom | None = None
    rev: int = 1
    outline_rev: int = 1
    seq: int = 0
    updated_at: datetime = Field(default_factory=utc_now)
    published_at: datetime | None = None
    has_enrollments: bool = False

    class Settings:
        name = "courses"
        indexes = [
            IndexModel([("slug", ASCENDING)], name="slug", unique=True),
            IndexModel(
                [("source", ASCENDING), ("source_id", ASCENDING)],
                name="source",
                unique=True,
                partialFilterExpression={"source_id": {"$type": "string"}},
            ),
            IndexModel([("status", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="status_created"),
            IndexModel([("status", ASCENDING), ("title", ASCENDING), ("_id", ASCENDING)], name="status_title"),
            IndexModel(
                [("instructor_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="instructor_created",
            ),
            IndexModel(
                [("co_instructor_ids", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="co_instructor_created",
            ),
            IndexModel(
                [("category", ASCENDING), ("status", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="category",
            ),
            IndexModel(
                [("tags", ASCENDING), ("status", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="tags",
            ),
            # No stemming: titles come in every language. No document has the override field, so none is taken for one.
            IndexModel(
                [("title", TEXT), ("tags", TEXT), ("description", TEXT)],
                name="text",
                weights={"title": 10, "tags": 5, "description": 1},
                default_language="none",
                language_override="no_language_override",
            ),
        ]

    @classmethod
    async def by_slug(cls, slug: str) -> Self | None:
        return await cls.find_one({"slug": slug})


class CourseStats(BaseDocument):
    """Counters of a course, under its id. Never in the course: they would make it hot and change its ETag."""

    enrolled: int = 0
    active: int = 0
    completed: int = 0
    counted_at: datetime | None = None
    rating_sum: int = 0
    rating_count: int = 0

    class Settings:
        name = "course_stats"
