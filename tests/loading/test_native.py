from collections.abc import Mapping
from pathlib import Path

import pytest

from lms.courses.documents import ContentType, Difficulty
from lms.loading.detect import read_path
from lms.loading.source import SourceCourse
from tests.loading.trees import DEMO, TIDES, places, read_tree, write_tree

pytestmark = pytest.mark.quick

COURSE = "title: Tides\n"
LESSON = {"01-a/01-b.md": "# B\n"}


def course_in(root: Path, files: Mapping[str, str | bytes]) -> SourceCourse:
    found = read_tree(root, files)
    assert found.faults.errors == []
    assert found.course is not None
    return found.course


def test_a_folder_is_a_course(tmp_path: Path) -> None:
    course = course_in(tmp_path, {**TIDES})
    assert (course.source, course.source_id, course.head.title) == ("native", "tides", "Plants of the tidal zone")
    assert [(one.source_id, one.title, one.order) for one in course.modules] == [
        ("first-steps", "First steps", 0),
        ("shore", "Shore", 1),
    ]
    assert [(one.source_id, one.module, one.title, one.order, one.content) for one in course.lessons] == [
        ("first-steps/hello", "first-steps", "Hello", 0, "Salt and light.\n"),
        ("first-steps/eelgrass", "first-steps", "Eelgrass", 1, "It flowers under water.\n"),
        ("shore/salt", "shore", "Salt", 0, "How plants bear it.\n"),
    ]
    assert (course.lessons[0].duration_minutes, course.lessons[0].preview) == (5, True)


def test_every_field_of_course_module_and_lesson_is_read(tmp_path: Path) -> None:
    lesson = (
        "---\nid: films/tide\ntitle: '  A film '\nslug: a-film\ncontent_type: video\nvideo_url: https://m.example/t.mp4\n"
        "duration_minutes: 9\npreview: true\nrequired: false\nmetadata: {level: 2}\n---\nWatch.\n"
    )
    head = (
        "id: t1\nsource: sea-school\ntitle: Tides\nslug: tides\ndescription: All of it.\ncategory: biology\n"
        "tags: [a, b]\n"
        "difficulty_level: advanced\nthumbnail_url: https://m.example/t.webp\nestimated_duration_minutes: 90\n"
        "metadata: {credits: 3}\n"
    )
    files: dict[str, str | bytes] = {"course.yaml": head, "01-a/module.yaml": "id: mod\ntitle: Of the sea\n"}
    course = course_in(tmp_path, files | {"01-a/01-b.md": lesson})
    assert (course.source, course.source_id, course.slug_place.line) == ("sea-school", "t1", 4)
    assert course.head.difficulty_level is Difficulty.ADVANCED
    assert (course.head.category, course.head.tags, course.head.metadata) == ("biology", ["a", "b"], {"credits": 3})
    assert (course.modules[0].source_id, course.modules[0].title) == ("mod", "Of the sea")
    one = course.lessons[0]
    assert (one.source_id, one.module, one.title, one.slug) == ("films/tide", "mod", "A film", "a-film")
    assert (one.content_type, one.video_url) == (ContentType.VIDEO, "https://m.example/t.mp4")
    assert (one.duration_minutes, one.preview, one.required, one.metadata) == (9, True, False, {"level": 2})


def test_numbers_order_and_do_not_name(tmp_path: Path) -> None:
    names = ("10-ten", "2-two", "1-one", "02-also-two")
    course = course_in(tmp_path, {"course.yaml": COURSE} | {f"1-m/{name}.md": "x" for name in names})
    ids = [lesson.source_id for lesson in course.lessons]
    assert ids == ["m/one", "m/also-two", "m/two", "m/ten"]
    assert [lesson.title for lesson in course.lessons] == ["One", "Also two", "Two", "Ten"]
    assert [lesson.order for lesson in course.lessons] == [0, 1, 2, 3]


def test_sub_modules_share_the_order_of_the_lessons_beside_them(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"course.yaml": COURSE, "1-a/1-x.md": "", "1-a/2-s/1-y.md": "", "1-a/3-z.md": ""}
    course = course_in(tmp_path, files)
    assert [(one.source_id, one.parent, one.order) for one in course.modules] == [("a", None, 0), ("a/s", "a", 1)]
    assert [(one.source_id, one.order) for one in course.lessons] == [("a/x", 0), ("a/s/y", 0), ("a/z", 2)]


def test_lessons_beside_the_course_file_are_in_one_untitled_module(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"course.yaml": COURSE, "1-x.md": "", "2-a/1-y.md": "", "3-z.md": "", "04.md": ""}
    course = course_in(tmp_path, files)
    assert [(one.source_id, one.title, one.order) for one in course.modules] == [(".", "", 0), ("a", "A", 1)]
    lessons = [(one.source_id, one.module, one.title, one.order) for one in course.lessons]
    assert lessons == [("x", ".", "X", 0), ("a/y", "a", "Y", 0), ("z", ".", "Z", 2), ("04", ".", "04", 3)]


