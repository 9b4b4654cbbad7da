"""`lms users erase`."""

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from tests.cli.conftest import Command, plain
from tests.erasure.left import Database


async def test_a_person_is_erased(lms: Command, database: Database, sam: User) -> None:
    result = await lms("users", "erase", "SAM@school.example", "--yes")
    assert (result.exit_code, result.stdout) == (
        0,
        "SAM@school.example is erased; the workers remove what is left within minutes.\n",
    )
    assert await database["users"].count_documents({}) == 0
    event = await database["outbox"].find_one({"kind": "audit"})
    assert event is not None
    assert (event["data"]["act"], event["data"]["actor"]) == ("user.deleted", "operator")
    again = await lms("users", "erase", sam.email, "--yes")
    assert again.exit_code == 1
    assert "There is no account for sam@school.example." in plain(again.stderr)


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("", 1)])
async def test_it_asks_first(lms: Command, database: Database, sam: User, answer: str, left: int) -> None:
    result = await lms("users", "erase", sam.email, stdin=answer)
    assert "There is no way back" in result.stdout
    assert result.exit_code == left
    assert await database["users"].count_documents({}) == left


async def test_who_owns_courses_or_is_the_last_administrator_stays(
    lms: Command, database: Database, ivy: User, course: Course, ada: User
) -> None:
    result = await lms("users", "erase", ivy.email, "--yes")
    assert result.exit_code == 1
    assert f"There are 1: {course.id}" in plain(result.stderr)
    result = await lms("users", "erase", ada.email, "--yes")
    assert result.exit_code == 1
    assert "This is the last administrator" in plain(result.stderr)
    assert await database["users"].count_documents({}) == 2
