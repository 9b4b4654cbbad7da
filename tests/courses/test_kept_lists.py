import asyncio
import time
from collections.abc import AsyncGenerator

import httpx
import pytest
from litestar import Litestar

from lms.accounts.documents import User
from lms.app import create_app
from lms.courses.documents import Course
from lms.settings import Settings
from tests.build import a_course
from tests.commands import Commands
from tests.conftest import open_client, running, token_for


@pytest.fixture
async def keeping(settings: Settings, course: Course) -> AsyncGenerator[Litestar]:
    """An application that keeps lists for half a second, as it does by default."""
    async with running(create_app(settings.model_copy(update={"catalogue_seconds": 0.5}))) as app:
        yield app


async def client_of(app: Litestar, user: User | None) -> httpx.AsyncClient:
    if user is None:
        return open_client(app)
    return open_client(app, Authorization=f"Bearer {await token_for(app.state.accounts, user)}")


async def titles(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/courses{query}")
    assert answer.status_code == 200
    return [one["title"] for one in answer.json()["items"]]


async def test_a_list_is_read_once_for_visitors_and_students(keeping: Litestar, sam: User, commands: Commands) -> None:
    visitor, student = await client_of(keeping, None), await client_of(keeping, sam)
    await student.get("/users/me")
    commands.seen.clear()
    answers = await asyncio.gather(*(client.get("/courses") for client in (visitor, student) * 10))
    assert len({answer.content for answer in answers}) == 1
    assert commands.names == ["find", "find"]
    assert {answer.headers.get("cache-control") for answer in answers[1::2]} == {"no-store"}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 20


async def test_a_kept_list_has_the_same_headers_and_answers_304(keeping: Litestar, commands: Commands) -> None:
    visitor = await client_of(keeping, None)
    first, second = [await visitor.get("/courses?page_size=1") for _ in range(2)]
    alike = ("etag", "link", "content-type", "vary", "ratelimit-policy")
    assert [first.headers.get(name) for name in alike] == [second.headers.get(name) for name in alike]
    commands.seen.clear()
    fresh = await visitor.get("/courses?page_size=1", headers={"If-None-Match": first.headers["etag"]})
    assert (fresh.status_code, fresh.content, commands.names) == (304, b"", [])


async def test_what_is_published_is_seen_by_everybody_within_a_second(keeping: Litestar, ivy: User) -> None:
    visitor = await client_of(keeping, None)
    before = await titles(visitor)
    await a_course(ivy.id, "Stars").insert()
    published = time.monotonic()
    while "Stars" not in await titles(visitor):
        assert time.monotonic() - published < 1.0
        await asyncio.sleep(0.02)
    assert "Stars" not in before


async def test_staff_see_at_once_what_they_did(keeping: Litestar, ivy: User, ada: User) -> None:
    clients = [await client_of(keeping, user) for user in (ivy, ada)]
    await titles(await client_of(keeping, None))
    for number, client in enumerate(clients):
        before = await titles(client)
        await a_course(ivy.id, f"Stars {number}").insert()
        assert len(await titles(client)) == len(before) + 1


@pytest.mark.parametrize("query", ["?mine=true", "?%6dine=true", "?status=draft", "?page_size=5&%73tatus=draft"])
async def test_what_is_somebodys_own_is_kept_for_nobody(
    keeping: Litestar, sam: User, stella: User, ivy: User, query: str
) -> None:
    """Sam is a student here and teaches there; Stella asks in the same words."""
    await a_course(ivy.id, "A draft", status="draft", co_instructor_ids=[sam.id]).insert()
    sams, stellas = await client_of(keeping, sam), await client_of(keeping, stella)
    assert await titles(sams, query) == ["A draft"]
    assert await titles(stellas, query) == []


async def test_a_refused_query_stays_refused(keeping: Litestar) -> None:
    visitor = await client_of(keeping, None)
    for _ in range(2):
        assert (await visitor.get("/courses?pgae=2")).status_code == 422
