"""Promise 5: a load tells every fault and writes nothing then; a second one writes nothing; progress survives."""

from pathlib import Path

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.loading.load import FAULTY, OK
from tests.commands import Commands
from tests.conftest import ClientFor
from tests.loading.trees import School, places


async def test_all_or_nothing_and_everything_is_told(
    tmp_path: Path, ivy: User, sam: User, client_for: ClientFor, commands: Commands
) -> None:
    school = School(tmp_path, ivy.email)
    good = dict(school.files)
    lessons = sorted(name for name in good if name.startswith("tides/") and name.endswith(".md"))
    for name in lessons[:2]:
        school.files[name] = "---\nduration_minutes: soon\n---\nText\n"
    faulty = await school.load("tides", publish=True)
    assert faulty.exit_code == FAULTY
    told = {file for file, *_ in places(faulty.courses[0].errors)}
    assert told == {name.removeprefix("tides/") for name in lessons[:2]}
    assert await Course.count() == 0

    school.files = good
    assert (await school.load("tides", publish=True)).exit_code == OK
    [course] = await Course.find_all().to_list()
    student = await client_for(sam)
    enrollment = (await student.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    done = await student.post(f"/enrollments/{enrollment}/lessons/{course.lessons[0].id}/complete")
    commands.seen.clear()
    assert (await school.load("tides", publish=True)).exit_code == OK
    assert commands.writes == []

    school.files[lessons[0]] = f"{good[lessons[0]]}\nOne more line.\n"
    assert (await school.load("tides")).exit_code == OK
    after = (await student.get(f"/enrollments/{enrollment}")).json()
    assert after["percent"] == done.json()["percent"] > 0
    assert after["progress"][course.lessons[0].id]["state"] == "completed"
