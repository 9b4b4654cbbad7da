"""What crosses HTTP about courses and lessons."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from lms.courses.documents import ContentType, CourseStatus, Difficulty
from lms.schemas import Input, Moment, Output, Patch

Title = Annotated[
    str,
    Meta(
        max_length=400,
        pattern=r"^\s*[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?\s*$",
        description="1 to 255 characters after trimming, in one line.",
        examples=["Plants of the tidal zone"],
    ),
]
_WORD = r"[^\x00-/:-`{-\xbf\s\u2000-\u206f]"
Slug = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=80,
        # Says what is left out and not what is let in: a regular expression has no word for the vowel signs of Hindi.
        # A bare `$` would let a line break through at the end.
        pattern=rf"^{_WORD}+(?:-{_WORD}+)*$(?!\n)",
        description="Lower-case words joined by hyphens; unique.",
        examples=["plants-of-the-tidal-zone"],
    ),
]
Description = Annotated[str, Meta(max_length=5000, examples=["What grows between the tides, and why."])]
Category = Annotated[str, Meta(min_length=1, max_length=100, examples=["biology"])]
Tag = Annotated[str, Meta(min_length=1, max_length=50, examples=["plants"])]
Tags = Annotated[list[Tag], Meta(max_length=50)]
WebAddress = Annotated[
    str, Meta(max_length=500, pattern=r"^https?://[^\s]+$(?!\n)", examples=["https://media.school.example/tide.webp"])
]
VideoAddress = Annotated[
    str, Meta(max_length=2000, pattern=r"^https?://[^\s]+$(?!\n)", examples=["https://media.school.example/tide.mp4"])
]
Minutes = Annotated[int, Meta(ge=1, le=100_000, description="Whole minutes.", examples=[12])]
Content = Annotated[str, Meta(max_length=1_000_000, description="Markdown.", examples=["# The tidal zone\n\n..."])]
ShortId = Annotated[str, Meta(min_length=1, max_length=40, examples=["k3v7q2ma4xtd"])]
Metadata = dict[str, Any]


class CourseCreate(Input):
    """Without `slug` one is made from the title."""

    title: Title
    slug: Slug | None = None
    description: Description = ""
    category: Category | None = None
    tags: Tags = []
    difficulty_level: Difficulty = Difficulty.BEGINNER
    thumbnail_url: WebAddress | None = None
    estimated_duration_minutes: Minutes | None = None
    metadata: Metadata = {}


class CourseUpdate(Patch):
    """Who teaches (`instructor_id`, the owner, and `co_instructor_ids`) is for the owner and administrators to say."""

    title: Title | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    category: Category | None | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    difficulty_level: Difficulty | UnsetType = UNSET
    thumbnail_url: WebAddress | None | UnsetType = UNSET
    estimated_duration_minutes: Minutes | None | UnsetType = UNSET
    instructor_id: UUID | UnsetType = UNSET
    co_instructor_ids: Annotated[list[UUID], Meta(max_length=50)] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class ModuleCreate(Input):
    title: Title
    parent_id: ShortId | None = None


class ModuleRead(Output):
    id: str
    title: str
    parent_id: str | None
    order: int


class LessonCreate(Input):
    """Appended to its module; without `module_id` to an untitled default module."""

    title: Title
    module_id: ShortId | None = None
    slug: Slug | None = None
    content_type: ContentType = ContentType.TEXT
    content: Content = ""
    video_url: VideoAddress | None = None
    duration_minutes: Minutes | None = None
    preview: bool = False
    required: bool = True
    metadata: Metadata = {}


class LessonUpdate(Patch):
    title: Title | UnsetType = UNSET
    slug: Slug | UnsetType = UNSET
    content_type: ContentType | UnsetType = UNSET
    content: Content | UnsetType = UNSET
    video_url: VideoAddress | None | UnsetType = UNSET
    duration_minutes: Minutes | None | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    required: bool | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class LessonSummary(Output):
    """A lesson in an outline, without its body."""

    id: str
    module_id: str
    title: str
    slug: str
    content_type: ContentType
    duration_minutes: int | None
    order: int
    preview: bool
    required: bool
    metadata: Metadata


class LessonRead(LessonSummary):
    content: str
    video_url: str | None


class CourseSummary(Output):
    """A course as lists show it. `managed` courses are kept by `lms load`; edits here show up at the next load."""

    id: UUID
    title: str
    slug: str
    description: str
    category: str | None
    tags: list[str]
    difficulty_level: Difficulty
    status: CourseStatus
    is_published: bool
    thumbnail_url: str | None
    estimated_duration_minutes: int | None
    instructor_id: UUID
    co_instructor_ids: list[UUID]
    metadata: Metadata
    enrollment_count: int
    average_rating: float | None
    review_count: int
    source: str | None
    managed: bool
    created_at: Moment
    updated_at: Moment


class CourseRead(CourseSummary):
    """A course with its outline, in order, without lesson bodies."""

    modules: list[ModuleRead]
    lessons: list[LessonSummary]
