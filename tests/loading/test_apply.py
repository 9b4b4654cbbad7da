from typing import Any

import httpx
import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus, Lesson
from lms.loading.load import OK, REFUSED
from tests.conftest import ClientFor
from tests.loading.trees import School

HELLO, EELGRASS, SALT = (
    "tides/01-first-steps/01-hello.md",
    "tides/01-first-steps/02-eelgrass.md",
    "tides/02-shore/01-salt.md",
)


@pytest.fixture
async def loaded(school: School) -> Course:
    """TIDES, published."""
    assert (await school.load("tides", publish=True)).exit_code == OK
    return await stored()


async def stored() -> Course:
    [course] = await Course.find_all().to_list()
    return course


def lesson_of(course: Course, source_id: str) -> Lesson:
    return next(lesson for lesson in course.lessons if lesson.source_id == source_id)


def in_place(course: Course) -> list[tuple[str | None, str, int]]:
    """Every lesson with its module and order, as it is read."""
    titles = {module.id: module.title for module in course.modules}
    return sorted((titles[one.module_id], one.title, one.order) for one in course.lessons)


async def test_a_changed_lesson_is_updated_and_nothing_else(school: School, loaded: Course) -> None:
    school.files[SALT] = "# Salt\n\nThey sweat it.\n"
    report = await school.load("tides")
    assert (report.exit_code, report.courses[0].applied) == (OK, True)
    after = await stored()
    assert after.lessons[:2] == loaded.lessons[:2]
    assert after.lessons[2] == loaded.lessons[2].model_copy(update={"content": "They sweat it.\n", "rev": 2})
    assert (after.rev, after.outline_rev) == (1, 2)
    assert after.seq > loaded.seq
    assert after.updated_at > loaded.updated_at
    untouched = {"lessons", "outline_rev", "seq", "updated_at", "loaded"}
    assert after.model_dump(exclude=untouched) == loaded.model_dump(exclude=untouched)
    assert not (await school.load("tides")).courses[0].applied


async def test_a_changed_head_leaves_the_outline_alone(school: School, loaded: Course) -> None:
    school.files["tides/course.yaml"] = "id: tides\ntitle: Tidal plants\ndescription: All of them.\n"
    await school.load("tides")
    after = await stored()
    assert (after.title, after.description, after.tags) == ("Tidal plants", "All of them.", [])
    assert (after.slug, after.status) == (loaded.slug, CourseStatus.PUBLISHED)
    assert (after.rev, after.outline_rev) == (2, 1)
    assert (after.modules, after.lessons) == (loaded.modules, loaded.lessons)


async def test_titles_order_and_modules_change_in_place(school: School) -> None:
    school.files[EELGRASS] = "---\nid: eelgrass\n---\n# Eelgrass\n"
    await school.load("tides")
    before = await stored()
    school.files["tides/01-first-steps/module.yaml"] = "title: Start\n"
    school.files["tides/02-shore/01-kelp.md"] = "# Kelp\n"
    school.files["tides/02-shore/02-salt.md"] = "---\ntitle: Salt water\n---\n# Salt water\n\nHow plants bear it.\n"
    school.files["tides/02-shore/03-eelgrass.md"] = school.files.pop(EELGRASS)
    del school.files[SALT]
    await school.load("tides")
    after = await stored()
    assert in_place(after) == [
        ("Shore", "Eelgrass", 2),
        ("Shore", "Kelp", 0),
        ("Shore", "Salt water", 1),
        ("Start", "Hello", 0),
    ]
    assert [lesson.id for lesson in after.lessons[:3]] == [lesson.id for lesson in before.lessons]
    assert [lesson.slug for lesson in after.lessons] == ["hello", "eelgrass", "salt", "kelp"]
    assert [lesson.rev for lesson in after.lessons] == [1, 2, 2, 1]
    assert (after.rev, after.outline_rev) == (1, 2)


