"""Reading together: reads by key that are asked for while one is under way are answered by the next one, all in one.

The driver's cost is per command and not per document, so that under load most of it goes away. A read never joins one
that was under way before it was asked for: it sees everything that was written until then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

from pymongo.asynchronous.collection import AsyncCollection

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 100
"""Keys in one read."""


class Together(Generic[K, V]):
    """`read` gets distinct keys and gives what it found by key."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """What stands under `key`, shared with whoever asked for the same: not to be changed. Raises what `read` raises
        for this key.
        """
        return await self._ask(key)

    async def get_all(self, keys: set[K]) -> dict[K, V]:
        """What was found of `keys`."""
        answers = [self._ask(key) for key in keys]
        found = await asyncio.gather(*answers)
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    def _ask(self, key: K) -> asyncio.Future[V | None]:
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_until_nobody_waits())
        return answer

    async def _read_until_nobody_waits(self) -> None:
        try:
            while self._waiting:
                batch = {key: self._waiting.pop(key) for key in list(self._waiting)[:MOST]}
                await self._answer(batch)
        finally:
            self._reading = None

    async def _answer(self, batch: dict[K, list[asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._read(list(batch))
        except Exception as error:  # noqa: BLE001 - it is handed to those who asked
            await self._answer_failure(batch, error)
            return
        for key, answers in batch.items():
            for answer in answers:
                # Whoever was cancelled meanwhile does not mind.
                if not answer.done():
                    answer.set_result(found.get(key))

    async def _answer_failure(self, batch: dict[K, list[asyncio.Future[V | None]]], error: Exception) -> None:
        """One bad key must not fail its neighbours, so that each is read alone; then it is known whose error it is."""
        if len(batch) > 1:
            await asyncio.gather(*(self._answer({key: answers}) for key, answers in batch.items()))
            return
        for answer in (answer for answers in batch.values() for answer in answers if not answer.done()):
            answer.set_exception(error)


async def by_id(
    collection: AsyncCollection[dict[str, Any]], ids: list[Any], projection: Mapping[str, Any] | None = None
) -> dict[Any, dict[str, Any]]:
    """Documents by their ids, in one command."""
    rows = await collection.find({"_id": {"$in": ids}}, projection).to_list()
    return {row["_id"]: row for row in rows}
