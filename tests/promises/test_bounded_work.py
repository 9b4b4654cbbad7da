"""Promise 9: pages and bodies have a maximum, and a screen costs at most three database calls at any size."""

from collections.abc import AsyncGenerator

import httpx
import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment
from tests.build import a_course
from tests.commands import Commands
from tests.conftest import ClientFor


@pytest.mark.parametrize("size", [1, 100])
async def test_a_screen_costs_at_most_three_calls(
    client_for: ClientFor, sam: User, ivy: User, commands: Commands, size: int
) -> None:
    courses = [await a_course(ivy.id, f"Course {number}").insert() for number in range(size)]
    for course in courses:
        await Enrollment(student_id=sam.id, course_id=course.id).insert()
    client = await client_for(sam)
    await client.get("/users/me")
    first: Course = courses[0]
    screens: list[str] = ["/courses?page_size=100", "/courses?cursor=&page_size=100", "/enrollments?page_size=100"]
    one = f"/courses/{first.id}"
    screens += [one, f"{one}/lessons", f"{one}/lessons/{first.lessons[0].id}"]
    for screen in screens:
        commands.seen.clear()
        answer = await client.get(screen)
        assert answer.status_code == 200
        assert len(commands.names) <= 3, (screen, commands.names)


@pytest.mark.parametrize("path", ["/courses", "/enrollments", "/certificates"])
async def test_no_list_gives_more_than_a_hundred(client_for: ClientFor, sam: User, path: str) -> None:
    answer = await (await client_for(sam)).get(path, params={"page_size": 101})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "page_size")


async def test_no_body_is_read_beyond_its_limit(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(10_000):
            yield b"x" * 100_000
        pytest.fail("a gigabyte was read")

    answer = await client.post("/auth/login", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
