"""`lms` against a server elsewhere: a real API process, asked with a real key."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, User
from lms.cli import cli, courses
from lms.courses.documents import Course
from lms.embedded import free_port
from tests.build import a_course, a_user
from tests.cli.conftest import Command, plain
from tests.promises.system import Process, System, a_system, store

Database = AsyncDatabase[dict[str, Any]]
assert {courses.courses.name, courses.whoami.name} <= cli.commands.keys()
LOCAL = "http://127.0.0.1:9"


@dataclass
class Elsewhere:
    """Another installation, with a key to it."""

    system: System
    database: Database
    api: Process
    ivy: User
    course: Course
    key: str

    @property
    def environ(self) -> dict[str, str]:
        return {"LMS_API_URL": self.api.health, "LMS_API_KEY": self.key}

    async def make_key(self, *scopes: str) -> str:
        token = await self.system.sign_in(self.database, self.ivy)
        async with httpx.AsyncClient() as client:
            made = await client.post(
                f"{self.api.health}/api/v1/auth/api-keys",
                json={"name": "nightly load", "scopes": list(scopes)},
                headers=token,
            )
        assert made.status_code == 201, made.text
        return made.json()["key"]

    async def status(self) -> str:
        raw = await self.database["courses"].find_one({"_id": self.course.id})
        assert raw is not None
        return raw["status"]


@pytest.fixture(scope="module")
async def elsewhere(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Elsewhere]:
    async with a_system(tmp_path_factory.mktemp("elsewhere"), mongodb_url, redis_url) as (system, database):
        ivy = a_user("Ivy", Role.INSTRUCTOR, verified=True)
        course = a_course(ivy.id)
        await store(database, ivy, course)
        there = Elsewhere(system, database, await system.start("serve"), ivy, course, "")
        there.key = await there.make_key("courses:read", "courses:write", "profile:read")
        yield there


@pytest.fixture
async def remote(lms: Command, database: Database, elsewhere: Elsewhere) -> Command:
    """The command line as a content team has it: the database here is not theirs, and stays empty."""

    async def run(*arguments: str, stdin: str = "", **more: str) -> Any:
        result = await lms(*arguments, stdin=stdin, **(elsewhere.environ | more))
        assert elsewhere.key not in result.output
        return result

    return run


async def test_it_tells_who_the_key_acts_as(remote: Command, elsewhere: Elsewhere) -> None:
    result = await remote("whoami")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Ivy Okafor <ivy@school.example>, instructor, at {elsewhere.api.health}\n"
    data = json.loads((await remote("whoami", "--json")).stdout)
    assert data == {
        "id": str(elsewhere.ivy.id),
        "email": "ivy@school.example",
        "full_name": "Ivy Okafor",
        "role": "instructor",
    }


async def test_courses_are_listed_published_and_hidden_there(
    remote: Command, elsewhere: Elsewhere, database: Database
) -> None:
    assert (await remote("courses", "unpublish", elsewhere.course.slug)).exit_code == 0
    assert await elsewhere.status() == "draft"
    result = await remote("courses", "list")
    assert result.stdout.split() == ["draft", elsewhere.course.slug, *elsewhere.course.title.split()]
    assert (await remote("courses", "list", "--status", "published", "--json")).stdout == "[]\n"
    for name in (elsewhere.course.slug, str(elsewhere.course.id)):
        for act, status in (("publish", "published"), ("archive", "archived"), ("publish", "published")):
            changed = await remote("courses", act, name)
            assert (changed.exit_code, changed.stdout) == (0, f"{elsewhere.course.slug} is now {status}.\n")
            assert await elsewhere.status() == status
    data = json.loads((await remote("courses", "list", "--json")).stdout)
    assert [(one["id"], one["status"]) for one in data] == [(str(elsewhere.course.id), "published")]
    # Nothing was done here.
    assert await database["courses"].count_documents({}) == 0


async def test_a_list_goes_on_to_its_end(remote: Command, elsewhere: Elsewhere) -> None:
    more = [a_course(elsewhere.ivy.id, f"Course {number}", lessons=0, status="archived") for number in range(103)]
    await store(elsewhere.database, *more)
    listed = json.loads((await remote("courses", "list", "--status", "archived", "--json")).stdout)
    assert {one["slug"] for one in listed} == {one.slug for one in more}
    await elsewhere.database["courses"].delete_many({"status": "archived"})


async def test_what_the_server_refuses_is_told_with_its_reason(remote: Command, elsewhere: Elsewhere) -> None:
    empty = a_course(elsewhere.ivy.id, "Nothing in it", lessons=0, status="draft", modules=[])
    await store(elsewhere.database, empty)
    refused = await remote("courses", "publish", empty.slug)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "The course cannot be published yet" in plain(refused.stderr)
    assert re.search(r"Missing: .+\(request [0-9a-f]{32}\)", plain(refused.stderr))
    unknown = await remote("courses", "publish", "no-such-course")
    assert (unknown.exit_code, "There is no such course." in plain(unknown.stderr)) == (1, True)
    await elsewhere.database["courses"].delete_one({"_id": empty.id})


async def test_a_key_that_may_not_is_told_which_scope_it_lacks(remote: Command, elsewhere: Elsewhere) -> None:
    reader = await elsewhere.make_key("courses:read")
    refused = await remote("courses", "archive", elsewhere.course.slug, LMS_API_KEY=reader)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "has not the scope courses:write" in plain(refused.stderr)
    assert await elsewhere.status() == "published"
    refused = await remote("whoami", LMS_API_KEY=reader)
    assert "profile:read" in plain(refused.stderr)


async def test_a_revoked_key_is_told_from_a_mistyped_one(remote: Command, elsewhere: Elsewhere) -> None:
    key = await elsewhere.make_key("profile:read")
    await elsewhere.database["api_keys"].delete_one({"name": "nightly load", "scopes": ["profile:read"]})
    revoked = await remote("whoami", LMS_API_KEY=key)
    assert (revoked.exit_code, "is unknown, has expired or was revoked" in plain(revoked.stderr)) == (1, True)
    mistyped = await remote("whoami", LMS_API_KEY=key[:-1])
    assert (mistyped.exit_code, mistyped.stdout) == (2, "")
    assert mistyped.stderr == "LMS_API_KEY: was cut, or there is a typing mistake in it\n"


async def test_a_key_may_stand_in_a_file(remote: Command, elsewhere: Elsewhere, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{elsewhere.key}\n")
    assert (await remote("whoami", LMS_API_KEY="", LMS_API_KEY_FILE=str(path))).exit_code == 0
    missing = await remote("whoami", LMS_API_KEY="", LMS_API_KEY_FILE=str(tmp_path / "none"))
    assert missing.stderr == "LMS_API_KEY: cannot be read from LMS_API_KEY_FILE (FileNotFoundError)\n"


@pytest.mark.parametrize("end", ["/", "/api/v1", "/api/v1/"])
async def test_the_address_may_end_as_people_write_it(remote: Command, elsewhere: Elsewhere, end: str) -> None:
    assert (await remote("whoami", LMS_API_URL=elsewhere.api.health + end)).exit_code == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://school.example", "plain http"),
        ("http://10.0.0.7:8000", "plain http"),
        ("http://127.0.0.1.evil.example", "plain http"),
        ("http://localhost.evil.example", "plain http"),
        ("http://0.0.0.0:8000", "plain http"),
        ("https://ivy:hunter2@school.example", "more than an address"),
        ("https://school.example/?key=hunter2", "more than an address"),
        ("https://school.example/#hunter2", "more than an address"),
        ("ftp://school.example", "no address"),
        ("school.example", "no address"),
        ("https://", "no address"),
        ("https://[hunter2", ""),
    ],
)
async def test_an_address_that_must_not_get_the_key_is_refused(remote: Command, url: str, said: str) -> None:
    result = await remote("courses", "list", LMS_API_URL=url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("LMS_API_URL: ")
    assert said in result.stderr
    assert "hunter2" not in result.output


async def test_without_a_key_nobody_is_asked(remote: Command) -> None:
    result = await remote("courses", "list", LMS_API_KEY="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("LMS_API_KEY: is missing")


ON_THE_DATABASE = [
    ("load", "."),
    ("users", "list"),
    ("users", "deactivate", "ivy@school.example"),
    ("api-keys", "list", "ivy@school.example"),
    ("outbox", "list"),
]


@pytest.mark.parametrize("arguments", ON_THE_DATABASE, ids=" ".join)
async def test_what_works_on_the_database_refuses_to_when_a_server_is_meant(
    remote: Command, database: Database, ivy: User, arguments: tuple[str, ...]
) -> None:
    result = await remote(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("LMS_API_URL: is set, but this command works on the database only")
    stored = await database["users"].find_one({"_id": ivy.id})
    assert stored is not None
    assert stored["active"] is True


@pytest.mark.parametrize("arguments", [("courses", "list"), ("whoami",), *ON_THE_DATABASE], ids=" ".join)
async def test_a_key_without_an_address_is_not_taken_for_the_database(
    remote: Command, arguments: tuple[str, ...]
) -> None:
    result = await remote(*arguments, LMS_API_URL="")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("LMS_API_URL: is missing")


async def test_who_one_is_asks_a_server(lms: Command, database: Database) -> None:
    result = await lms("whoami")
    assert (result.exit_code, result.stderr.startswith("LMS_API_URL: is missing")) == (2, True)


async def test_courses_are_listed_and_published_on_the_database(lms: Command, database: Database, ivy: User) -> None:
    course = await a_course(ivy.id, status="draft").insert()
    empty = await a_course(ivy.id, "Nothing in it", lessons=0, modules=[], status="archived").insert()
    listed = (await lms("courses", "list")).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["draft", course.slug], ["archived", empty.slug]]
    for act, status in (("publish", "published"), ("unpublish", "draft"), ("archive", "archived")):
        result = await lms("courses", act, course.slug)
        assert (result.exit_code, result.stdout) == (0, f"{course.slug} is now {status}.\n")
        stored = await database["courses"].find_one({"_id": course.id})
        assert stored is not None
        assert stored["status"] == status
    data = json.loads((await lms("courses", "list", "--status", "archived", "--json")).stdout)
    assert {"id": str(course.id), "slug": course.slug, "title": course.title, "status": "archived"} in data
    assert len(data) == 2
    refused = await lms("courses", "publish", str(empty.id))
    assert (refused.exit_code, "Missing: " in plain(refused.stderr)) == (1, True)
    assert (await lms("courses", "publish", "no-such-course")).exit_code == 1


@asynccontextmanager
async def a_stranger(answer: Callable[[int], bytes]) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server that is not ours, and what it was asked."""
    asked: list[bytes] = []
    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(port))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield f"http://127.0.0.1:{port}", asked


