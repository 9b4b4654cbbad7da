from collections.abc import Mapping
from pathlib import Path

import pytest

from lms.loading.detect import Found
from lms.loading.source import SourceCourse
from tests.loading.trees import places, read_tree

pytestmark = pytest.mark.quick

BOOK = '[book]\ntitle = "The Sea"\n'
SUMMARY = "src/SUMMARY.md"


def read_book(root: Path, summary: str, *pages: str, **more: str) -> Found:
    files: dict[str, str | bytes] = {f"src/{page}": f"# {page}\n\nText of {page}.\n" for page in pages}
    return read_tree(root, {"book.toml": BOOK, SUMMARY: summary} | files | more)


def course_of(found: Found) -> SourceCourse:
    assert found.faults.errors == []
    assert found.course is not None
    return found.course


def modules_of(course: SourceCourse) -> list[tuple[str, str, str | None, int]]:
    return [(one.source_id, one.title, one.parent, one.order) for one in course.modules]


def lessons_of(course: SourceCourse) -> list[tuple[str, str, str, int]]:
    return [(one.source_id, one.title, one.module, one.order) for one in course.lessons]


def test_parts_are_modules_and_chapters_are_lessons_in_the_order_of_the_summary(tmp_path: Path) -> None:
    summary = (
        "# Summary\n\n[Foreword](fore.md)\n\n- [Start](start.md)\n\n# Plants\n\n- [Eelgrass](eelgrass.md)\n"
        "- [Kelp](kelp.md)\n\n---\n\n# Animals\n\n- [Crab](crab.md)\n\n[Thanks](thanks.md)\n[Index](end.md)\n"
    )
    pages = ("fore.md", "start.md", "eelgrass.md", "kelp.md", "crab.md", "thanks.md", "end.md")
    course = course_of(read_book(tmp_path, summary, *pages))
    assert (course.source, course.source_id, course.head.title) == ("mdbook", "the-sea", "The Sea")
    assert modules_of(course) == [
        ("book", "The Sea", None, 0),
        ("part:plants", "Plants", None, 1),
        ("part:animals", "Animals", None, 2),
    ]
    assert lessons_of(course) == [
        ("fore.md", "Foreword", "book", 0),
        ("start.md", "Start", "book", 1),
        ("eelgrass.md", "Eelgrass", "part:plants", 0),
        ("kelp.md", "Kelp", "part:plants", 1),
        ("crab.md", "Crab", "part:animals", 0),
        ("thanks.md", "Thanks", "part:animals", 1),
        ("end.md", "Index", "part:animals", 2),
    ]


def test_a_chapter_with_children_is_a_module_that_starts_with_its_own_text(tmp_path: Path) -> None:
    summary = "- [A](a.md)\n  - [B](a/b.md)\n    - [C](a/b/c.md)\n  - [D](a/d.md)\n- [E](e.md)\n"
    course = course_of(read_book(tmp_path, summary, "a.md", "a/b.md", "a/b/c.md", "a/d.md", "e.md"))
    assert modules_of(course) == [
        ("book", "The Sea", None, 0),
        ("chapter:a.md", "A", "book", 0),
        ("chapter:a/b.md", "B", "chapter:a.md", 1),
    ]
    assert lessons_of(course) == [
        ("a.md", "A", "chapter:a.md", 0),
        ("a/b.md", "B", "chapter:a/b.md", 0),
        ("a/b/c.md", "C", "chapter:a/b.md", 1),
        ("a/d.md", "D", "chapter:a.md", 2),
        ("e.md", "E", "book", 1),
    ]
    assert course.lessons[0].content == "# a.md\n\nText of a.md.\n"


def test_numbers_stars_deep_indentation_and_comments_read_as_in_mdbook(tmp_path: Path) -> None:
    summary = (
        "<!-- Licence\n- [Not](this.md)\n-->\n# Table of contents\n* [`if` *and* else](a.md)\n"
        "\t1. [B \\[1\\]](<b c.md>)\n    2) [C](d%20e.md)\n+ [F](./x/../f.md)\n"
    )
    course = course_of(read_book(tmp_path, summary, "a.md", "b c.md", "d e.md", "f.md"))
    assert lessons_of(course) == [
        ("a.md", "if and else", "chapter:a.md", 0),
        ("b c.md", "B [1]", "chapter:a.md", 1),
        ("d e.md", "C", "chapter:a.md", 2),
        ("f.md", "F", "book", 1),
    ]


def test_a_separator_and_a_chapter_without_bullet_end_what_was_nested(tmp_path: Path) -> None:
    summary = "    - [A](a.md)\n---\n- [B](b.md)\n[C](c.md)\n  - [D](d.md)\n***\n___\n"
    course = course_of(read_book(tmp_path, summary, "a.md", "b.md", "c.md", "d.md"))
    assert [one.module for one in course.lessons] == ["book"] * 4
    assert len(course.modules) == 1


