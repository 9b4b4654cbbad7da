"""Reading together: reads by key that are asked for while one is under way are answered by the next one, all in one.

The driver's cost is per command and not per document, so that under load most of it goes away. A read never joins one
that was under way before it was asked for: it sees everything that was written until then.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Any, Generic, TypeVar

from pymongo.asynchronous.collection import AsyncCollection

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 100
"""Keys in one read, but for those of one question."""

_Asked = tuple[Collection[K], asyncio.Future[Mapping[K, V]]]


class Together(Generic[K, V]):
    """`read` gets distinct keys and gives what it found by key."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: deque[_Asked[K, V]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What stands under `key`, shared with whoever asked for the same: not to be changed. Raises what `read` raises
        for this key.
        """
        return (await self.get_all((key,))).get(key)

    async def get_all(self, keys: Collection[K]) -> Mapping[K, V]:
        """What was found, of `keys` at least."""
        answer: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, answer))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_until_nobody_waits())
        return await answer

    async def _read_until_nobody_waits(self) -> None:
        try:
            while self._waiting:
                await self._answer(self._next_batch())
        finally:
            self._reading = None

    def _next_batch(self) -> list[_Asked[K, V]]:
        batch, count = [self._waiting.popleft()], 0
        while self._waiting and (count := count + len(batch[-1][0])) < MOST:
            batch.append(self._waiting.popleft())
        return batch

    async def _answer(self, batch: list[_Asked[K, V]]) -> None:
        try:
            found = await self._read(list({key: None for keys, _ in batch for key in keys}))
        except Exception as error:  # noqa: BLE001 - it is handed to those who asked
            await self._answer_failure(batch, error)
            return
        for _, answer in batch:
            # Whoever was cancelled meanwhile does not mind.
            if not answer.done():
                answer.set_result(found)

    async def _answer_failure(self, batch: list[_Asked[K, V]], error: Exception) -> None:
        """A bad key must not fail its neighbours: each is asked for alone, and then it is known whose error it is."""
        if len(batch) > 1:
            await asyncio.gather(*(self._answer([asked]) for asked in batch))
            return
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)


async def by_id(
    collection: AsyncCollection[dict[str, Any]], ids: list[Any], projection: Mapping[str, Any] | None = None
) -> dict[Any, dict[str, Any]]:
    """Documents by their ids, in one command."""
    rows = await collection.find({"_id": {"$in": ids}}, projection).to_list()
    return {row["_id"]: row for row in rows}
