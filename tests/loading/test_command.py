"""`lms load` as it is typed: a process of its own on the real database."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from lms.settings import Settings
from tests.loading.trees import School

SALT = "tides/02-shore/01-salt.md"
NO_DATABASE = "mongodb://127.0.0.1:9/?directConnection=true"


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "LMS_MONGODB_URL": settings.mongodb_url,
            "LMS_MONGODB_DATABASE": settings.mongodb_database,
        }

    async def run(self, *arguments: str, **environ: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "lms",
            "load",
            *arguments,
            cwd=self.folder,
            env=self.environ | environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
def command(settings: Settings, school: School) -> Command:
    return Command(settings, school.write())


async def test_a_load_says_what_it_wrote_and_ends_with_0(command: Command, ivy: User) -> None:
    ended = await command.run("tides", "--instructor", ivy.email, "--publish", "--source", "sea")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        "tides: created: 2 modules created, 3 lessons created\n1 course, 1 written, 0 faults, 0 notes.\n"
    )
    [course] = await Course.find_all().to_list()
    assert (course.instructor_id, course.source, course.status) == (ivy.id, "sea", CourseStatus.PUBLISHED)
    again = await command.run("tides", "--source", "sea")
    assert (again.code, again.out.splitlines()[0]) == (0, "tides: unchanged")


async def test_the_folder_that_is_the_working_directory_has_its_own_name(command: Command, ivy: User) -> None:
    command.folder /= "tides"
    ended = await command.run(".", "--instructor", ivy.email, "--dry-run")
    assert (ended.code, ended.out.splitlines()[0]) == (
        0,
        "tides: would be created: 2 modules created, 3 lessons created",
    )
    assert await Course.count() == 0


async def test_faults_end_with_1(command: Command, school: School) -> None:
    school.files[SALT] = "---\ntitel: Salt\n---\n"
    school.write()
    ended = await command.run("tides")
    assert (ended.code, ended.err) == (1, "")
    assert "  02-shore/01-salt.md:2:1: There is no such field. (Did you mean title?)\n" in ended.out


async def test_a_path_that_does_not_exist_is_a_fault_like_any_other(command: Command) -> None:
    ended = await command.run("tydes", "--format", "json")
    assert (ended.code, ended.err) == (1, "")
    [course] = ended.json()["courses"]
    assert [(error["file"], error["code"]) for error in course["errors"]] == [("tydes", "no_folder")]


async def test_a_refusal_ends_with_2_until_edits_may_be_written_over(
    command: Command, school: School, ivy: User
) -> None:
    await command.run("tides", "--instructor", ivy.email)
    [course] = await Course.find_all().to_list()
    await Course.get_pymongo_collection().update_one({}, {"$set": {"lessons.2.content": "Mine."}})
    refused = await command.run("tides", "--format", "json")
    assert (refused.code, refused.json()["exit_code"]) == (2, 2)
    assert refused.json()["courses"][0]["refusal"]["code"] == "edited_in_app"
    assert (await command.run("tides", "--overwrite-edits")).code == 0
    [after] = await Course.find_all().to_list()
    assert after.lessons[2].content == course.lessons[2].content


async def test_without_somebody_to_own_it_a_new_course_is_refused(command: Command) -> None:
    ended = await command.run("tides")
    assert ended.code == 2
    assert ended.out.splitlines()[:2] == [
        "tides: create refused",
        "  refused: There is no administrator; say with --instructor who owns new courses.",
    ]


async def test_data_for_programs_is_all_that_is_printed(command: Command, ivy: User) -> None:
    ended = await command.run("tides", "--instructor", ivy.email, "--format", "json", "--dry-run")
    data = ended.json()
    assert (ended.code, ended.err, data["dry_run"], data["exit_code"]) == (0, "", True, 0)
    assert [item["action"] for item in data["courses"][0]["plan"]["items"]] == ["create"] * 5


async def test_without_a_database_one_line_says_so(command: Command) -> None:
    ended = await command.run("tides", LMS_MONGODB_URL=NO_DATABASE, LMS_MONGODB_TIMEOUT_SECONDS="1")
    assert ended.code == 1
    assert "LMS_MONGODB_URL" in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


async def test_faults_are_told_without_a_database_too(command: Command, school: School) -> None:
    school.files["tides/course.yaml"] = "titel: Tides\n"
    school.write()
    ended = await command.run("tides", LMS_MONGODB_URL=NO_DATABASE)
    assert (ended.code, ended.err) == (1, "")
    assert "course.yaml:1:1" in ended.out


@pytest.mark.parametrize("arguments", [[], ["tides", "--format", "xml"], ["tides", "--prune"]])
async def test_what_is_misspelt_ends_with_2_and_touches_nothing(command: Command, arguments: list[str]) -> None:
    ended = await command.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert await Course.count() == 0


async def test_file_names_and_titles_cannot_command_the_terminal(command: Command, school: School, ivy: User) -> None:
    school.files |= {os.fsdecode(b"tides/03-\x1b[2J\xff/01-a.md"): "", "tides/04-\x1b[31m/01-b.md": "---\nx: 1\n---\n"}
    school.write()
    text = await command.run("tides", "--instructor", ivy.email)
    assert (text.code, "\x1b" in text.out + text.err) == (1, False)
    assert "03-\\x1b[2J\\udcff:1:1: The name of this file is not UTF-8." in text.out
    assert "04-\\x1b[31m/01-b.md:2:1: There is no such field." in text.out
    data = await command.run("tides", "--instructor", ivy.email, "--format", "json")
    assert [error["file"] for error in data.json()["courses"][0]["errors"]] == [
        "03-\x1b[2J\\udcff",
        "04-\x1b[31m/01-b.md",
    ]
    assert "\x1b" not in data.out
