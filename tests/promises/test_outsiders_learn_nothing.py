"""Promise 6: what may not be known to exist looks exactly like what does not.

That sign-up and sign-in do the same work for known and unknown addresses is counted in `tests/accounts`.
"""

from uuid import uuid4

import httpx
import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from tests.build import a_course
from tests.certificates.issued import a_certificate
from tests.conftest import ClientFor


def told(answer: httpx.Response) -> tuple[int, dict[str, object]]:
    body = answer.json()
    assert body.pop("request_id")
    return answer.status_code, body


@pytest.mark.parametrize("who", ["visitor", "another student", "another instructor"])
async def test_the_hidden_and_the_absent_are_told_alike(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, stella: User, ivy: User, oscar: User, who: str
) -> None:
    draft = await a_course(ivy.id, "A draft", status=CourseStatus.DRAFT).insert()
    course: Course = await a_course(ivy.id).insert()
    certificate = await a_certificate(sam, course)
    people = {"another student": stella, "another instructor": oscar}
    outsider = client if who == "visitor" else await client_for(people[who])
    lesson = draft.lessons[0].id
    hidden_and_absent = [
        (f"/courses/{draft.id}", f"/courses/{uuid4()}"),
        (f"/courses/slug/{draft.slug}", "/courses/slug/nothing-of-that-name"),
        (f"/courses/{draft.id}/lessons", f"/courses/{uuid4()}/lessons"),
        (f"/courses/{draft.id}/lessons/{lesson}", f"/courses/{uuid4()}/lessons/{lesson}"),
        (f"/enrollments/{certificate.id}", f"/enrollments/{uuid4()}"),
        (f"/certificates/{certificate.id}", f"/certificates/{uuid4()}"),
        (f"/certificates/{certificate.id}/pdf", f"/certificates/{uuid4()}/pdf"),
    ]
    for hidden, absent in hidden_and_absent:
        answer = told(await outsider.get(hidden))
        assert answer == told(await outsider.get(absent)), hidden
        assert answer[0] in {401, 404}
    listed = (await outsider.get("/courses")).json()["items"]
    assert [one["id"] for one in listed] == [str(course.id)]
