"""Redis or Valkey as an accelerator: every call is bounded, and while the server is away callers are told at once.

redis-py's own `socket_timeout` goes through asyncio.wait_for, which swallows a cancellation on Python 3.11 and doubles
the time of a call; so it is off and `asyncio.timeout` bounds each call instead.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

T = TypeVar("T")

CALL_SECONDS = 0.25
REST_SECONDS = 1.0


class RedisUnavailable(Exception):
    """Redis did not answer in time or cannot be reached. Callers go on without it."""


def open_redis(url: str, *, connections: int = 50) -> Redis:
    """A client for `url`; connects on first use."""
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=3,
        socket_timeout=None,
        socket_connect_timeout=CALL_SECONDS,
        max_connections=connections,
        timeout=1,
    )
    return Redis(connection_pool=pool)


class Accelerator:
    """Bounded calls. After a failure it rests for a second, so that a dead server costs one slow call a second."""

    def __init__(self, url: str, prefix: str = "lms") -> None:
        self.prefix = prefix
        self.redis: Redis | None = open_redis(url) if url else None
        self._rest_until = 0.0

    def key(self, *parts: object) -> str:
        return ":".join((self.prefix, *map(str, parts)))

    @property
    def resting(self) -> bool:
        return self.redis is None or time.monotonic() < self._rest_until

    async def call(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """The operation's answer. Raises `RedisUnavailable`."""
        if self.redis is None or self.resting:
            raise RedisUnavailable
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await operation(self.redis)
        except (RedisError, OSError, TimeoutError) as error:
            self._rest_until = time.monotonic() + REST_SECONDS
            raise RedisUnavailable(str(error)) from error

    async def close(self) -> None:
        if self.redis is not None:
            await self.redis.aclose(close_connection_pool=True)
