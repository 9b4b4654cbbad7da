import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis

from lms import redis_client
from lms.redis_client import Accelerator, RedisUnavailable


class SilentServer:
    """It takes connections and never says a word."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[asyncio.StreamWriter] = []

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)


@pytest.fixture
async def silent_server() -> AsyncGenerator[SilentServer]:
    silent = SilentServer()
    server = await asyncio.start_server(silent.take, "127.0.0.1", 0)
    silent.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    yield silent
    server.close()
    for writer in silent.connections:
        writer.close()
        await writer.wait_closed()


async def test_a_redis_that_says_nothing_costs_a_quarter_of_a_second_and_then_nothing(
    silent_server: SilentServer,
) -> None:
    accelerator = Accelerator(silent_server.url)
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        await accelerator.call(lambda redis: redis.ping())
    assert 0.2 < time.monotonic() - started < 1.0
    assert accelerator.resting
    with pytest.raises(RedisUnavailable):
        await accelerator.call(lambda redis: redis.ping())
    assert len(silent_server.connections) == 1
    await accelerator.close()


async def test_after_a_second_of_rest_redis_is_asked_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 1000.0, 0
    monkeypatch.setattr(redis_client, "time", SimpleNamespace(monotonic=lambda: now))
    accelerator = Accelerator(redis_url)

    async def fail(_: Redis) -> None:
        nonlocal asked
        asked += 1
        raise ConnectionResetError("gone")

    for wait, expected in ((0.0, 1), (0.999, 1), (0.001, 2)):
        now += wait
        with pytest.raises(RedisUnavailable):
            await accelerator.call(fail)
        assert asked == expected
    now += 1
    assert await accelerator.call(lambda redis: redis.ping())
    await accelerator.close()


async def test_no_redis_is_always_at_rest() -> None:
    accelerator = Accelerator("", "school")
    assert accelerator.resting
    assert accelerator.key("session", 7) == "school:session:7"
    with pytest.raises(RedisUnavailable):
        await accelerator.call(lambda redis: redis.ping())
    await accelerator.close()
