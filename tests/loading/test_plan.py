from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from lms.loading.faults import Faults
from lms.loading.fields import HEAD, LESSON, hash_of
from lms.loading.plan import Action, Change, CoursePlan, plan_course
from tests.loading.trees import TIDES, places, read_tree

pytestmark = pytest.mark.quick

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
Stored = dict[str, Any]


class Folder:
    """The course TIDES in a folder, with what a test changes in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, str | bytes] = {**TIDES}
        self.faults = Faults()
        self.tries = 0

    def plan(self, stored: Mapping[str, Any] | None, slug: str = "plants") -> CoursePlan:
        self.tries += 1
        found = read_tree(self.root / str(self.tries) / "tides", self.files)
        assert found.faults.errors == []
        assert found.course is not None
        self.faults = Faults()
        return plan_course(found.course, stored, slug, self.faults)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def stored_by(plan: CoursePlan) -> Stored:
    """What the database holds after the plan of a new course was applied."""
    items = {kind: [dict(item.fields) for item in plan.items if item.kind == kind] for kind in ("module", "lesson")}
    return {
        **plan.head,
        "_id": UUID(int=1),
        "rev": 1,
        "status": "draft",
        "outline_rev": 1,
        "updated_at": NOW,
        "modules": items["module"],
        "lessons": [lesson | {"rev": 1} for lesson in items["lesson"]],
        "loaded": {"hash": plan.head_hash, "lessons": dict(plan.hashes), "loaded_at": NOW},
    }


@pytest.fixture
def stored(folder: Folder) -> Stored:
    return stored_by(folder.plan(None))


def actions(plan: CoursePlan) -> dict[str, str]:
    return {item.source_id: item.action.value for item in plan.items if item.action is not Action.UNCHANGED}


def lesson_of(stored: Stored, source_id: str) -> Stored:
    return next(one for one in stored["lessons"] if one["source_id"] == source_id)


def test_a_course_that_is_not_stored_is_created_in_every_item(folder: Folder) -> None:
    plan = folder.plan(None)
    assert (plan.action, plan.seen, plan.edited, plan.changes) == (Action.CREATE, None, [], [])
    assert (plan.head["slug"], plan.head["tags"]) == ("plants", ["plants", "sea"])
    assert [(item.kind, item.source_id) for item in plan.of("module", Action.CREATE)] == [
        ("module", "first-steps"),
        ("module", "shore"),
    ]
    lessons = plan.of("lesson", Action.CREATE)
    assert [(item.title, item.file) for item in lessons] == [
        ("Hello", "01-first-steps/01-hello.md"),
        ("Eelgrass", "01-first-steps/02-eelgrass.md"),
        ("Salt", "02-shore/01-salt.md"),
    ]
    assert [item.fields["slug"] for item in lessons] == ["hello", "eelgrass", "salt"]
    assert {item.fields["module_id"] for item in lessons[:2]} == {plan.items[0].id}
    assert len({item.id for item in plan.items}) == 5
    assert set(plan.hashes) == {item.id for item in plan.items}


def test_the_same_source_again_changes_nothing(folder: Folder, stored: Stored) -> None:
    plan = folder.plan(stored)
    assert (plan.action, actions(plan), plan.changes, plan.is_remembered) == (Action.UNCHANGED, {}, [], True)
    assert plan.seen is not None
    assert (plan.seen.id, plan.seen.rev, plan.seen.updated_at) == (UUID(int=1), 1, NOW)


def test_a_changed_text_is_an_update_of_that_lesson_only(folder: Folder, stored: Stored) -> None:
    folder.files["02-shore/01-salt.md"] = "# Salt\n\nThey sweat it.\n"
    plan = folder.plan(stored)
    assert (plan.action, actions(plan), plan.changes) == (Action.UPDATE, {"shore/salt": "update"}, [])
    [item] = plan.of("lesson", Action.UPDATE)
    assert item.changes == [Change("content", "How plants bear it.\n", "They sweat it.\n")]
    assert item.id == lesson_of(stored, "shore/salt")["id"]
    assert plan.edited == []


def test_fields_of_the_head_are_compared_one_by_one(folder: Folder, stored: Stored) -> None:
    folder.files["course.yaml"] = "id: tides\ntitle: Tidal plants\ntags: [sea, plants]\nmetadata: {level: 1}\n"
    plan = folder.plan(stored)
    assert (plan.action, actions(plan), plan.edited) == (Action.UPDATE, {}, [])
    assert [(change.field, change.new) for change in plan.changes] == [
        ("title", "Tidal plants"),
        ("tags", ["sea", "plants"]),
        ("metadata", {"level": 1}),
    ]


@pytest.mark.parametrize(("old", "new"), [("1", "true"), ("1", "1.0"), ("0", "false"), ("1", "'1'"), ("null", "''")])
def test_values_that_python_takes_for_equal_are_changes(folder: Folder, old: str, new: str) -> None:
    folder.files["course.yaml"] = f"id: tides\ntitle: Tides\nmetadata: {{a: {old}, b: 2}}\n"
    stored = stored_by(folder.plan(None))
    folder.files["course.yaml"] = f"id: tides\ntitle: Tides\nmetadata: {{b: 2, a: {old}}}\n"
    assert folder.plan(stored).action is Action.UNCHANGED
    folder.files["course.yaml"] = f"id: tides\ntitle: Tides\nmetadata: {{a: {new}, b: 2}}\n"
    assert [change.field for change in folder.plan(stored).changes] == ["metadata"]


def test_a_renamed_title_keeps_id_and_slug(folder: Folder, stored: Stored) -> None:
    folder.files["01-first-steps/02-eelgrass.md"] = "---\ntitle: Seagrass\n---\nIt flowers under water.\n"
    plan = folder.plan(stored)
    [item] = plan.of("lesson", Action.UPDATE)
    assert item.changes == [Change("title", "Eelgrass", "Seagrass")]
    assert item.fields["slug"] == "eelgrass"


def test_a_lesson_that_is_renumbered_and_one_that_makes_room_change_only_their_order(
    folder: Folder, stored: Stored
) -> None:
    folder.files["01-first-steps/03-hello.md"] = folder.files.pop("01-first-steps/01-hello.md")
    plan = folder.plan(stored)
    assert {item.source_id: item.changes for item in plan.of("lesson", Action.UPDATE)} == {
        "first-steps/hello": [Change("order", 0, 1)],
        "first-steps/eelgrass": [Change("order", 1, 0)],
    }


def test_a_lesson_with_an_id_moves_to_another_module_and_stays_the_same(folder: Folder) -> None:
    folder.files["02-shore/01-salt.md"] = "---\nid: salt\n---\n# Salt\n"
    stored = stored_by(folder.plan(None))
    folder.files["01-first-steps/03-salt.md"] = folder.files.pop("02-shore/01-salt.md")
    folder.files["02-shore/02-sand.md"] = "# Sand\n"
    plan = folder.plan(stored)
    [moved] = plan.of("lesson", Action.UPDATE)
    assert [(change.field, change.new) for change in moved.changes] == [
        ("module_id", stored["modules"][0]["id"]),
        ("order", 2),
    ]
    assert moved.id == lesson_of(stored, "salt")["id"]
    assert [item.source_id for item in plan.of("lesson", Action.CREATE)] == ["shore/sand"]


def test_what_the_source_no_longer_has_is_missing_and_keeps_its_hash(folder: Folder, stored: Stored) -> None:
    del folder.files["02-shore/01-salt.md"]
    plan = folder.plan(stored)
    assert actions(plan) == {"shore": "missing", "shore/salt": "missing"}
    [salt] = plan.of("lesson", Action.MISSING)
    assert (salt.id, salt.title, salt.file, salt.edited) == (lesson_of(stored, "shore/salt")["id"], "Salt", "", False)
    assert plan.hashes == stored["loaded"]["lessons"]
    assert plan.action is Action.UNCHANGED


def test_lessons_and_modules_of_the_app_are_left_alone_and_their_slugs_avoided(folder: Folder, stored: Stored) -> None:
    module = {"id": "own-module", "title": "Ours", "parent_id": None, "order": 2, "source_id": None}
    stored["modules"].append(module)
    lesson = {"id": "own-lesson", "slug": "sand", "title": "Sand", "module_id": "own-module", "required": True}
    stored["lessons"].append(lesson)
    folder.files["02-shore/02-sand.md"] = "# Sand\n"
    plan = folder.plan(stored)
    assert actions(plan) == {"shore/sand": "create"}
    assert plan.of("lesson", Action.CREATE)[0].fields["slug"] == "sand-2"
    folder.files["02-shore/02-sand.md"] = "---\nslug: sand\n---\n"
    folder.plan(stored)
    assert places(folder.faults.errors) == [("02-shore/02-sand.md", 2, 7, "duplicate_slug")]


def test_a_slug_that_the_source_gives_goes_before_one_that_was_made(folder: Folder, stored: Stored) -> None:
    folder.files["02-shore/01-salt.md"] = "---\nslug: hello\n---\n# Salt\n\nHow plants bear it.\n"
    plan = folder.plan(stored)
    assert folder.faults.errors == []
    assert {item.source_id: item.changes for item in plan.of("lesson", Action.UPDATE)} == {
        "first-steps/hello": [Change("slug", "hello", "hello-2")],
        "shore/salt": [Change("slug", "salt", "hello")],
    }


def test_a_new_lesson_does_not_take_the_slug_of_one_that_comes_after_it(folder: Folder, stored: Stored) -> None:
    folder.files["01-first-steps/00-again.md"] = "# Salt\n"
    plan = folder.plan(stored)
    slugs = {item.source_id: item.fields["slug"] for item in plan.items if item.kind == "lesson"}
    assert (slugs["first-steps/again"], slugs["shore/salt"]) == ("salt-2", "salt")


def test_a_module_and_a_lesson_of_one_source_id_have_different_ids(folder: Folder) -> None:
    folder.files["02-shore/01-salt.md"] = "---\nid: shore\n---\n# Salt\n"
    plan = folder.plan(None)
    ids = [item.id for item in plan.items if item.source_id == "shore"]
    assert len(set(ids)) == len(ids) == 2


def test_what_was_edited_in_the_app_and_would_be_written_over_is_told(folder: Folder, stored: Stored) -> None:
    stored["title"] = "Our tides"
    stored["modules"][0]["title"] = "Steps"
    lesson_of(stored, "shore/salt")["content"] = "Mine."
    del stored["lessons"][0]
    plan = folder.plan(stored)
    assert plan.edited == ["the course itself", "module First steps", "lesson Hello", "lesson Salt"]
    assert actions(plan) == {"first-steps": "update", "first-steps/hello": "create", "shore/salt": "update"}


def test_an_edit_that_the_source_has_too_is_no_conflict(folder: Folder, stored: Stored) -> None:
    lesson_of(stored, "shore/salt")["content"] = "Better.\n"
    stored["title"] = "Better"
    folder.files["02-shore/01-salt.md"] = "# Salt\n\nBetter.\n"
    folder.files["course.yaml"] = "id: tides\ntitle: Better\ntags: [plants, sea]\n"
    plan = folder.plan(stored)
    # The fields agree; what is written is the memory of what was loaded.
    assert (plan.edited, actions(plan), plan.changes) == ([], {}, [])
    assert (plan.action, plan.is_remembered) == (Action.UPDATE, False)


def test_what_was_edited_while_it_was_missing_shows_when_it_comes_back(folder: Folder, stored: Stored) -> None:
    salt = folder.files.pop("02-shore/01-salt.md")
    stored["loaded"]["lessons"] = folder.plan(stored).hashes
    lesson_of(stored, "shore/salt")["content"] = "Mine."
    folder.files["02-shore/01-salt.md"] = salt
    assert folder.plan(stored).edited == ["lesson Salt"]


def test_a_course_that_was_never_loaded_has_no_edits(folder: Folder, stored: Stored) -> None:
    stored["loaded"] = None
    stored["title"] = "Other"
    plan = folder.plan(stored)
    assert (plan.action, plan.edited, plan.is_remembered) == (Action.UPDATE, [], False)


def test_hashes_tell_the_named_fields_apart_and_no_others(stored: Stored) -> None:
    lesson = stored["lessons"][0]
    assert hash_of(lesson, LESSON) == hash_of(lesson | {"rev": 9, "source_id": None}, LESSON)
    changed = [hash_of(lesson | {name: "other"}, LESSON) for name in LESSON]
    assert len({hash_of(lesson, LESSON), *changed}) == len(LESSON) + 1
    assert hash_of(stored, HEAD) == hash_of(stored | {"seq": 4, "status": "archived"}, HEAD)


def test_a_course_that_no_document_can_hold_is_a_fault_that_names_the_largest_lesson(folder: Folder) -> None:
    for number in range(7):
        folder.files[f"03-long/{number}-l{number}.md"] = "x" * (1_750_000 + number)
    folder.plan(None)
    assert places(folder.faults.errors) == []
    folder.files["03-long/8-last.md"] = "# The last straw\n\n" + "x" * 1_900_000
    folder.plan(None)
    assert places(folder.faults.errors) == [("03-long/8-last.md", 1, 1, "course_too_large")]
    assert "its largest lesson is The last straw" in folder.faults.errors[0].message


def test_what_stays_stored_counts_too(folder: Folder, stored: Stored) -> None:
    own = {"id": "own", "slug": "own", "title": "Own", "module_id": "m", "required": True, "content": "x" * 11_000_000}
    stored["lessons"].append(own)
    folder.files["02-shore/02-sand.md"] = "x" * 1_800_000
    folder.plan(stored)
    assert places(folder.faults.errors) == [("02-shore/02-sand.md", 1, 1, "course_too_large")]
