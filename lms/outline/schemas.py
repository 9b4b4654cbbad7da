"""What crosses HTTP about the tree of a course."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from lms.courses.schemas import LessonSummary, ModuleRead, ShortId, Title
from lms.schemas import Input, Output, Patch

MOST = 10_000


class ModuleUpdate(Patch):
    title: Title | UnsetType = UNSET


class OutlineModule(ModuleRead):
    """A module with its lessons in order. A sub-module follows the first `after_lessons` lessons of its parent."""

    after_lessons: int
    lessons: list[LessonSummary]


class OutlineRead(Output):
    """The whole tree as it is read, sub-modules behind their parents, without lesson bodies."""

    modules: list[OutlineModule]


class LessonPlace(Input):
    id: ShortId


class ModulePlace(Input):
    """Modules of one parent are in the order of the list. Without `after_lessons` a sub-module follows all lessons."""

    id: ShortId
    parent_id: ShortId | None = None
    after_lessons: Annotated[int, Meta(ge=0, le=MOST, examples=[0])] | None = None
    lessons: Annotated[list[LessonPlace], Meta(max_length=MOST)] = []


class OutlineUpdate(Input):
    """Every module and every lesson of the course exactly once, each in its new place."""

    modules: Annotated[list[ModulePlace], Meta(max_length=MOST)]