async def test_a_removed_lesson_is_listed_and_stays(school: School, loaded: Course) -> None:
    del school.files[EELGRASS]
    school.files[HELLO] = "# Hello\n\nShort.\n"
    report = await school.load("tides")
    plan = report.courses[0].plan
    assert plan is not None
    assert [(item.action.value, item.title) for item in plan.items if item.kind == "lesson"] == [
        ("update", "Hello"),
        ("unchanged", "Salt"),
        ("missing", "Eelgrass"),
    ]
    assert lesson_of(await stored(), "first-steps/eelgrass") == loaded.lessons[1]


async def test_a_new_module_and_its_lessons_join_a_stored_course(school: School, loaded: Course) -> None:
    school.files |= {"tides/03-deep/01-kelp.md": "# Kelp\n", "tides/03-deep/02-dark/01-vent.md": "# Vent\n"}
    await school.load("tides")
    after = await stored()
    deep, dark = after.modules[2:]
    assert (deep.title, deep.order, dark.title, dark.parent_id, dark.order) == ("Deep", 2, "Dark", deep.id, 1)
    assert [(lesson.title, lesson.module_id, lesson.rev) for lesson in after.lessons[3:]] == [
        ("Kelp", deep.id, 1),
        ("Vent", dark.id, 1),
    ]
    assert after.lessons[:3] == loaded.lessons
    assert (after.rev, after.outline_rev) == (1, 2)
    # As stored, since the document's class would make up for a revision that is not there.
    raw = await Course.get_pymongo_collection().find_one({})
    assert raw is not None
    assert [lesson["rev"] for lesson in raw["lessons"]] == [1] * 5


async def test_more_lessons_than_one_command_takes_filters_are_all_updated(school: School) -> None:
    names = [f"tides/03-many/{number}-l{number}.md" for number in range(230)]
    school.files |= dict.fromkeys(names, "First.\n")
    await school.load("tides")
    school.files |= dict.fromkeys(names, "Second.\n")
    assert (await school.load("tides")).exit_code == OK
    many = (await stored()).lessons[3:]
    assert {(lesson.content, lesson.rev) for lesson in many} == {("Second.\n", 2)}
    assert [lesson.title for lesson in many] == [f"L{number}" for number in range(230)]


class Learner:
    """Sam in the loaded course."""

    def __init__(self, client: httpx.AsyncClient, enrollment: dict[str, Any]) -> None:
        self.client = client
        self.address = f"/enrollments/{enrollment['id']}"

    async def read(self) -> dict[str, Any]:
        answer = await self.client.get(self.address)
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
async def learner(client_for: ClientFor, sam: User, loaded: Course) -> Learner:
    """Has finished the first lesson and begun the second."""
    client = await client_for(sam)
    created = await client.post("/enrollments", json={"course_id": str(loaded.id)})
    learner = Learner(client, created.json())
    first, second, _ = loaded.lessons
    done = await client.post(f"{learner.address}/lessons/{first.id}/complete")
    begun = await client.put(
        f"{learner.address}/lessons/{second.id}/progress", json={"position_seconds": 42, "watched": [[0, 42]]}
    )
    assert (created.status_code, done.status_code, begun.status_code) == (201, 200, 200)
    return learner


async def test_the_progress_of_students_survives_every_change_of_the_source(school: School, learner: Learner) -> None:
    before = await learner.read()
    assert before["progress"]
    school.files["tides/course.yaml"] = "id: tides\ntitle: Tidal plants\n"
    school.files["tides/01-first-steps/05-hello.md"] = "# Hi\n\nAll new.\n"
    del school.files[HELLO]
    school.files["tides/02-shore/02-kelp.md"] = "# Kelp\n"
    del school.files[SALT]
    report = await school.load("tides")
    assert report.courses[0].applied
    after = await learner.read()
    assert after["course"]["title"] == "Tidal plants"
    assert after | {"course": None} == before | {"course": None}


