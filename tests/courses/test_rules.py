from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lms.accounts.documents import Role
from lms.courses.documents import ContentType, CourseStatus
from lms.courses.rules import (
    MAX_METADATA_BYTES,
    CourseNotFound,
    CourseNotPublishable,
    NotCourseStaff,
    NotEnrolled,
    SignInToRead,
    check_can_edit,
    check_can_read_body,
    check_can_see,
    check_lesson_content,
    check_metadata,
    check_publishable,
    free_slug,
    in_order,
    is_staff,
    next_order,
)
from lms.courses.schemas import Slug, Title, WebAddress
from lms.courses.slugs import slug_of
from lms.errors import Invalid

OWNER, COLLEAGUE, STRANGER = uuid4(), uuid4(), uuid4()


def course_with(status: CourseStatus) -> dict[str, Any]:
    return {"status": status.value, "instructor_id": OWNER, "co_instructor_ids": [COLLEAGUE]}


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Plants of the tidal zone", "plants-of-the-tidal-zone"),
        ("  C++ & C#, part_2!  ", "c-c-part-2"),
        ("Élève à l'école", "eleve-a-l-ecole"),
        ("ﬁne print", "fine-print"),
        ("हिन्दी की किताब", "हिन्दी-की-किताब"),
        ("日本語 入門", "日本語-入門"),
        ("한국어", "한국어"),
        ("?!", "course"),
        ("x" * 79 + " y", "x" * 79),
        ("x" * 90, "x" * 80),
    ],
)
def test_a_slug_is_made_of_the_words_of_the_title(title: str, slug: str) -> None:
    assert slug_of(title) == slug


@given(st.text(max_size=120))
def test_whatever_is_made_of_a_title_may_also_be_given_as_a_slug(title: str) -> None:
    slug = slug_of(title)
    assert msgspec.convert(slug, Slug) == slug
    assert slug_of(slug) == slug


@given(st.text("ab-ü", min_size=1, max_size=80), st.integers(1, 120))
def test_a_numbered_slug_is_free_and_may_be_given(title: str, copies: int) -> None:
    taken: set[str] = set()
    for _ in range(copies):
        slug = free_slug(slug_of(title), taken)
        assert slug not in taken
        assert msgspec.convert(slug, Slug) == slug
        taken.add(slug)


def test_the_first_free_number_is_taken() -> None:
    assert free_slug("tides", set()) == "tides"
    assert free_slug("tides", {"tides"}) == "tides-2"
    assert free_slug("tides", {"tides", "tides-2", "tides-4"}) == "tides-3"


@pytest.mark.parametrize(
    "slug", ["", "Tides", "a_b", "a b", "-a", "a-", "a--b", "a\n", "a/b", "a.b", "a\u200bb", "x" * 81]
)
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(slug, Slug)


