"""Reading together: reads by key that are asked for while one is under way are answered by the next one, all in one.

The driver's cost is per command and not per document, so that under load most of it goes away. A read never joins one
that was under way before it was asked for: it sees everything that was written until then.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure, PyMongoError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 100
"""Keys in one read, but for those of one question."""

_Asked = tuple[Collection[K], asyncio.Future[Mapping[K, V]]]


class TryAlone(Exception):
    """Raised by a read that does not want to wait in company: each of its questions is asked alone."""


class Together(Generic[K, V]):
    """`read` gets distinct keys and gives what it found by key."""

    def __init__(self, read: Callable[[list[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._waiting: deque[_Asked[K, V]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._alone: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        """What stands under `key`, shared with whoever asked for the same: not to be changed. Raises what `read` raises
        for this key.
        """
        return (await self.get_all((key,))).get(key)

    async def get_all(self, keys: Collection[K]) -> Mapping[K, V]:
        """What was found, of `keys` at least."""
        if not keys:
            return {}
        answer: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, answer))
        if self._reading is None:
            self._reading = _in_nobodys_context(self._read_until_nobody_waits())
        return await answer

    async def _read_until_nobody_waits(self) -> None:
        try:
            while batch := self._next_batch():
                await self._answer(batch)
        finally:
            self._reading = None

    def _next_batch(self) -> list[_Asked[K, V]]:
        batch: list[_Asked[K, V]] = []
        count = 0
        while self._waiting and count < MOST:
            asked = self._waiting.popleft()
            # Whoever was cancelled meanwhile needs no answer.
            if not asked[1].done():
                batch.append(asked)
                count += len(asked[0])
        return batch

    async def _answer(self, batch: list[_Asked[K, V]]) -> None:
        try:
            found = await self._read(list({key: None for keys, _ in batch for key in keys}))
        except Exception as error:  # noqa: BLE001 - it is handed to those who asked
            self._fail(batch, error)
            return
        for _, answer in batch:
            if not answer.done():
                answer.set_result(found)

    def _fail(self, batch: list[_Asked[K, V]], error: Exception) -> None:
        """A bad key must not fail its neighbours, nor hold up those who come next; an outage is everybody's."""
        if len(batch) > 1 and not _is_everybodys(error):
            for asked in batch:
                task = _in_nobodys_context(self._answer([asked]))
                self._alone.add(task)
                task.add_done_callback(self._alone.discard)
            return
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(error)


def _is_everybodys(error: Exception) -> bool:
    return isinstance(error, ConnectionFailure) or (isinstance(error, PyMongoError) and error.timeout)


def _in_nobodys_context(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """The deadline of whoever asks first, which the driver keeps in the context, is not that of the others."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def by_id(
    collection: AsyncCollection[dict[str, Any]], ids: list[Any], projection: Mapping[str, Any] | None = None
) -> dict[Any, dict[str, Any]]:
    """Documents by their ids, in one command."""
    rows = await collection.find({"_id": {"$in": ids}}, projection).to_list()
    return {row["_id"]: row for row in rows}
