"""What crosses HTTP about enrolments and progress."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta

from lms.enrollments.documents import EnrollmentStatus
from lms.enrollments.rules import MAX_SECONDS
from lms.schemas import Input, Instructor, Moment, Output

State = Literal["not_started", "in_progress", "completed"]
Second = Annotated[int, Meta(ge=0, le=MAX_SECONDS, examples=[95])]
Interval = Annotated[list[Second], Meta(min_length=2, max_length=2, examples=[[0, 95]])]


class EnrollmentCreate(Input):
    course_id: UUID


class ProgressReport(Input):
    """What a device saw, in whole seconds of the lesson.

    Reports merge: in any order and however often they arrive, the same ones end in the same state. `occurred_at`,
    `device_id` and `sequence` decide which position is the latest; `epoch` is that of the progress the device knows.
    """

    state: State | None = None
    position_seconds: Second | None = None
    watched: Annotated[list[Interval], Meta(max_length=100, description="Intervals [from, to] in seconds.")] = []
    data: Any = None
    epoch: Annotated[int, Meta(ge=0, le=2**31)] | None = None
    occurred_at: Annotated[datetime, Meta(tz=True, examples=["2026-11-23T08:00:00.000Z"])] | None = None
    device_id: Annotated[str, Meta(max_length=64, examples=["phone-1"])] = ""
    sequence: Annotated[int, Meta(ge=0, le=2**53, examples=[17])] = 0


class LessonProgressRead(Output):
    state: State
    furthest_seconds: int
    position_seconds: int | None
    watched: list[list[int]]
    data: Any
    first_completed_at: Moment | None
    required: bool
    epoch: int


class ProgressResult(Output):
    """`stale`: the lesson was reset after the device last looked; nothing was changed."""

    result: Literal["applied", "stale"]
    lesson_id: str
    progress: LessonProgressRead
    status: EnrollmentStatus
    percent: int
    completed_at: Moment | None


class EnrolledCourse(Output):
    id: UUID
    title: str
    slug: str
    thumbnail_url: str | None
    instructor: Instructor | None


class EnrollmentSummary(Output):
    id: UUID
    student_id: UUID
    course: EnrolledCourse
    status: EnrollmentStatus
    percent: int
    enrolled_at: Moment
    last_activity_at: Moment | None
    completed_at: Moment | None
    grade: float | None


class EnrollmentRead(EnrollmentSummary):
    progress: dict[str, LessonProgressRead]
