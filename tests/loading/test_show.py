import io
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lms.loading.detect import read_path
from lms.loading.faults import Fault, Faults, Severity
from lms.loading.load import CourseReport, LoadReport, Refusal
from lms.loading.plan import CoursePlan, plan_course
from lms.loading.show import print_report, shortened, to_json, visible
from lms.loading.source import SourceCourse
from tests.loading.trees import TIDES, read_tree, write_tree

pytestmark = pytest.mark.quick

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def text_of(*courses: CourseReport, dry_run: bool = False, colours: bool = False) -> str:
    out = io.StringIO()
    colour_system = "standard" if colours else None
    console = Console(file=out, force_terminal=colours, color_system=colour_system, highlight=False, soft_wrap=True)
    print_report(LoadReport(dry_run=dry_run, courses=list(courses)), console)
    return out.getvalue()


def report_of(plan: CoursePlan | None, **more: Any) -> CourseReport:
    given: dict[str, Any] = {"name": "tides", "errors": [], "notes": [], "plan": plan}
    return CourseReport(**(given | more))


def source_in(root: Path, **files: str) -> SourceCourse:
    found = read_tree(root, {**TIDES} | files)
    assert found.course is not None
    return found.course


def stored_by(plan: CoursePlan) -> dict[str, Any]:
    arrays = {f"{kind}s": [item.fields for item in plan.items if item.kind == kind] for kind in ("module", "lesson")}
    loaded = {"hash": plan.head_hash, "lessons": plan.hashes, "loaded_at": NOW}
    return {
        **plan.head,
        **arrays,
        "_id": UUID(int=1),
        "rev": 1,
        "status": "draft",
        "outline_rev": 1,
        "updated_at": NOW,
        "loaded": loaded,
    }


@pytest.fixture
def new(tmp_path: Path) -> CoursePlan:
    return plan_course(source_in(tmp_path / "new" / "tides"), None, "plants", Faults())


@pytest.fixture
def update(tmp_path: Path, new: CoursePlan) -> CoursePlan:
    """Salt was edited in the app; the source has a new title, a new text for Salt, a new lesson, and no Eelgrass."""
    stored = stored_by(new)
    stored["lessons"][2] = stored["lessons"][2] | {"content": "Mine."}
    source = source_in(
        tmp_path / "update" / "tides",
        **{
            "course.yaml": "id: tides\ntitle: Tides\ntags: [plants, sea]\n",
            "02-shore/01-salt.md": f"# Salt\n\n{'They sweat it. ' * 10}\n",
            "02-shore/02-sand.md": "# Sand\n",
        },
    )
    source.lessons = [lesson for lesson in source.lessons if lesson.title != "Eelgrass"]
    return plan_course(source, stored, "plants", Faults())


def test_a_new_course_is_told_in_one_line(new: CoursePlan) -> None:
    assert text_of(report_of(new, applied=True)) == (
        "tides: created: 2 modules created, 3 lessons created\n1 course, 1 written, 0 faults, 0 notes.\n"
    )
    assert text_of(report_of(new), dry_run=True) == (
        "tides: would be created: 2 modules created, 3 lessons created\n"
        "1 course, 0 written, 0 faults, 0 notes (dry run).\n"
    )


def test_an_update_is_told_item_by_item_and_field_by_field(update: CoursePlan) -> None:
    assert text_of(report_of(update, applied=True)) == (
        "tides: updated: 1 lesson updated, 1 lesson created, 1 lesson missing in the source, course: title\n"
        '  ~ title: "Plants of the tidal zone" -> "Tides"\n'
        "  ~ lesson Salt (02-shore/01-salt.md), edited in the app\n"
        '      content: "Mine." -> "They sweat it. They sweat it. They sweat it. They sweat it.... (153 characters)\n'
        "  + lesson Sand (02-shore/02-sand.md)\n"
        "  ? lesson Eelgrass (not in the source any more; kept)\n"
        "1 course, 1 written, 0 faults, 0 notes.\n"
    )


def test_a_refusal_names_what_is_in_the_way(update: CoursePlan) -> None:
    refusal = Refusal(code="edited_in_app", message="This was edited.", items=["lesson Salt"])
    lines = text_of(report_of(update, refusal=refusal)).splitlines()
    assert lines[0] == "tides: update refused"
    assert lines[-3:] == ["  refused: This was edited.", "    lesson Salt", "1 course, 0 written, 0 faults, 0 notes."]


def test_an_unchanged_course_and_one_that_is_only_remembered_say_so(tmp_path: Path, new: CoursePlan) -> None:
    source = source_in(tmp_path / "again" / "tides")
    stored = stored_by(new)
    same = plan_course(source, stored, "plants", Faults())
    assert text_of(report_of(same)).splitlines()[0] == "tides: unchanged"
    forgotten = plan_course(source, stored | {"loaded": None}, "plants", Faults())
    assert text_of(report_of(forgotten)).splitlines()[0] == "tides: updated: only what was last loaded"


def test_faults_carry_file_line_and_column_and_a_hint(tmp_path: Path) -> None:
    found = read_path(
        write_tree(
            tmp_path / "tides",
            {
                "course.yaml": "titel: Tides\ndifficulty_level: hard\n",
                "01-a/01-b.md": "---\nduration_minutes: 0\n---\n",
                "notes.txt": "",
            },
        ),
        None,
    )
    reports = [CourseReport(name=one.name, errors=one.faults.errors, notes=one.faults.notes) for one in found]
    assert text_of(*reports) == (
        "tides: not loaded, 4 faults\n"
        "  01-a/01-b.md:2:19: Expected int >= 1.\n"
        "  course.yaml:1:1: This field is required.\n"
        "  course.yaml:1:1: There is no such field. (Did you mean title?)\n"
        "  course.yaml:2:19: Invalid enum value 'hard'. (One of: beginner, intermediate, advanced.)\n"
        "  note: notes.txt:1:1: Not loaded.\n"
        "0 courses, 0 written, 4 faults, 1 note.\n"
    )


