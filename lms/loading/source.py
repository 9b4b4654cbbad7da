"""What every reader makes of its files: one shape for every format, with the limits that the API has."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from lms.courses.documents import ContentType, Difficulty
from lms.courses.schemas import Category, Description, Metadata, Minutes, Slug, Tags, Title, VideoAddress, WebAddress
from lms.loading.faults import START, Place
from lms.schemas import Input

SourceId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[\w.:/-]+$",
        description="Letters, digits and . : / _ - without spaces.",
        examples=["first-steps/hello"],
    ),
]


class CourseHead(Input):
    """`course.yaml`. Without `id` the folder's name is taken, without `slug` one is made from the title."""

    title: Title
    id: SourceId | None = None
    source: SourceId | None = None
    slug: Slug | None = None
    description: Description = ""
    category: Category | None = None
    tags: Tags = []
    difficulty_level: Difficulty = Difficulty.BEGINNER
    thumbnail_url: WebAddress | None = None
    estimated_duration_minutes: Minutes | None = None
    metadata: Metadata = {}


class ModuleHead(Input):
    """`module.yaml`."""

    title: Title | None = None
    id: SourceId | None = None


class LessonHead(Input):
    """The front matter of a lesson."""

    title: Title | None = None
    id: SourceId | None = None
    slug: Slug | None = None
    content_type: ContentType = ContentType.TEXT
    video_url: VideoAddress | None = None
    duration_minutes: Minutes | None = None
    preview: bool = False
    required: bool = True
    metadata: Metadata = {}


class SourceModule(msgspec.Struct, kw_only=True):
    """`parent` is the `source_id` of the module it is in. `order` is shared with the lessons beside it.

    `file` and `place` say where faults of it are shown, here and in lessons.
    """

    source_id: str
    title: str
    file: str
    place: Place = START
    order: int
    parent: str | None = None


class SourceLesson(msgspec.Struct, kw_only=True):
    """`slug` is set where the file gives one; `order` is shared with the sub-modules beside it."""

    source_id: str
    module: str
    title: str
    file: str
    place: Place = START
    order: int
    content: str = ""
    slug: str | None = None
    slug_place: Place = START
    content_type: ContentType = ContentType.TEXT
    video_url: str | None = None
    duration_minutes: int | None = None
    preview: bool = False
    required: bool = True
    metadata: dict[str, Any] = {}


class SourceCourse(msgspec.Struct, kw_only=True):
    """A course as its files say it. `file` is the one with its head, `slug_place` where that gives its slug."""

    source: str
    source_id: str
    file: str
    head: CourseHead
    slug_place: Place = START
    modules: list[SourceModule] = []
    lessons: list[SourceLesson] = []
