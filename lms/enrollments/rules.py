"""The law of progress, and who may enrol and see what. Pure.

Reports merge commutatively, associatively and idempotently: `state` and `furthest` by max, `first_completed_at` by min,
`watched` by union, `position` and `data` each from the report with the greatest stamp. See `merging.py`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role
from lms.courses.documents import CourseStatus
from lms.documents import why_not_stored
from lms.errors import Conflict, FieldError, Invalid, NotFound, TooLarge

MAX_SECONDS = 6 * 3600
MAX_DATA_BYTES = 2048
MAX_ENROLLMENT_BYTES = 4 * 1024 * 1024

NOT_STARTED, IN_PROGRESS, COMPLETED = range(3)
STATES = ("not_started", "in_progress", "completed")


class EnrollmentNotFound(NotFound):
    detail = "There is no such enrolment."


class AlreadyEnrolled(Conflict):
    detail = "You are enrolled in this course already."

    def __init__(self, enrollment_id: UUID) -> None:
        super().__init__(enrollment_id=str(enrollment_id))


class CourseNotOpen(Conflict):
    detail = "This course does not take enrolments now."


class EnrollmentNotActive(Conflict):
    detail = "This enrolment is not active; enrol again to go on."


class EnrollmentCompleted(Conflict):
    detail = "A completed enrolment cannot be dropped."


class EnrollmentTooLarge(TooLarge):
    detail = "With this report the record of your progress would be larger than 4 MB."


@dataclass(frozen=True, slots=True)
class Report:
    """A progress report as it is merged: states as numbers, times clamped to the server's now, seconds whole.

    `epoch` None means the current one.
    """

    state: int
    at: datetime
    device: str = ""
    sequence: int = 0
    position: int | None = None
    watched: tuple[tuple[int, int], ...] = ()
    data: Any = None
    data_bytes: bytes = b""
    epoch: int | None = None

    def stamp(self, tie: int | str) -> list[Any]:
        """Orders reports totally; `tie` decides between two that claim the same moment."""
        return [self.at, self.device, self.sequence, tie]

    @property
    def data_digest(self) -> str:
        return hashlib.blake2b(self.data_bytes, digest_size=8).hexdigest()


def new_entry(*, required: bool, duration_minutes: int | None, epoch: int = 0) -> dict[str, Any]:
    """The progress of a lesson nobody has reported on. `length` stays as the lesson was when it was entered."""
    length = min(duration_minutes * 60, MAX_SECONDS) if duration_minutes else MAX_SECONDS
    return {
        "state": NOT_STARTED,
        "furthest": 0,
        "position": None,
        "stamp": None,
        "data": None,
        "data_stamp": None,
        "watched": [],
        "first_completed_at": None,
        "required": required,
        "epoch": epoch,
        "length": length,
    }


def is_stale(entry: Mapping[str, Any], report: Report) -> bool:
    """The lesson was reset since the device last looked."""
    return report.epoch is not None and report.epoch < entry["epoch"]


def merge(entry: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The entry after the report."""
    if is_stale(entry, report):
        return dict(entry)
    merged = dict(entry) | {"state": max(entry["state"], report.state)}
    watched = unite([*entry["watched"], *clip(report.watched, entry["length"])])
    reached = [entry["furthest"], *(end for _, end in watched)]
    if report.position is not None:
        position = min(report.position, entry["length"])
        reached.append(position)
        stamp = report.stamp(position)
        if entry["stamp"] is None or stamp > entry["stamp"]:
            merged |= {"position": position, "stamp": stamp}
    if report.data is not None:
        stamp = report.stamp(report.data_digest)
        if entry["data_stamp"] is None or stamp > entry["data_stamp"]:
            merged |= {"data": report.data, "data_stamp": stamp}
    if report.state == COMPLETED:
        known = entry["first_completed_at"]
        merged["first_completed_at"] = report.at if known is None else min(known, report.at)
    return merged | {"watched": watched, "furthest": max(reached)}


def clip(intervals: Iterable[tuple[int, int]], length: int) -> list[list[int]]:
    """The parts of the intervals that lie inside the lesson."""
    clipped = ([start, min(end, length)] for start, end in intervals)
    return [interval for interval in clipped if interval[0] < interval[1]]


def unite(intervals: Iterable[list[int]]) -> list[list[int]]:
    """The same seconds as few sorted intervals; those that touch become one."""
    united: list[list[int]] = []
    for start, end in sorted(intervals):
        if united and start <= united[-1][1]:
            united[-1] = [united[-1][0], max(united[-1][1], end)]
        else:
            united.append([start, end])
    return united


def percent_of(progress: Mapping[str, Mapping[str, Any]]) -> int:
    """Whole percent of the pinned lessons that are completed; 100 only when all are."""
    required = [entry["state"] for entry in progress.values() if entry["required"]]
    return len([state for state in required if state == COMPLETED]) * 100 // len(required) if required else 0


def reset(progress: Mapping[str, Mapping[str, Any]], pins: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A fresh start on today's pins. Raised epochs make late reports of the time before stale."""
    epoch = max((entry["epoch"] for entry in progress.values()), default=-1) + 1
    return {lesson_id: {**entry, "epoch": epoch} for lesson_id, entry in pins.items()}


def pins_of(lessons: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The required lessons of a course as an enrolment pins them."""
    return {
        lesson["id"]: new_entry(required=True, duration_minutes=lesson.get("duration_minutes"))
        for lesson in lessons
        if lesson["required"]
    }


def check_report(watched: Iterable[list[int]], data_size: int, data: Any = None) -> None:
    """Raises 422 for an interval that ends before it starts, and for data too large or not fit to be stored."""
    errors = [
        FieldError(code="invalid", message="An interval ends after it starts.", pointer=f"#/watched/{index}")
        for index, (start, end) in enumerate(watched)
        if start >= end
    ]
    if data_size > MAX_DATA_BYTES:
        message = f"At most {MAX_DATA_BYTES:,} bytes of JSON."
        errors.append(FieldError(code="too_large", message=message, pointer="#/data"))
    elif message := why_not_stored(data):
        errors.append(FieldError(code="invalid", message=message, pointer="#/data"))
    if errors:
        raise Invalid(errors=errors)


def check_takes_enrollments(course: Mapping[str, Any]) -> None:
    if course["status"] != CourseStatus.PUBLISHED:
        raise CourseNotOpen


def check_can_see_enrollment(enrollment: Mapping[str, Any] | None, caller_id: UUID, role: Role, *, staff: bool) -> None:
    """The student, the course's staff and administrators; for others there is no such enrolment."""
    if enrollment is None or not (enrollment["student_id"] == caller_id or staff or role is Role.ADMIN):
        raise EnrollmentNotFound