@pytest.mark.parametrize("address", ["https://x.example/a\n", "ftp://x.example", "https://", "https://x.example/a b"])
def test_what_is_no_web_address_is_refused(address: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(address, WebAddress)


@pytest.mark.parametrize(("title", "is_title"), [("x" * 255, True), (" " * 9 + "x y" + "\n", True), ("x" * 256, False)])
def test_a_title_is_measured_after_trimming(title: str, *, is_title: bool) -> None:
    if is_title:
        assert msgspec.convert(title, Title) == title
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(title, Title)


@pytest.mark.parametrize(
    ("person", "role", "staff"),
    [
        (OWNER, Role.INSTRUCTOR, True),
        (OWNER, Role.STUDENT, True),
        (COLLEAGUE, Role.INSTRUCTOR, True),
        (STRANGER, Role.INSTRUCTOR, False),
        (STRANGER, Role.STUDENT, False),
        (STRANGER, Role.ADMIN, True),
        (None, None, False),
    ],
)
def test_staff_are_the_owner_the_co_instructors_and_administrators(person: Any, role: Role, *, staff: bool) -> None:
    assert is_staff(course_with(CourseStatus.PUBLISHED), person, role) is staff


@pytest.mark.parametrize("status", CourseStatus)
def test_outsiders_see_published_courses_only(status: CourseStatus) -> None:
    one = course_with(status)
    check_can_see(one, staff=True, enrolled=False)
    check_can_see(one, staff=False, enrolled=True)
    check_can_edit(one, staff=True)
    if status is CourseStatus.PUBLISHED:
        check_can_see(one, staff=False, enrolled=False)
        with pytest.raises(NotCourseStaff):
            check_can_edit(one, staff=False)
        return
    with pytest.raises(CourseNotFound):
        check_can_see(one, staff=False, enrolled=False)
    with pytest.raises(CourseNotFound):
        check_can_edit(one, staff=False)


def test_what_does_not_exist_is_seen_by_nobody() -> None:
    with pytest.raises(CourseNotFound):
        check_can_see(None, staff=True, enrolled=True)


def test_bodies_are_for_staff_and_the_enrolled_and_previews_for_all() -> None:
    closed, preview = {"preview": False}, {"preview": True}
    check_can_read_body(closed, staff=True, enrolled=False, signed_in=True)
    check_can_read_body(closed, staff=False, enrolled=True, signed_in=True)
    check_can_read_body(preview, staff=False, enrolled=False, signed_in=False)
    with pytest.raises(NotEnrolled):
        check_can_read_body(closed, staff=False, enrolled=False, signed_in=True)
    with pytest.raises(SignInToRead):
        check_can_read_body(closed, staff=False, enrolled=False, signed_in=False)


@pytest.mark.parametrize(
    ("required", "missing"), [([], ["lessons"]), ([False, False], ["required_lessons"]), ([False, True], None)]
)
def test_a_course_is_published_with_at_least_one_required_lesson(
    required: list[bool], missing: list[str] | None
) -> None:
    lessons = [{"required": one} for one in required]
    if missing is None:
        check_publishable(lessons)
        return
    with pytest.raises(CourseNotPublishable) as refused:
        check_publishable(lessons)
    assert refused.value.members == {"missing": missing}


def test_a_video_and_an_embedded_page_need_an_address() -> None:
    check_lesson_content(ContentType.TEXT, None)
    check_lesson_content(ContentType.VIDEO, "https://media.school.example/a.mp4")
    for kind in (ContentType.VIDEO, ContentType.EMBED):
        with pytest.raises(Invalid) as refused:
            check_lesson_content(kind, None)
        assert [(one.code, one.pointer) for one in refused.value.errors] == [("required", "#/video_url")]


def test_metadata_has_a_limit() -> None:
    check_metadata(MAX_METADATA_BYTES)
    with pytest.raises(Invalid) as refused:
        check_metadata(MAX_METADATA_BYTES + 1)
    assert [(one.code, one.pointer) for one in refused.value.errors] == [("too_large", "#/metadata")]


def module(name: str, order: int, parent: str | None = None) -> dict[str, Any]:
    return {"id": name, "order": order, "parent_id": parent}


def lesson(name: str, order: int, home: str) -> dict[str, Any]:
    return {"id": name, "order": order, "module_id": home}


def ids(rows: list[Mapping[str, Any]]) -> str:
    return " ".join(row["id"] for row in rows)


def test_the_outline_is_read_depth_first_with_lessons_and_sub_modules_in_one_order() -> None:
    modules = [module("M2", 1), module("sub", 1, "M1"), module("M1", 0)]
    lessons = [lesson("d", 0, "M2"), lesson("c", 2, "M1"), lesson("b", 0, "sub"), lesson("a", 0, "M1")]
    in_modules, in_lessons = in_order(modules, lessons)
    assert ids(in_modules) == "M1 sub M2"
    assert ids(in_lessons) == "a b c d"


def test_a_shared_place_and_a_lost_module_drop_nothing() -> None:
    modules = [module("M", 0), module("sub", 0, "M")]
    lessons = [lesson("after", 0, "sub"), lesson("before", 0, "M"), lesson("lost", 5, "gone")]
    assert ids(in_order(modules, lessons)[1]) == "before after lost"
    assert in_order([], []) == ([], [])


def test_the_next_place_is_behind_lessons_and_sub_modules() -> None:
    modules = [module("M", 0), module("N", 3), module("sub", 4, "M")]
    lessons = [lesson("a", 0, "M"), lesson("b", 2, "M")]
    assert next_order(None, modules, lessons) == 4
    assert next_order("M", modules, lessons) == 5
    assert next_order("N", modules, lessons) == 0
    assert next_order(None, [], []) == 0
