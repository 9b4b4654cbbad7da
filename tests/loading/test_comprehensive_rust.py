"""The real book, against numbers that were counted without the reader: by shell tools over the same files."""

import re
from collections import Counter

import pytest

from lms.loading.detect import Found, read_path
from lms.loading.source import SourceCourse
from tests.loading.trees import comprehensive_rust

pytestmark = pytest.mark.quick

# 561 items with a bullet and one prefix chapter, "Welcome to Comprehensive Rust", which mdBook shows as a page too.
CHAPTERS = 561 + 1
# 17 part titles, and the module for the chapters before the first of them.
TOP_MODULES = 17 + 1


@pytest.fixture(scope="module")
def found() -> Found:
    [found] = read_path(comprehensive_rust(), None)
    return found


@pytest.fixture
def course(found: Found) -> SourceCourse:
    assert found.faults.errors == []
    assert found.course is not None
    return found.course


def test_every_chapter_is_one_lesson_in_the_order_of_the_summary(course: SourceCourse) -> None:
    summary = (comprehensive_rust() / "src" / "SUMMARY.md").read_text(encoding="utf-8")
    linked = re.findall(r"^ *(?:- )?\[.*\]\((.*)\)$", summary, re.MULTILINE)
    assert len(linked) == CHAPTERS
    assert [lesson.source_id for lesson in course.lessons] == linked


def test_parts_are_the_top_modules(course: SourceCourse) -> None:
    top = [module.title for module in course.modules if module.parent is None]
    assert len(top) == TOP_MODULES
    assert top[:3] == ["Comprehensive Rust 🦀", "Day 1: Morning", "Day 1: Afternoon"]
    assert top[-1] == "Final Words"


def test_a_chapter_with_children_starts_with_its_own_text(course: SourceCourse) -> None:
    chapters = [module for module in course.modules if module.parent is not None]
    assert len(chapters) == 121
    first = {lesson.module: lesson for lesson in reversed(course.lessons) if lesson.order == 0}
    assert all(first[one.source_id].source_id == one.source_id.removeprefix("chapter:") for one in chapters)
    [types] = [one for one in chapters if one.source_id == "chapter:types-and-values.md"]
    inside = [one.title for one in course.lessons if one.module == types.source_id]
    assert inside == ["Types and Values", "Hello, World", "Variables", "Values", "Arithmetic", "Type Inference"]
    [exercise] = [one for one in chapters if one.parent == types.source_id]
    assert (exercise.title, exercise.order) == ("Exercise: Fibonacci", 6)


def test_minutes_are_the_durations_and_nothing_else_is_in_the_front_matter(course: SourceCourse) -> None:
    # 326 pages say `minutes`; two of them are not in SUMMARY.md.
    minutes = [one.duration_minutes for one in course.lessons if one.duration_minutes is not None]
    assert (len(minutes), sum(minutes)) == (324, 2552)


def test_what_is_not_loaded_is_noted(found: Found) -> None:
    # 574 Markdown files less 562 chapters and SUMMARY.md itself. Who subtracts the 561 bullets from 574 gets 13:
    # SUMMARY.md and the prefix chapter are the two more.
    assert Counter(note.code for note in found.faults.notes) == {
        "outside_summary": 11,
        "no_page": 1,
        "directives_kept": 1,
    }
    [directives] = [note for note in found.faults.notes if note.code == "directives_kept"]
    assert "number of pages: 155" in directives.message


def test_titles_and_texts_are_those_of_the_book(course: SourceCourse) -> None:
    lessons = {lesson.source_id: lesson for lesson in course.lessons}
    assert lessons["control-flow-basics/if.md"].title == "if Expressions"
    assert lessons["unsafe-deep-dive/pinning/self-referential-buffer/rust-pin.md"].title == "With Pin<Ptr>"
    text = lessons["hello-world/what-is-rust.md"].content
    assert "SPDX-License-Identifier: CC-BY-4.0" in text
    assert "Rust is a new programming language" in text
    assert not re.search(r"^# What is Rust", text, re.MULTILINE)
