"""What happens between a plan and its application. Locks of the test's own transactions hold a load in between."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.loading.apply import ChangedSincePlan, apply
from lms.loading.faults import Faults
from lms.loading.load import OK, REFUSED, LoadReport
from lms.loading.plan import CoursePlan, plan_course
from lms.loading.source import SourceCourse
from lms.transactions import client
from tests.build import a_course
from tests.commands import Commands
from tests.loading.trees import TIDES, School, read_tree

SALT = "tides/02-shore/01-salt.md"


@asynccontextmanager
async def holding(change: Callable[[AsyncClientSession], Awaitable[Any]]) -> AsyncGenerator[None]:
    """A change in a transaction that is committed at the end: until then others read what was before, and wait."""
    async with client().start_session() as session, await session.start_transaction():
        await change(session)
        yield


async def load_meanwhile(
    school: School, commands: Commands, change: Callable[[AsyncClientSession], Awaitable[Any]], write: str
) -> LoadReport:
    """The load's plan is made before the change is visible, and applied after it."""
    async with asyncio.timeout(30):
        async with holding(change):
            commands.seen.clear()
            loading = asyncio.create_task(school.load("tides"))
            while write not in commands.writes:
                assert not loading.done()
                await asyncio.sleep(0.01)
        return await loading


async def test_a_lesson_edited_between_plan_and_application_is_not_written_over(
    school: School, commands: Commands
) -> None:
    await school.load("tides")
    [before] = await Course.find_all().to_list()
    school.files[SALT] = "# Salt\n\nOther.\n"
    school.files["tides/course.yaml"] = "id: tides\ntitle: Other\n"

    async def edit(session: AsyncClientSession) -> None:
        edited = {"$set": {"lessons.0.content": "Mine."}, "$inc": {"lessons.0.rev": 1, "outline_rev": 1}}
        await Course.get_pymongo_collection().update_one({"_id": before.id}, edited, session=session)

    report = await load_meanwhile(school, commands, edit, "update courses")
    refusal = report.courses[0].refusal
    assert (report.exit_code, report.courses[0].applied) == (REFUSED, False)
    assert refusal is not None
    assert refusal.code == "changed_since_plan"
    [after] = await Course.find_all().to_list()
    assert (after.title, after.lessons[0].content, after.outline_rev) == (before.title, "Mine.", 2)
    assert after.lessons[1:] == before.lessons[1:]
    assert after.loaded == before.loaded
    # The sequence of course changes has no gap either: what was taken for this load went back with it.
    counter = await Course.get_pymongo_collection().database["counters"].find_one({"_id": "courses"})
    assert counter is not None
    assert counter["seq"] == before.seq


async def test_a_slug_taken_between_plan_and_application_refuses_the_new_course(
    school: School, commands: Commands, ivy: User
) -> None:
    other = a_course(ivy.id)

    async def take(session: AsyncClientSession) -> None:
        await other.insert(session=session)

    report = await load_meanwhile(school, commands, take, "insert courses")
    refusal = report.courses[0].refusal
    assert report.exit_code == REFUSED
    assert refusal is not None
    assert refusal.code == "changed_since_plan"
    assert [one.id for one in await Course.find_all().to_list()] == [other.id]
    assert (await school.load("tides")).exit_code == OK


async def test_two_loads_of_one_new_course_at_once_make_one_course(school: School) -> None:
    school.files |= {f"{name}/course.yaml": f"title: {name}\n" for name in ("salt", "sand")}
    school.files |= {f"{name}/1-a/1-b.md": "x" for name in ("salt", "sand")}
    school.write()
    twin = School(school.root.parent / "twin", school.instructor_email)
    twin.files = school.files
    reports = await asyncio.gather(school.load(), twin.load())
    assert await Course.count() == 3
    for first, second in zip(*(report.courses for report in reports), strict=True):
        assert first.applied != second.applied
        loser = second if first.applied else first
        assert loser.refusal is None or loser.refusal.code == "changed_since_plan"
    assert [(await each.load()).exit_code for each in (school, twin)] == [OK, OK]
    assert await Course.count() == 3


@pytest.fixture
def source(tmp_path: Path) -> SourceCourse:
    found = read_tree(tmp_path / "tides", {**TIDES})
    assert found.course is not None
    return found.course


def plan_for(source: SourceCourse, stored: dict[str, Any] | None) -> CoursePlan:
    return plan_course(source, stored, "tides", Faults())


async def test_a_plan_of_a_new_course_is_good_for_once(source: SourceCourse, ivy: User) -> None:
    plan = plan_for(source, None)
    await apply(plan, instructor_id=ivy.id, publish=False)
    with pytest.raises(ChangedSincePlan):
        await apply(plan, instructor_id=ivy.id, publish=False)
    assert await Course.count() == 1


async def test_a_new_course_without_an_owner_is_a_mistake_of_the_caller(
    source: SourceCourse, commands: Commands
) -> None:
    with pytest.raises(ValueError, match="instructor"):
        await apply(plan_for(source, None), instructor_id=None, publish=False)
    assert commands.writes == []


@pytest.mark.parametrize(
    "change",
    [
        {"$inc": {"rev": 1}},
        {"$inc": {"outline_rev": 1}},
        # What raises no revision, such as publishing.
        {"$set": {"updated_at": datetime(2026, 11, 23, tzinfo=UTC)}},
    ],
)
async def test_a_course_that_is_not_as_the_plan_saw_it_is_not_written(
    source: SourceCourse, ivy: User, change: dict[str, dict[str, Any]]
) -> None:
    await apply(plan_for(source, None), instructor_id=ivy.id, publish=False)
    courses = Course.get_pymongo_collection()
    source.lessons[0].content = "Other."
    plan = plan_for(source, await courses.find_one({}))
    await courses.update_one({}, change)
    before = await courses.find_one({})
    with pytest.raises(ChangedSincePlan):
        await apply(plan, instructor_id=None, publish=False)
    assert await courses.find_one({}) == before


async def test_a_course_that_was_deleted_since_the_plan_does_not_come_back(source: SourceCourse, ivy: User) -> None:
    await apply(plan_for(source, None), instructor_id=ivy.id, publish=False)
    courses = Course.get_pymongo_collection()
    source.lessons[0].content = "Other."
    plan = plan_for(source, await courses.find_one({}))
    await courses.delete_one({})
    with pytest.raises(ChangedSincePlan):
        await apply(plan, instructor_id=None, publish=False)
    assert await Course.count() == 0


async def test_a_slug_that_was_taken_since_the_plan_stops_the_whole_update(source: SourceCourse, ivy: User) -> None:
    await apply(plan_for(source, None), instructor_id=ivy.id, publish=False)
    courses = Course.get_pymongo_collection()
    before = await courses.find_one({})
    source.lessons[0].content = "Other."
    plan = plan_course(source, before, "taken", Faults())
    await a_course(ivy.id, slug="taken").insert()
    with pytest.raises(ChangedSincePlan):
        await apply(plan, instructor_id=None, publish=False)
    assert await courses.find_one({"source_id": "tides"}) == before