def test_a_draft_is_noted_and_its_children_are_loaded_below_it(tmp_path: Path) -> None:
    summary = "- [A]()\n  - [B](b.md)\n- [C]()\n"
    found = read_book(tmp_path, summary, "b.md")
    course = course_of(found)
    assert modules_of(course) == [("book", "The Sea", None, 0), ("draft:book/a", "A", "book", 0)]
    assert lessons_of(course) == [("b.md", "B", "draft:book/a", 0)]
    assert places(found.faults.notes) == [(SUMMARY, 1, 3, "draft"), (SUMMARY, 3, 3, "draft")]


def test_parts_of_one_name_are_two_modules_and_one_without_chapters_is_noted(tmp_path: Path) -> None:
    summary = "- [A](a.md)\n# Sea #\n- [B](b.md)\n# Empty\n# Sea\n- [C](c.md)\n"
    found = read_book(tmp_path, summary, "a.md", "b.md", "c.md")
    assert [one.source_id for one in course_of(found).modules] == ["book", "part:sea", "part:sea-2"]
    assert places(found.faults.notes) == [(SUMMARY, 4, 1, "empty_part")]


def test_without_a_part_before_them_the_first_chapters_need_no_module_of_the_book(tmp_path: Path) -> None:
    course = course_of(read_book(tmp_path, "# Summary\n# Sea\n- [A](a.md)\n", "a.md"))
    assert modules_of(course) == [("part:sea", "Sea", None, 0)]


def test_the_front_matter_of_a_page_gives_minutes_and_metadata(tmp_path: Path) -> None:
    page = "---\nminutes: 15\nlevel: hard\n---\n# Tide\n\nIt comes and goes.\n"
    course = course_of(read_book(tmp_path, "- [Tide](a.md)\n", **{"src/a.md": page}))
    lesson = course.lessons[0]
    assert (lesson.duration_minutes, lesson.metadata) == (15, {"level": "hard"})
    assert lesson.content == "It comes and goes.\n"


def test_the_commands_of_mdbook_stay_as_text_and_are_noted_once(tmp_path: Path) -> None:
    page = "# A\n\nSee:\n\n```rust\n{{#include exercise.rs:solution}}\n```\n{{% session outline %}}\n"
    more = {"src/a.md": page, "src/b.md": "{{#title x}}", "src/c.md": "{{ handlebars }}", "src/exercise.rs": "fn main"}
    found = read_book(tmp_path, "- [A](a.md)\n- [B](b.md)\n- [C](c.md)\n", **more)
    assert "{{#include exercise.rs:solution}}" in course_of(found).lessons[0].content
    assert places(found.faults.notes) == [("src/a.md", 6, 1, "directives_kept"), ("src/exercise.rs", 1, 1, "no_page")]
    assert "number of pages: 2" in found.faults.notes[0].message


def test_what_the_summary_leaves_out_is_noted(tmp_path: Path) -> None:
    found = read_book(tmp_path, "- [A](a.md)\n", "a.md", "b/c.md", "d.md", "img/x.svg", "img/y.svg")
    course_of(found)
    assert places(found.faults.notes) == [
        ("src/b/c.md", 1, 1, "outside_summary"),
        ("src/d.md", 1, 1, "outside_summary"),
        ("src/img/x.svg", 1, 1, "no_page"),
    ]
    assert "number of files: 2" in found.faults.notes[2].message


