import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.accounts.documents import Role
from lms.courses.documents import CourseStatus
from lms.enrollments import rules
from lms.enrollments.rules import Report, merge, new_entry, percent_of
from lms.errors import Invalid
from tests.enrollments.reports import entries, reports

pytestmark = pytest.mark.quick


@given(entries(), st.lists(reports(), max_size=8), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_reports_ends_in_the_same_state(
    entry: dict[str, Any], sent: list[Report], chance: random.Random
) -> None:
    again = [*sent, *(one for one in sent if chance.random() < 0.5)]
    chance.shuffle(again)
    assert _merged(entry, sent) == _merged(entry, again)


@given(entries(), reports())
def test_progress_never_goes_backwards(entry: dict[str, Any], report: Report) -> None:
    after = merge(entry, report)
    assert after["state"] >= entry["state"]
    assert after["furthest"] >= entry["furthest"]
    assert _seconds(entry) <= _seconds(after)


@given(entries(), st.lists(reports(), max_size=8))
def test_watched_stays_sorted_disjoint_and_inside_the_lesson(entry: dict[str, Any], sent: list[Report]) -> None:
    after = _merged(entry, sent)
    edges = [edge for interval in after["watched"] for edge in interval]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= after["length"] for edge in edges)
    assert after["furthest"] <= after["length"]


def test_a_report_of_an_older_epoch_changes_nothing() -> None:
    entry = new_entry(required=True, duration_minutes=5, epoch=2)
    report = Report(state=rules.COMPLETED, at=datetime.now(UTC), position=9, epoch=1)
    assert rules.is_stale(entry, report)
    assert merge(entry, report) == entry


def test_rewinding_works() -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    entry = new_entry(required=True, duration_minutes=5)
    far = merge(entry, Report(state=1, at=start, position=200))
    back = merge(far, Report(state=1, at=start + timedelta(seconds=1), position=10))
    assert (back["position"], back["furthest"]) == (10, 200)


def test_percent_counts_only_pinned_lessons_and_is_whole() -> None:
    done, todo = {"required": True, "state": 2}, {"required": True, "state": 1}
    extra = {"required": False, "state": 2}
    assert percent_of({"a": done, "b": todo, "c": todo, "d": extra}) == 33
    assert percent_of({"a": done, "d": extra}) == 100
    assert percent_of({"d": extra}) == 0


def test_a_fresh_start_raises_every_epoch() -> None:
    old = {"a": new_entry(required=True, duration_minutes=5) | {"state": 2}}
    fresh = rules.reset(old, {"a": new_entry(required=True, duration_minutes=5)})
    assert (fresh["a"]["state"], fresh["a"]["epoch"]) == (0, 1)


def test_a_lesson_without_duration_is_watched_up_to_six_hours() -> None:
    assert new_entry(required=True, duration_minutes=None)["length"] == 6 * 3600
    assert new_entry(required=True, duration_minutes=10_000)["length"] == 6 * 3600


def test_every_broken_part_of_a_report_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        rules.check_report([[0, 5], [7, 7], [9, 2]], rules.MAX_DATA_BYTES + 1)
    assert [error.pointer for error in caught.value.errors] == ["#/watched/1", "#/watched/2", "#/data"]


@pytest.mark.parametrize("status", [CourseStatus.DRAFT, CourseStatus.ARCHIVED])
def test_only_published_courses_take_enrolments(status: CourseStatus) -> None:
    with pytest.raises(rules.CourseNotOpen):
        rules.check_takes_enrollments({"status": status})


def test_outsiders_see_no_enrolment() -> None:
    student, other = uuid4(), uuid4()
    rules.check_can_see_enrollment({"student_id": student}, student, Role.STUDENT, staff=False)
    rules.check_can_see_enrollment({"student_id": student}, other, Role.ADMIN, staff=False)
    rules.check_can_see_enrollment({"student_id": student}, other, Role.INSTRUCTOR, staff=True)
    with pytest.raises(rules.EnrollmentNotFound):
        rules.check_can_see_enrollment({"student_id": student}, other, Role.INSTRUCTOR, staff=False)


def _merged(entry: dict[str, Any], sent: list[Report]) -> dict[str, Any]:
    for report in sent:
        entry = merge(entry, report)
    return entry


def _seconds(entry: dict[str, Any]) -> set[int]:
    return {second for start, end in entry["watched"] for second in range(start, end)}