def test_without_an_id_the_folder_names_the_course_and_the_option_its_source(tmp_path: Path) -> None:
    found = read_tree(tmp_path / "tidal zone", {"course.yaml": COURSE, **LESSON}, source="school")
    assert found.course is not None
    assert (found.course.source, found.course.source_id) == ("school", "tidal zone")


def test_what_is_not_understood_is_noted_and_never_passed_over(tmp_path: Path) -> None:
    others = (
        "README.md",
        "01-a/03-check.quiz.yaml",
        "01-a/tide.png",
        "01-a/course.yaml",
        "assets/logo.svg",
        "module.yaml",
    )
    found = read_tree(tmp_path, {"course.yaml": COURSE, **LESSON} | dict.fromkeys(others, "x"))
    assert found.faults.errors == []
    assert [note.file for note in found.faults.notes] == [
        "01-a/03-check.quiz.yaml",
        "01-a/course.yaml",
        "01-a/tide.png",
        "README.md",
        "assets",
        "module.yaml",
    ]
    assert "starts with a number" in found.faults.notes[3].message


@pytest.mark.parametrize(
    ("text", "line", "column", "code", "hint"),
    [
        ("titel: Tides\ntitle: x\n", 1, 1, "unknown_field", "Did you mean title?"),
        ("title: x\nzzz: 1\n", 2, 1, "unknown_field", "Known: title, id,"),
        ("id: x\n", 1, 1, "required", ""),
        ("", 1, 1, "required", ""),
        ("title: [a]\n", 1, 8, "invalid", ""),
        (f"title: {'x' * 256}\n", 1, 8, "invalid", ""),
        ("title: '  '\n", 1, 8, "invalid", ""),
        (f"title: x\ndescription: {'x' * 5001}\n", 2, 14, "invalid", ""),
        (f"title: x\ncategory: {'x' * 101}\n", 2, 11, "invalid", ""),
        (f"title: x\nthumbnail_url: https://{'x' * 500}\n", 2, 16, "invalid", ""),
        ("title: x\nthumbnail_url: ftp://x\n", 2, 16, "invalid", ""),
        ("title: x\ndifficulty_level: hard\n", 2, 19, "invalid", "One of: beginner, intermediate, advanced."),
        ("title: x\ntags: [a, '']\n", 2, 11, "invalid", ""),
        (f"title: x\ntags:\n  - a\n  - {'x' * 51}\n", 4, 5, "invalid", ""),
        (f"title: x\ntags: [{', '.join(['a'] * 51)}]\n", 2, 7, "invalid", ""),
        ("title: x\ntags: a\n", 2, 7, "invalid", ""),
        ("title: x\nestimated_duration_minutes: 0\n", 2, 29, "invalid", ""),
        ("title: x\nid: a b\n", 2, 5, "invalid", ""),
        ("title: x\nmetadata: 3\n", 2, 11, "invalid", ""),
        (f"title: x\nmetadata:\n  a: {'x' * 20_000}\n", 3, 3, "too_large", ""),
        ("title: x\n  id: y\n", 2, 5, "yaml_syntax", ""),
        (b"title: \xff\n", 1, 8, "not_utf8", "Save the file as UTF-8."),
    ],
)
def test_faults_of_course_yaml(tmp_path: Path, text: str | bytes, line: int, column: int, code: str, hint: str) -> None:
    found = read_tree(tmp_path, {"course.yaml": text, **LESSON})
    assert places(found.faults.errors) == [("course.yaml", line, column, code)]
    assert found.faults.errors[0].hint.startswith(hint)


@pytest.mark.parametrize(
    ("front_matter", "line", "column", "code"),
    [
        ("duration: 5", 2, 1, "unknown_field"),
        ("title: x\nduration_minutes: 0", 3, 19, "invalid"),
        ("duration_minutes: '5'", 2, 19, "invalid"),
        ("duration_minutes: 1.5", 2, 19, "invalid"),
        ("preview: 'yes'", 2, 10, "invalid"),
        ("required:", 2, 10, "invalid"),
        ("content_type: quiz", 2, 15, "invalid"),
        ("content_type: video", 2, 1, "required"),
        ("content_type: embed\nvideo_url:", 3, 11, "required"),
        ("content_type: video\nvideo_url: javascript:alert(1)", 3, 12, "invalid"),
        ("slug: a b", 2, 7, "invalid"),
        ("title: x\n title: y", 3, 7, "yaml_syntax"),
        ("module_id: x", 2, 1, "unknown_field"),
        ("metadata: {a: 1, a: 2}", 2, 18, "duplicate_key"),
    ],
)
def test_faults_of_front_matter(tmp_path: Path, front_matter: str, line: int, column: int, code: str) -> None:
    found = read_tree(tmp_path, {"course.yaml": COURSE, "01-a/01-b.md": f"---\n{front_matter}\n---\nText\n"})
    assert places(found.faults.errors)[:1] == [("01-a/01-b.md", line, column, code)]