@pytest.mark.parametrize(
    ("summary", "line", "column", "code", "told"),
    [
        ("- [A](a.md)\n- [B](b.md)\n", 2, 3, "missing_page", "There is no page b.md."),
        ("- [A](a.md)\n- [B](chapters/tied.md)\n", 2, 3, "missing_page", "Did you mean chapters/tide.md?"),
        ("- [A](a.md)\n  - [Again](./a.md)\n", 2, 5, "duplicate_page", "already, in line 1"),
        ("- [A](a.md)\n- [B](../book.toml)\n", 2, 3, "outside_source", "leads out"),
        ("- [A](a.md)\n- [B](/etc/passwd)\n", 2, 3, "outside_source", "leads out"),
        ("- [A](a.md)\n- [B](link.md)\n", 2, 3, "outside_source", "leads out"),
        ("- [A](a.md)\n\n* Words\n", 3, 3, "no_link", "- [Title](file.md)"),
        ("- [A](a.md)\n- [B](a.md\n", 2, 3, "no_link", "on one line"),
        ("  - [A](a.md)\n- [B](chapters/tide.md)\n", 2, 1, "bad_indentation", "Expected 2, or 4 or more."),
        ("- [A](a.md)\n    - [B](chapters/tide.md)\n  - [C](c.md)\n", 3, 3, "bad_indentation", "Expected 0, 4, or 6"),
        ("- [A](a.md)\n- [](chapters/tide.md)\n", 2, 3, "bad_title", "1 to 255"),
        (f"- [A](a.md)\n# {'x' * 256}\n- [B](chapters/tide.md)\n", 2, 1, "bad_title", "1 to 255"),
        ("", 1, 1, "no_lessons", "no lesson"),
    ],
)
def test_faults_of_a_summary(tmp_path: Path, summary: str, line: int, column: int, code: str, told: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link.md").symlink_to("/etc/hostname")
    found = read_book(tmp_path, summary, "a.md", "chapters/tide.md")
    file = "book.toml" if code == "no_lessons" else SUMMARY
    assert places(found.faults.errors) == [(file, line, column, code)]
    assert told in found.faults.errors[0].message + found.faults.errors[0].hint


def test_a_line_that_mdbook_ignores_is_noted(tmp_path: Path) -> None:
    found = read_book(tmp_path, "# Summary\n\n  Some words.\n\n- [A](a.md)\n## Deeper\n", "a.md")
    course_of(found)
    assert places(found.faults.notes) == [(SUMMARY, 3, 3, "line_ignored"), (SUMMARY, 6, 1, "line_ignored")]


@pytest.mark.parametrize(
    ("book", "line", "column", "code"),
    [
        ('[book]\ntitle = "The Sea\n', 2, 17, "toml_syntax"),
        ("[book]\ntitle = [", 2, 1, "toml_syntax"),
        ("[book]\nauthors = ['a']\ntitle = 3\n", 3, 1, "invalid"),
        ("x = 1\n\n[book]\ntitle = ' '\n", 4, 1, "invalid"),
        ("x = 1\nbook = 3\n", 2, 1, "invalid"),
        (f"x = {'[' * 20_000}", 1, 1, "toml_syntax"),
        (b"[book]\ntitle = '\xff'\n", 2, 10, "not_utf8"),
    ],
)
def test_faults_of_book_toml(tmp_path: Path, book: str | bytes, line: int, column: int, code: str) -> None:
    found = read_tree(tmp_path, {"book.toml": book, SUMMARY: "- [A](a.md)\n", "src/a.md": "x"})
    assert found.course is None
    assert places(found.faults.errors) == [("book.toml", line, column, code)]


def test_the_book_says_where_its_pages_are_and_what_it_is_about(tmp_path: Path) -> None:
    book = (
        "[book]\ndescription = 'Of salt.'\nsrc = './pages/'\nlanguage = 'de'\nauthors = ['Ivy']\nmultilingual = false\n"
    )
    files: dict[str, str | bytes] = {"book.toml": book, "pages/SUMMARY.md": "[A](a.md)\n", "pages/a.md": "x"}
    course = course_of(read_tree(tmp_path / "salt water", files, source="school"))
    assert (course.source, course.source_id, course.head.title) == ("school", "salt-water", "salt water")
    assert (course.head.description, course.head.metadata) == ("Of salt.", {"language": "de", "authors": ["Ivy"]})
    assert course.lessons[0].file == "pages/a.md"


def test_a_book_without_a_summary_or_with_pages_elsewhere_is_a_fault(tmp_path: Path) -> None:
    assert places(read_tree(tmp_path / "a", {"book.toml": BOOK}).faults.errors) == [(SUMMARY, 1, 1, "missing_file")]
    outside: Mapping[str, str | bytes] = {"book.toml": "[book]\nsrc = '..'\n"}
    assert places(read_tree(tmp_path / "b", outside).faults.errors) == [("../SUMMARY.md", 1, 1, "outside_source")]


def test_faults_of_pages_are_all_told(tmp_path: Path) -> None:
    pages: dict[str, str | bytes] = {
        "src/a.md": "---\nminutes: 0\n---\n",
        "src/b.md": "---\nopen\n",
        "src/c.md": b"\xff",
        "src/d.md": f"---\nx: {'y' * 20_000}\n---\n",
        "src/e.md": "fine",
    }
    summary = "".join(f"- [{name}]({name}.md)\n" for name in "abcde")
    found = read_tree(tmp_path, {"book.toml": BOOK, SUMMARY: summary} | pages)
    assert places(found.faults.errors) == [
        ("src/a.md", 2, 10, "invalid"),
        ("src/b.md", 1, 1, "front_matter_open"),
        ("src/c.md", 1, 1, "not_utf8"),
        ("src/d.md", 2, 1, "too_large"),
    ]


def test_where_a_folder_has_both_formats_ours_counts(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"course.yaml": "title: Ours\n", "1-a/1-b.md": "", "book.toml": BOOK, SUMMARY: ""}
    assert course_of(read_tree(tmp_path, files)).head.title == "Ours"
