"""Two editors who work on one course at the same time: nothing lost, nothing doubled, no gap."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx

from lms.accounts.documents import User
from lms.courses.documents import Course
from tests.conftest import ClientFor
from tests.outline.trees import as_put, check_gap_free, outline_of, stored

EDITS = 200


class Editor:
    """Reads, changes, writes with `If-Match`, and where somebody was faster reads again, as an app does."""

    def __init__(self, client: httpx.AsyncClient, name: str, course: Course, seed: int) -> None:
        self.client = client
        self.name = name
        self.course = f"/courses/{course.id}"
        self.lesson = f"{self.course}/lessons/{course.lessons[0].id}"
        self.module = course.modules[0].id
        self.rng = random.Random(seed)  # noqa: S311 - no secret
        self.done: dict[str, list[str]] = {"head": [], "body": [], "add": [], "rename": [], "move": []}

    async def work(self) -> None:
        for number in range(EDITS):
            kind = ("head", "body", "add", "rename", "move")[number % 5]
            mark = f"{self.name}{number}"
            await getattr(self, kind)(mark)
            self.done[kind].append(mark)

    async def _write(
        self, path: str, change: Callable[[dict[str, Any]], Any], method: str = "PATCH", read: str | None = None
    ) -> None:
        while True:
            seen = await self.client.get(read or path)
            tag = {"If-Match": seen.headers["etag"]}
            answer = await self.client.request(method, path, json=change(seen.json()), headers=tag)
            assert answer.status_code in {200, 412}
            if answer.status_code == 200:
                return

    async def head(self, mark: str) -> None:
        await self._write(self.course, lambda seen: {"metadata": {"marks": [*seen["metadata"].get("marks", []), mark]}})

    async def body(self, mark: str) -> None:
        await self._write(self.lesson, lambda seen: {"content": f"{seen['content']}\n{mark}"})

    async def add(self, mark: str) -> None:
        key = {"Idempotency-Key": mark}
        body = {"title": mark, "module_id": self.module}
        first, again = await asyncio.gather(
            *(self.client.post(f"{self.course}/lessons", json=body, headers=key) for _ in range(2))
        )
        assert {first.status_code, again.status_code} <= {201, 409}

    async def rename(self, mark: str) -> None:
        """A new name of a module holds all names before."""
        path = f"{self.course}/modules/{self.module}"

        def change(seen: dict[str, Any]) -> dict[str, Any]:
            [title] = [one["title"] for one in seen["modules"] if one["id"] == self.module]
            kept = title.split()
            return {"title": " ".join([*kept[-40:], mark])}

        await self._write(path, change, read=f"{self.course}/outline")

    async def move(self, _: str) -> None:
        def change(seen: dict[str, Any]) -> dict[str, Any]:
            wanted = as_put(seen)
            self.rng.shuffle(wanted["modules"][0]["lessons"])
            return wanted

        await self._write(f"{self.course}/outline", change, "PUT")


async def test_of_200_edits_each_none_is_lost_and_none_comes_twice(
    client_for: ClientFor, ivy: User, oscar: User, course: Course
) -> None:
    await course.set({"co_instructor_ids": [oscar.id]})
    editors = [
        Editor(await client_for(one), name, course, n) for n, (one, name) in enumerate([(ivy, "i"), (oscar, "o")])
    ]
    await asyncio.gather(*(one.work() for one in editors))
    after = await stored(course.id)
    check_gap_free(after)

    def done(kind: str) -> list[str]:
        return sorted(mark for one in editors for mark in one.done[kind])

    assert sorted(after.metadata["marks"]) == done("head")
    [body] = [one.content for one in after.lessons if one.id == course.lessons[0].id]
    assert sorted(line for line in body.splitlines() if line[:1] in {"i", "o"}) == done("body")
    assert sorted(one.title for one in after.lessons if one.title[0] in {"i", "o"}) == done("add")
    assert len(after.lessons) == len(course.lessons) + len(done("add"))
    # The names that a title has room for are the last ones, each once.
    names = after.modules[0].title.removeprefix("First steps ").split()
    assert len(set(names)) == len(names)
    assert set(names) <= set(done("rename"))
    assert after.rev == 1 + len(done("head"))
    assert (await outline_of(editors[0].client, course.id))[1] == f'"{after.outline_rev}"'
