from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role
from lms.database import bind
from lms.demo.seed import COURSES, PASSWORD, PEOPLE, seed_demo
from lms.passwords import Passwords
from lms.settings import Settings
from tests.commands import Commands
from tests.conftest import settings_for

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def seeded(database: Database, settings: Settings) -> AsyncGenerator[Database]:
    """Seeding opens a database of its own; the session's one is open again afterwards."""
    await seed_demo(settings)
    yield database
    await bind(database)


async def people(database: Database) -> dict[str, dict[str, Any]]:
    return {one["email"]: one async for one in database["users"].find()}


async def test_there_is_somebody_of_every_role_who_can_sign_in(seeded: Database, settings: Settings) -> None:
    stored = await people(seeded)
    assert {one["role"] for one in stored.values()} == set(Role)
    assert {(one.email, one.full_name, one.role) for one in PEOPLE} == {
        (email, one["full_name"], one["role"]) for email, one in stored.items()
    }
    passwords = Passwords(settings)
    for one in stored.values():
        assert await passwords.check(PASSWORD, one["password_hash"])
        assert one["verified"]
    passwords.close()


async def test_every_demo_course_is_published_and_the_instructors(seeded: Database) -> None:
    courses = [one async for one in seeded["courses"].find()]
    assert len(courses) == len([path for path in COURSES.iterdir() if path.is_dir()])
    assert {one["status"] for one in courses} == {"published"}
    instructor = (await people(seeded))["ivy@school.example"]
    assert {one["instructor_id"] for one in courses} == {instructor["_id"]}
    assert {one["source"] for one in courses} == {"demo"}
    assert all(one["lessons"] for one in courses)


async def test_a_second_start_changes_nothing(seeded: Database, settings: Settings, commands: Commands) -> None:
    before = [one async for one in seeded["courses"].find()]
    commands.seen.clear()
    assert await seed_demo(settings) == PEOPLE
    assert commands.writes == []
    assert [one async for one in seeded["courses"].find()] == before


async def test_what_is_missing_is_made_and_what_is_there_is_left_alone(seeded: Database, settings: Settings) -> None:
    await seeded["users"].delete_one({"email": "ada@school.example"})
    await seeded["users"].update_one({"email": "sam@school.example"}, {"$set": {"password_hash": "changed"}})
    await seeded["courses"].delete_many({})
    await seed_demo(settings)
    stored = await people(seeded)
    assert len(stored) == len(PEOPLE)
    assert stored["sam@school.example"]["password_hash"] == "changed"
    assert await seeded["courses"].count_documents({}) > 0


async def test_production_gets_no_known_password(
    database: Database, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    production = settings_for(
        mongodb_url, redis_url, LMS_ENVIRONMENT="production", LMS_PUBLIC_URL="https://lms.school.example"
    )
    with pytest.raises(ValueError, match="development only"):
        await seed_demo(production)
    assert await database["users"].count_documents({}) == 0