async def test_a_student_finishes_after_a_load_what_was_begun_before(
    school: School, learner: Learner, loaded: Course
) -> None:
    school.files[SALT] = "# Salt\n\nOther.\n"
    await school.load("tides")
    for lesson in loaded.lessons[1:]:
        answer = await learner.client.post(f"{learner.address}/lessons/{lesson.id}/complete")
        assert answer.status_code == 200
    assert (await learner.read())["status"] == "completed"


async def test_what_was_edited_in_the_app_is_refused_and_nothing_is_written(
    school: School, loaded: Course, client_for: ClientFor, ivy: User
) -> None:
    client = await client_for(ivy)
    salt = lesson_of(loaded, "shore/salt")
    edit = await client.patch(f"/courses/{loaded.id}/lessons/{salt.id}", json={"content": "Mine."})
    assert edit.status_code == 200
    edited = await stored()
    school.files[HELLO] = "# Hello\n\nOther.\n"
    report = await school.load("tides")
    refusal = report.courses[0].refusal
    assert (report.exit_code, report.courses[0].applied) == (REFUSED, False)
    assert refusal is not None
    assert (refusal.code, refusal.items) == ("edited_in_app", ["lesson Salt"])
    assert await stored() == edited
    assert (await school.load("tides", dry_run=True)).exit_code == REFUSED


async def test_edits_are_written_over_where_that_is_asked_for(
    school: School, loaded: Course, client_for: ClientFor, ivy: User
) -> None:
    client = await client_for(ivy)
    hello, _, salt = loaded.lessons
    assert (await client.patch(f"/courses/{loaded.id}", json={"title": "Mine"})).status_code == 200
    deleted = {"$pull": {"lessons": {"id": hello.id}}, "$inc": {"outline_rev": 1}}
    await Course.get_pymongo_collection().update_one({"_id": loaded.id}, deleted)
    await client.patch(f"/courses/{loaded.id}/lessons/{salt.id}", json={"content": "Mine."})
    report = await school.load("tides")
    assert report.courses[0].refusal is not None
    assert report.courses[0].refusal.items == ["the course itself", "lesson Hello", "lesson Salt"]
    report = await school.load("tides", overwrite_edits=True)
    assert (report.exit_code, report.courses[0].applied) == (OK, True)
    after = await stored()
    assert after.title == loaded.title
    assert {one.id: one.content for one in after.lessons} == {one.id: one.content for one in loaded.lessons}
    assert (await school.load("tides")).exit_code == OK


async def test_an_edit_that_the_source_takes_over_is_remembered_without_a_new_revision(
    school: School, loaded: Course, client_for: ClientFor, ivy: User
) -> None:
    client = await client_for(ivy)
    salt = lesson_of(loaded, "shore/salt")
    await client.patch(f"/courses/{loaded.id}/lessons/{salt.id}", json={"content": "Better.\n"})
    before = await stored()
    school.files[SALT] = "# Salt\n\nBetter.\n"
    report = await school.load("tides")
    assert (report.exit_code, report.courses[0].applied) == (OK, True)
    after = await stored()
    assert after.model_dump(exclude={"loaded"}) == before.model_dump(exclude={"loaded"})
    assert after.loaded != before.loaded
    assert not (await school.load("tides")).courses[0].applied


async def test_lessons_written_in_the_app_stay_through_every_load(
    school: School, loaded: Course, client_for: ClientFor, ivy: User
) -> None:
    client = await client_for(ivy)
    own = {"title": "Ours", "module_id": loaded.modules[0].id, "content": "Ours."}
    created = await client.post(f"/courses/{loaded.id}/lessons", json=own)
    assert created.status_code == 201
    school.files[SALT] = "# Salt\n\nOther.\n"
    report = await school.load("tides")
    assert report.exit_code == OK
    [ours] = [lesson for lesson in (await stored()).lessons if lesson.source_id is None]
    assert (ours.id, ours.content, ours.rev) == (created.json()["id"], "Ours.", 1)