def test_what_is_no_course_but_has_notes_is_told(tmp_path: Path) -> None:
    note = Fault(severity=Severity.NOTE, file="README.md", line=1, column=1, code="not_loaded", message="Not loaded.")
    lines = text_of(CourseReport(name="school", errors=[], notes=[note])).splitlines()
    assert lines[:2] == ["school: no course", "  note: README.md:1:1: Not loaded."]


def test_the_same_as_data(update: CoursePlan) -> None:
    fault = Fault(
        severity=Severity.ERROR,
        file="x/course.yaml",
        line=2,
        column=8,
        code="invalid",
        message="Expected `str`.",
        pointer="#/title",
        hint="Put it in quotes.",
    )
    refusal = Refusal(code="edited_in_app", message="This was edited.", items=["lesson Salt"])
    courses = [
        report_of(update, refusal=refusal),
        CourseReport(name="x", errors=[fault], notes=[]),
    ]
    data = msgspec.json.decode(msgspec.json.encode(to_json(LoadReport(dry_run=True, courses=courses))))
    assert (data["dry_run"], data["exit_code"]) == (True, 1)
    first, second = data["courses"]
    assert first["refusal"] == {"code": "edited_in_app", "message": "This was edited.", "items": ["lesson Salt"]}
    plan = first["plan"]
    assert (plan["source"], plan["source_id"], plan["title"], plan["action"]) == ("native", "tides", "Tides", "update")
    assert (plan["course_id"], plan["edited"]) == (str(UUID(int=1)), ["lesson Salt"])
    assert plan["changes"] == [{"field": "title", "old": '"Plants of the tidal zone"', "new": '"Tides"'}]
    assert {item["title"]: item["action"] for item in plan["items"] if item["kind"] == "lesson"} == {
        "Hello": "unchanged",
        "Salt": "update",
        "Sand": "create",
        "Eelgrass": "missing",
    }
    [salt] = [item for item in plan["items"] if item["title"] == "Salt"]
    assert (salt["file"], salt["edited"], salt["source_id"]) == ("02-shore/01-salt.md", True, "shore/salt")
    assert salt["changes"][0]["old"] == '"Mine."'
    assert second == {
        "name": "x",
        "applied": False,
        "errors": [msgspec.to_builtins(fault)],
        "notes": [],
        "refusal": None,
        "plan": None,
    }


def test_a_new_course_has_no_id_yet_in_the_data(new: CoursePlan) -> None:
    [course] = to_json(LoadReport(dry_run=False, courses=[report_of(new)]))["courses"]
    assert (course["plan"]["course_id"], course["plan"]["edited"]) == (None, [])


def test_every_line_of_the_text_is_in_the_data_too(update: CoursePlan) -> None:
    data = to_json(LoadReport(dry_run=False, courses=[report_of(update)]))
    [course] = data["courses"]
    told = [change for item in course["plan"]["items"] for change in item["changes"]] + course["plan"]["changes"]
    text = text_of(report_of(update))
    assert all(f"{change['field']}: {change['old']} -> {change['new']}" in text for change in told)
    assert len(told) == text.count(" -> ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", '"a\\nb"'),
        (None, "null"),
        (True, "true"),
        (["é"], '["é"]'),
        ("x" * 58, f'"{"x" * 58}"'),
        ("x" * 59, f'"{"x" * 59}... (61 characters)'),
    ],
)
def test_values_take_one_short_line(value: object, text: str) -> None:
    assert shortened(value) == text


HOSTILE = "\x1b]0;owned\x07\x1b[2J\rA \x9b31m\u202egnp.\u2066 [red]B[/red] :smile: \x7f\x85\u2028"


def test_what_others_wrote_cannot_command_the_terminal(tmp_path: Path) -> None:
    name = "02-shore/03-\x1b[31m\x07\n.md"
    heading = HOSTILE.replace("\r", " ")
    source = source_in(tmp_path / "a\x1bc", **{name: f"# {heading}\n", "04-\x1b[0m.txt": ""})
    stored = stored_by(plan_course(source_in(tmp_path / "b"), None, "plants", Faults()))
    plan = plan_course(source, stored, "plants", Faults())
    fault = Fault(severity=Severity.ERROR, file=name, line=1, column=1, code="x", message=HOSTILE, hint=HOSTILE)
    refusal = Refusal(code="x", message=HOSTILE, items=[HOSTILE])
    text = text_of(report_of(plan, name=HOSTILE, errors=[fault], notes=[fault], refusal=refusal))
    assert not [one for one in text.replace("\n", "") if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert "[red]B[/red] :smile:" in text
    assert "03-\\x1b[31m\\x07\\n.md" in text


def test_colours_are_ours_only() -> None:
    fault = Fault(severity=Severity.ERROR, file="a.md", line=1, column=1, code="x", message="[green]\x1b[32mFine")
    text = text_of(CourseReport(name="a", errors=[fault], notes=[]), colours=True)
    assert "\x1b[31m" in text
    assert "\x1b[32m" not in text
    assert "[green]\\x1b[32mFine" in text


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf"])))
def test_words_of_every_language_are_shown_as_they_are(text: str) -> None:
    assert visible(text) == text
