"""The queue: taskiq on Redis streams, with what the stock broker lacks.

taskiq-redis 1.2's RedisStreamBroker claims the messages of a dead worker only after it read another one, has no
heartbeat, so that a long job is given to a second worker, keeps acknowledged messages for ever, has no place for
poisonous ones, and ends at the first lost connection. This subclass mends that and can go when the library has caught
up. Delivery itself is guaranteed by the outbox, so the queue may lose and double.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from taskiq import AckableMessage
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisStreamBroker

from lms.outbox.jobs import JOBS
from lms.settings import Settings

BLOCK_MILLISECONDS = 1_000
MAX_DELIVERIES = 5
MAX_DEAD = 10_000
MOST_PENDING = 1_000
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
DECLARE_SECONDS = 2
ACKNOWLEDGE_SECONDS = 2
FORGOTTEN_CONSUMER_MILLISECONDS = 86_400_000

logger = structlog.get_logger("lms.queue")


class ReliableStreamBroker(RedisStreamBroker):
    """Claims on a timer, heartbeat, deletion on acknowledgement, a stream for dead letters, its own reconnecting."""

    def __init__(self, url: str, *, queue_name: str, idle_seconds: float) -> None:
        super().__init__(
            url,
            queue_name=queue_name,
            consumer_group_name=queue_name,
            # From the beginning: what was sent before the group existed counts as well.
            consumer_id="0",
            idle_timeout=int(idle_seconds * 1000),
            xread_count=10,
            xread_block=BLOCK_MILLISECONDS,
            # redis-py's own time-out swallows the cancellation that ends a worker on Python 3.11.
            socket_timeout=None,
            socket_connect_timeout=2,
        )
        self.running: set[bytes] = set()
        self._next_claim = 0.0

    @property
    def dead_stream(self) -> str:
        return f"{self.queue_name}:dead"

    def redis(self) -> Redis:
        return Redis(connection_pool=self.connection_pool)

    async def _declare_consumer_group(self) -> None:
        """What a starting worker does, and one whose Redis was away or wiped; it may be away still."""
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(DECLARE_SECONDS):
                await super()._declare_consumer_group()

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Messages for this worker, for ever; survives every loss of Redis. The outbox sends again what was lost."""
        heartbeat = asyncio.create_task(self._keep_running_messages())
        pause = FIRST_PAUSE_SECONDS
        away = False
        try:
            while True:
                try:
                    for message in await self._next_messages():
                        yield message
                    if away:
                        logger.info("redis_is_back")
                    pause, away = FIRST_PAUSE_SECONDS, False
                except (RedisError, OSError) as error:
                    if not away:
                        logger.warning("redis_is_away", error=str(error))
                    away = True
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                    await self._declare_consumer_group()
        finally:
            heartbeat.cancel()

    async def _next_messages(self) -> list[AckableMessage]:
        if time.monotonic() >= self._next_claim:
            self._next_claim = time.monotonic() + max(self.idle_timeout / 2000, 0.25)
            if claimed := await self._claim():
                return claimed
        async with self.redis() as redis:
            answer: Any = await redis.xreadgroup(
                self.consumer_group_name,
                self.consumer_name,
                {self.queue_name: ">"},
                count=self.count,
                block=self.block,
            )
        return [self._message(message_id, fields) for message_id, fields in _entries(answer)]

    async def _claim(self) -> list[AckableMessage]:
        """Take over what a worker left behind; what keeps killing workers goes to the dead letters."""
        async with self.redis() as redis:
            answer: Any = await redis.xautoclaim(
                self.queue_name,
                self.consumer_group_name,
                self.consumer_name,
                min_idle_time=self.idle_timeout,
                count=self.count,
            )
            found = [(one, fields) for one, fields in answer[1] if fields and one not in self.running]
            deliveries = await self._deliveries(redis) if found else {}
            taken: list[AckableMessage] = []
            for message_id, fields in found:
                if deliveries.get(message_id, 1) > MAX_DELIVERIES:
                    await self._bury(redis, message_id, fields)
                else:
                    taken.append(self._message(message_id, fields))
            return taken

    async def _deliveries(self, redis: Redis) -> dict[bytes, int]:
        """How often each message that is this worker's now was handed out."""
        pending: Any = await redis.xpending_range(
            self.queue_name, self.consumer_group_name, "-", "+", MOST_PENDING, consumername=self.consumer_name
        )
        return {one["message_id"]: one["times_delivered"] for one in pending}

    async def _bury(self, redis: Redis, message_id: bytes, fields: dict[bytes, bytes]) -> None:
        logger.error("message_buried", message_id=message_id.decode())
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(self.dead_stream, fields, maxlen=MAX_DEAD)  # pyright: ignore[reportArgumentType]
            pipeline.xack(self.queue_name, self.consumer_group_name, message_id)
            pipeline.xdel(self.queue_name, message_id)
            await pipeline.execute()

    def _message(self, message_id: bytes, fields: dict[bytes, bytes]) -> AckableMessage:
        self.running.add(message_id)
        # What somebody else put here has no data: the receiver cannot read that either, says so and acknowledges it.
        return AckableMessage(data=fields.get(b"data", b""), ack=self._acknowledge(message_id))

    def _acknowledge(self, message_id: bytes) -> Callable[[], Awaitable[None]]:
        async def acknowledge() -> None:
            """A message that cannot be acknowledged comes again; the outbox makes its job do nothing then."""
            try:
                # A stopping worker waits for this, with its job done.
                async with (
                    asyncio.timeout(ACKNOWLEDGE_SECONDS),
                    self.redis() as redis,
                    redis.pipeline(transaction=True) as pipeline,
                ):
                    pipeline.xack(self.queue_name, self.consumer_group_name, message_id)
                    pipeline.xdel(self.queue_name, message_id)
                    await pipeline.execute()
            except (RedisError, OSError) as error:
                logger.warning("not_acknowledged", error=type(error).__name__)
            finally:
                self.running.discard(message_id)

        return acknowledge

    async def _keep_running_messages(self) -> None:
        """Tell Redis that what runs here is alive, so that nobody claims it."""
        while True:
            await asyncio.sleep(self.idle_timeout / 3000)
            if not self.running:
                continue
            with contextlib.suppress(RedisError, OSError):
                async with self.redis() as redis:
                    await redis.xclaim(
                        self.queue_name,
                        self.consumer_group_name,
                        self.consumer_name,
                        0,
                        list(self.running),
                        justid=True,
                    )

    async def shutdown(self) -> None:
        """Forget this consumer, and those of workers that died long ago, unless messages still hang on them."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(2), self.redis() as redis:
                consumers: Any = await redis.xinfo_consumers(self.queue_name, self.consumer_group_name)
                for one in consumers:
                    is_mine = one["name"].decode() == self.consumer_name
                    if one["pending"] == 0 and (is_mine or one["idle"] > FORGOTTEN_CONSUMER_MILLISECONDS):
                        await redis.xgroup_delconsumer(self.queue_name, self.consumer_group_name, one["name"])
        await super().shutdown()


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """RESP2 gives a list of (stream, entries), RESP3 a mapping of stream to lists of entries."""
    if isinstance(answer, dict):
        return [entry for batches in answer.values() for batch in batches for entry in batch]
    return [entry for _, entries in answer or [] for entry in entries]


def open_broker(settings: Settings, run: Callable[[str, UUID], Awaitable[Any]]) -> ReliableStreamBroker:
    """The broker with every job under its own name; a message carries the event's id and nothing else."""
    broker = ReliableStreamBroker(
        settings.redis_url,
        queue_name=f"{settings.redis_prefix}:jobs",
        # Twice the outbox's lease: when a worker dies its job is sent again first, and what is claimed here finds
        # nothing left. Both at once would run it twice, and send its mail twice.
        idle_seconds=4 * settings.job_timeout_seconds,
    ).with_serializer(JSONSerializer())
    for name in JOBS:
        broker.register_task(_task(name, run), task_name=name)
    return broker  # pyright: ignore[reportReturnType]


def _task(name: str, run: Callable[[str, UUID], Awaitable[Any]]) -> Callable[[str], Awaitable[None]]:
    async def task(event_id: str) -> None:
        await run(name, UUID(event_id))

    return task
