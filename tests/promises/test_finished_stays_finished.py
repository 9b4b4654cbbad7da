"""Promise 4: whatever the course becomes, nobody is reopened, and who is enrolled keeps reading."""

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from tests.conftest import ClientFor


@pytest.mark.parametrize("change", ["a lesson is added", "unpublish", "archive"])
async def test_what_the_author_does_reopens_nobody(
    client_for: ClientFor, sam: User, ivy: User, course: Course, change: str
) -> None:
    student, author = await client_for(sam), await client_for(ivy)
    enrollment = (await student.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    for lesson in course.lessons:
        await student.post(f"/enrollments/{enrollment}/lessons/{lesson.id}/complete")
    finished = (await student.get(f"/enrollments/{enrollment}")).json()
    assert (finished["status"], finished["percent"]) == ("completed", 100)
    if change == "a lesson is added":
        added = await author.post(f"/courses/{course.id}/lessons", json={"title": "Late", "required": True})
        assert added.status_code == 201
        late = added.json()["id"]
        assert (await student.get(f"/courses/{course.id}/lessons/{late}")).status_code == 200
        await student.put(f"/enrollments/{enrollment}/lessons/{late}/progress", json={"position_seconds": 5})
    else:
        assert (await author.post(f"/courses/{course.id}/{change}")).status_code == 200
        read = await student.get(f"/courses/{course.id}/lessons/{course.lessons[1].id}")
        assert (read.status_code, "content" in read.json()) == (200, True)
    after = (await student.get(f"/enrollments/{enrollment}")).json()
    assert (after["status"], after["percent"], after["completed_at"]) == ("completed", 100, finished["completed_at"])
