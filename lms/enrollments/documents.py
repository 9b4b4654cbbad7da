"""One student in one course, with the progress map."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from pymongo import ASCENDING, DESCENDING, IndexModel

from lms.clock import utc_now
from lms.documents import BaseDocument


class EnrollmentStatus(StrEnum):
    PENDING = "pending"
    WAITING = "waiting"
    ACTIVE = "active"
    COMPLETED = "completed"
    DROPPED = "dropped"
    EXPIRED = "expired"


class LessonProgress(BaseModel):
    """What a student did in one lesson; `rules.merge` is the law by which reports change it.

    `state` is 0 not started, 1 in progress, 2 completed. `length` are the seconds that `watched` is clipped to, pinned
    when the entry is made. A stamp is [client time, device, sequence, tie] of the report that a value comes from.
    """

    state: int
    furthest: int
    position: int | None
    stamp: list[Any] | None
    data: Any
    data_stamp: list[Any] | None
    watched: list[list[int]]
    first_completed_at: datetime | None
    required: bool
    epoch: int
    length: int


class Enrollment(BaseDocument):
    """`progress` maps lesson ids: required ones enter at enrolment, which pins them, others at their first report.

    `certificate_issued` is set in the transaction that issues it. `seq` is the place of the last state transition among
    all that this student can see change. `erased_at`: the student is nobody any more, and what they did here is gone.
    """

    student_id: UUID
    course_id: UUID
    status: EnrollmentStatus = EnrollmentStatus.ACTIVE
    percent: int = 0
    progress: dict[str, LessonProgress] = {}
    enrolled_at: datetime = Field(default_factory=utc_now)
    last_activity_at: datetime | None = None
    completed_at: datetime | None = None
    grade: float | None = None
    certificate_issued: bool = False
    seq: int = 0
    changed_at: datetime = Field(default_factory=utc_now)
    erased_at: datetime | None = None

    class Settings:
        name = "enrollments"
        indexes = [
            IndexModel([("student_id", ASCENDING), ("course_id", ASCENDING)], name="student_course", unique=True),
            IndexModel([("course_id", ASCENDING), ("status", ASCENDING), ("_id", ASCENDING)], name="course_status"),
            IndexModel(
                [("student_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)], name="student_created"
            ),
            IndexModel(
                [("student_id", ASCENDING), ("status", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                name="student_status_created",
            ),
            IndexModel([("student_id", ASCENDING), ("last_activity_at", DESCENDING)], name="student_activity"),
        ]
