"""Answers that are the same for everybody, kept by this process for a moment, so that a crowd costs one read.

An answer's age counts from when it was asked for, not from when it was there: a slow database makes nothing older.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Response

MOST = 200
LARGEST = 64 * 1024
"""In bytes; together with `MOST` this is all the memory that it takes."""

Make = Callable[[], Awaitable[Response[Any]]]


class KeptAnswers:
    """`seconds` is how old an answer may be; 0 keeps nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: OrderedDict[bytes, tuple[float, Response[Any]]] = OrderedDict()
        self._making: dict[bytes, tuple[float, asyncio.Task[Response[Any]]]] = {}

    def find(self, key: bytes) -> Response[Any] | None:
        """The answer that is kept under `key`, unless it is too old."""
        found = self._kept.get(key)
        return found[1] if found is not None and self._is_young(found[0]) else None

    async def get(self, key: bytes, make: Make) -> Response[Any]:
        """The kept answer, or a new one; those who ask while it is made wait for it. Raises what `make` raises."""
        if not self._seconds:
            return await make()
        found = self.find(key)
        if found is not None:
            return found
        under_way = self._making.get(key)
        if under_way is None or not self._is_young(under_way[0]):
            asked_at = time.monotonic()
            under_way = self._making[key] = (asked_at, asyncio.create_task(self._make(key, asked_at, make)))
        # Whoever goes away leaves the others their answer.
        return await asyncio.shield(under_way[1])

    async def _make(self, key: bytes, asked_at: float, make: Make) -> Response[Any]:
        try:
            answer = await make()
        finally:
            if self._making.get(key, (0.0,))[0] == asked_at:
                del self._making[key]
        # One that was asked for later may have been faster.
        if len(answer.content) <= LARGEST and self._kept.get(key, (0.0,))[0] <= asked_at:
            self._kept[key] = (asked_at, answer)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return answer

    def _is_young(self, asked_at: float) -> bool:
        return time.monotonic() < asked_at + self._seconds