def answered(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_key_is_not_sent_on_to_somewhere_else(remote: Command) -> None:
    def elsewhere(port: int) -> bytes:
        return answered("307 Temporary Redirect", b"", f"Location: http://127.0.0.1:{port}/stolen")

    async with a_stranger(elsewhere) as (url, asked):
        result = await remote("whoami", LMS_API_URL=url)
    assert (result.exit_code, "sends on to somewhere else" in plain(result.stderr)) == (1, True)
    assert len(asked) == 1


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"", b"[1, 2]", b"\xff\xfe"])
async def test_a_server_that_is_no_api_is_told_so(remote: Command, body: bytes) -> None:
    async with a_stranger(lambda _: answered("200 OK", body)) as (url, _):
        result = await remote("whoami", LMS_API_URL=url)
    assert (result.exit_code, "is this the API?" in plain(result.stderr)) == (1, True)


async def test_what_a_server_says_commands_no_terminal_and_gives_no_key_away(
    remote: Command, elsewhere: Elsewhere
) -> None:
    body = json.dumps({"detail": f"\x1b]0;owned\x07 got {elsewhere.key}", "request_id": "\x1b[2J"}).encode()
    async with a_stranger(lambda _: answered("403 Forbidden", body)) as (url, asked):
        result = await remote("whoami", LMS_API_URL=url)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    # The server had it, as it must; it comes back to nobody.
    assert elsewhere.key.encode() in asked[0]


async def test_where_nobody_answers_that_is_said(remote: Command) -> None:
    result = await remote("whoami", LMS_API_URL=LOCAL)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{LOCAL} cannot be asked" in plain(result.stderr)


async def test_plain_http_to_this_machine_goes_by_no_proxy(remote: Command) -> None:
    async with a_stranger(lambda _: answered("200 OK", b"{}")) as (url, asked):
        result = await remote("whoami", HTTP_PROXY=url, http_proxy=url, ALL_PROXY=url)
    assert result.exit_code == 0, result.output
    assert asked == []