def test_one_run_tells_every_fault_of_every_file(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "course.yaml": "titel: Tides\ndifficulty_level: 3\n",
        "01-a/module.yaml": "name: A\n",
        "01-a/01-b.md": "---\nduration_minutes: x\npreview: 2\n---\n",
        "01-a/02-c.md": "---\nopen\n",
        "01-a/03-d.md": b"\xff",
        "02-b/1-c/1-d/1-e.md": "x",
    }
    assert places(read_tree(tmp_path, files).faults.errors) == [
        ("01-a/01-b.md", 2, 19, "invalid"),
        ("01-a/01-b.md", 3, 10, "invalid"),
        ("01-a/02-c.md", 1, 1, "front_matter_open"),
        ("01-a/03-d.md", 1, 1, "not_utf8"),
        ("01-a/module.yaml", 1, 1, "unknown_field"),
        ("02-b/1-c/1-d", 1, 1, "too_deep"),
        ("course.yaml", 1, 1, "required"),
        ("course.yaml", 1, 1, "unknown_field"),
        ("course.yaml", 2, 19, "invalid"),
    ]


def test_an_id_or_a_slug_that_is_taken_twice_names_both_files(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "course.yaml": COURSE,
        "1-a/1-x.md": "---\nid: one\nslug: s\n---\n",
        "1-a/2-y.md": "---\nslug: s\nid: one\n---\n",
        "1-a/3-z.md": "",
        "1-a/4-z.md": "",
        "2-a/1-w.md": "",
    }
    found = read_tree(tmp_path, files)
    assert places(found.faults.errors) == [
        ("1-a/2-y.md", 2, 7, "duplicate_slug"),
        ("1-a/2-y.md", 3, 5, "duplicate_id"),
        ("1-a/4-z.md", 1, 1, "duplicate_id"),
        ("2-a", 1, 1, "duplicate_id"),
    ]
    assert "1-a/1-x.md" in found.faults.errors[1].message


def test_a_course_without_lessons_is_a_fault(tmp_path: Path) -> None:
    assert places(read_tree(tmp_path, {"course.yaml": COURSE}).faults.errors) == [("course.yaml", 1, 1, "no_lessons")]


def test_links_out_of_the_course_are_faults(tmp_path: Path) -> None:
    write_tree(tmp_path, {"secret.md": "x", "c/course.yaml": COURSE, "c/01-a/01-b.md": "x"})
    (tmp_path / "c/01-a/02-out.md").symlink_to("../../secret.md")
    (tmp_path / "c/02-out").symlink_to("..")
    [found] = read_path(tmp_path / "c", None)
    assert places(found.faults.errors) == [
        ("01-a/02-out.md", 1, 1, "outside_source"),
        ("02-out", 1, 1, "outside_source"),
    ]


def test_a_folder_of_courses_holds_them_all(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"tides/{name}": text for name, text in TIDES.items()})
    write_tree(tmp_path, {"salt/course.yaml": "titel: x\n", "salt/1-a/1-b.md": "", "notes/x.txt": "", "README.md": ""})
    found = read_path(tmp_path, None)
    assert [(one.name, one.course is not None) for one in found] == [
        ("salt", False),
        ("tides", True),
        (tmp_path.name, False),
    ]
    assert {file for file, *_ in places(found[0].faults.errors)} == {"salt/course.yaml"}
    assert [note.file for note in found[2].faults.notes] == ["README.md", "notes"]


def test_a_place_without_a_course_says_what_was_looked_for(tmp_path: Path) -> None:
    write_tree(tmp_path, {"empty/x.txt": "", "a.md": "x"})
    (tmp_path / "empty" / "out").symlink_to("/")
    for path, codes in (("empty", ["no_course", "outside_source"]), ("a.md", ["no_folder"]), ("gone", ["no_folder"])):
        [found] = read_path(tmp_path / path, None)
        assert sorted(error.code for error in found.faults.errors) == codes
        told = " ".join(error.message + error.hint for error in found.faults.errors)
        assert "course.yaml" in told
        assert "book.toml with src/SUMMARY.md" in told


def test_the_demo_courses_have_no_fault() -> None:
    if not DEMO.is_dir():
        pytest.skip("there are no demo courses yet")
    found = read_path(DEMO, "demo")
    assert [fault for one in found for fault in one.faults.errors] == []
    assert sum(len(one.course.lessons) for one in found if one.course) >= 25
