import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from lms import worker
from lms.broker import ReliableStreamBroker, open_broker
from lms.clock import utc_now
from lms.embedded import free_port
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome
from lms.outbox.relay import Relay
from lms.settings import Settings
from tests.conftest import HeldClock
from tests.outbox.build import Calls, a_job, emitted, row_of, without_mongodb
from tests.promises.system import Process, a_system, eventually, store
from tests.web.own_servers import running_valkey

# pyright: reportPrivateUsage=false

Database = AsyncDatabase[dict[str, Any]]


class InProcess:
    """The parts of a worker, without its signals."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.context = JobContext(settings, Mailer(settings))
        self.broker: ReliableStreamBroker = open_broker(settings, worker._runner(self.context))
        self.relay = Relay(self.context, worker._sender(self.broker))

    @asynccontextmanager
    async def receiving(self) -> AsyncGenerator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(worker._receive(self.broker, self.settings, stop))
        yield
        assert not task.done(), "the worker has stopped receiving"
        stop.set()
        await asyncio.wait_for(task, 10)


OpenWorker = Callable[..., InProcess]


@pytest.fixture
async def open_worker(database: Database, settings: Settings) -> AsyncGenerator[OpenWorker]:
    """Makes a worker of the jobs that there are now, with a queue of its own."""
    made: list[InProcess] = []

    def make(**changes: Any) -> InProcess:
        own = {"redis_prefix": f"test-{uuid4().hex}"} | changes
        made.append(InProcess(settings.model_copy(update=own)))
        return made[-1]

    yield make
    for one in made:
        with suppress(RedisError):
            async with one.broker.redis() as redis:
                await redis.delete(one.broker.queue_name)
        await one.broker.shutdown()


def gone(event: Event) -> Callable[[], Any]:
    async def is_gone() -> bool:
        return await row_of(event) is None

    return is_gone


async def test_an_event_reaches_its_job_through_the_queue(open_worker: OpenWorker) -> None:
    work = Calls()
    with a_job("test_work", work):
        one = open_worker()
        await one.broker.startup()
        event = await emitted("test_work", slot=7)
        await one.relay.pass_on()
        async with one.receiving():
            await eventually(gone(event))
    assert [(called.id, called.data) for called in work.events] == [(event.id, {"slot": 7})]
    async with one.broker.redis() as redis:
        assert await redis.xlen(one.broker.queue_name) == 0


async def test_what_a_wiped_redis_lost_is_sent_again_when_its_lease_ends(
    open_worker: OpenWorker, held_clock: HeldClock, tmp_path: Path
) -> None:
    work = Calls()
    with a_job("test_work", work), running_valkey(tmp_path) as (url, _):
        one = open_worker(redis_url=url)
        await one.broker.startup()
        event = await emitted("test_work")
        assert await one.relay.pass_on() == 1
        async with one.broker.redis() as redis:
            await redis.flushall()
        async with one.receiving():
            assert await one.relay.pass_on() == 0
            held_clock.now += one.context.lease
            assert await one.relay.pass_on() == 1
            await eventually(gone(event))
        await one.broker.shutdown()
    assert len(work.events) == 1


async def test_while_redis_is_away_events_wait_and_no_attempt_is_lost(
    open_worker: OpenWorker, held_clock: HeldClock
) -> None:
    with a_job("test_work", Calls()):
        one = open_worker(redis_url=f"redis://127.0.0.1:{free_port()}/0")
        event = await emitted("test_work")
        before = await row_of(event)
        relaying = asyncio.create_task(one.relay.run())

        async def is_away() -> bool:
            return one.relay.away == "redis"

        await eventually(is_away)
        assert not relaying.done()
        relaying.cancel()
        with suppress(asyncio.CancelledError):
            await relaying
    assert await row_of(event) == before


async def test_a_job_of_a_newer_version_is_left_to_a_worker_that_knows_it(
    open_worker: OpenWorker, held_clock: HeldClock
) -> None:
    old = open_worker()
    await old.broker.startup()
    work = Calls()
    with a_job("test_newer", work):
        event = await emitted("test_newer")
        with capture_logs() as logs:
            assert await old.relay.pass_on() == 1
        told = [line for line in logs if line["event"] == "unknown_job"]
        assert [(line["job"], line["event_id"]) for line in told] == [("test_newer", str(event.id))]
        async with old.broker.redis() as redis:
            assert await redis.xlen(old.broker.queue_name) == 0
        held_clock.now += old.context.lease
        new = open_worker()
        await new.broker.startup()
        assert await new.relay.pass_on() == 1
        async with new.receiving():
            await eventually(gone(event))
    assert [called.attempts for called in work.events] == [1]


async def test_a_worker_runs_as_many_jobs_at_once_as_it_is_told(open_worker: OpenWorker) -> None:
    running, most = 0, 0
    go_on = asyncio.Event()

    async def work(event: Event, context: JobContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if most == 3:
            go_on.set()
        await go_on.wait()
        running -= 1

    with a_job("test_work", work):
        one = open_worker(worker_concurrency=3)
        await one.broker.startup()
        events = [await emitted("test_work") for _ in range(12)]
        await one.relay.pass_on()
        async with one.receiving():
            for event in events:
                await eventually(gone(event))
    assert most == 3


async def test_a_worker_that_stops_finishes_what_runs(open_worker: OpenWorker) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    ended: list[Outcome] = []

    async def work(event: Event, context: JobContext) -> None:
        begun.set()
        await go_on.wait()
        ended.append(Outcome.DONE)

    with a_job("test_work", work):
        one = open_worker()
        await one.broker.startup()
        event = await emitted("test_work")
        await one.relay.pass_on()
        stop = asyncio.Event()
        receiving = asyncio.create_task(worker._receive(one.broker, one.settings, stop))
        await asyncio.wait_for(begun.wait(), 10)
        stop.set()
        await asyncio.sleep(0)
        assert not receiving.done()
        go_on.set()
        await asyncio.wait_for(receiving, 10)
    assert ended == [Outcome.DONE]
    assert await row_of(event) is None


async def test_a_job_whose_outcome_cannot_be_recorded_is_told_of_and_comes_again(
    database: Database, open_worker: OpenWorker
) -> None:
    one = open_worker()
    event = await emitted("test_work")
    async with without_mongodb(database):
        with capture_logs() as logs:
            await worker._runner(one.context)("test_work", event.id)
    assert [(line["event"], line["job"], line["event_id"]) for line in logs] == [
        ("job_not_recorded", "test_work", str(event.id))
    ]
    assert await row_of(event) is not None


async def test_readiness_tells_of_each_part(database: Database, open_worker: OpenWorker) -> None:
    stop = asyncio.Event()
    good, bad = open_worker(), open_worker(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert await worker._check(good.broker, stop)() == {"mongodb": "ok", "schema": "ok", "redis": "ok", "process": "ok"}
    assert await worker._check(bad.broker, stop)() == {
        "mongodb": "ok",
        "schema": "ok",
        "redis": "degraded",
        "process": "ok",
    }
    async with without_mongodb(database):
        stop.set()
        assert await worker._check(good.broker, stop)() == {
            "mongodb": "down",
            "schema": "down",
            "redis": "ok",
            "process": "down",
        }


async def test_a_frozen_redis_is_told_of_in_time(open_worker: OpenWorker, tmp_path: Path) -> None:
    with running_valkey(tmp_path) as (url, process):
        one = open_worker(redis_url=url)
        assert await worker._redis_state(one.broker) == "ok"
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(1):
            assert await worker._redis_state(one.broker) == "degraded"
        process.send_signal(signal.SIGCONT)
        await one.broker.shutdown()


async def get(process: Process, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"{process.health}{path}")


async def due_now(database: Database, *jobs: str) -> Event:
    """An event in the database of an installation."""
    event = Event(kind="schedule.due", bucket=5, data={}, todo=list(jobs), due=utc_now())
    await store(database, event)
    return event


async def until_gone(database: Database, event: Event) -> None:
    async def is_gone() -> bool:
        return await database["outbox"].find_one({"_id": event.id}) is None

    await eventually(is_gone)


async def test_the_process_works_tells_its_metrics_and_stops_in_order(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        one = await system.start("worker")
        assert (await get(one, "/health/live")).json() == {"status": "ok"}
        assert (await get(one, "/health/ready")).json()["status"] == "ok"
        event = await due_now(database, "update_course_statistics")
        await until_gone(database, event)
        families = {family.name: family for family in text_string_to_metric_families((await get(one, "/metrics")).text)}
        runs = [(sample.name, sample.labels, sample.value) for sample in families["lms_jobs"].samples]
        assert ("lms_jobs_total", {"job": "update_course_statistics", "outcome": "done"}, 1.0) in runs
        assert [sample.labels for sample in families["lms_process_start_time_seconds"].samples] == [{"kind": "worker"}]
        assert families["lms_outbox_due"].samples[0].value == 0
        assert await one.terminate() == 0
        log = one.log.read_text()
    assert "worker_started" in log
    assert "worker_stopped" in log


async def test_a_worker_without_redis_is_ready_degraded_and_stops_when_told(
    app: Litestar, mongodb_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, f"redis://127.0.0.1:{free_port()}/0") as (system, database):
        one = await system.start("worker")
        answer = await get(one, "/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        event = await due_now(database, "update_course_statistics")

        async def is_told() -> bool:
            return "outbox_waits" in one.log.read_text()

        await eventually(is_told)
        assert await one.terminate() == 0
        row = await database["outbox"].find_one({"_id": event.id})
    assert row is not None
    assert row["attempts"] == 0


async def test_a_worker_whose_relay_breaks_ends_with_the_error(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        one = await system.start("worker")
        await database["outbox"].insert_one({"bucket": 1, "due": utc_now()})
        assert await asyncio.wait_for(one.process.wait(), 20) == 1
        assert "KeyError" in one.log.read_text()


def test_every_module_with_jobs_is_loaded() -> None:
    lms = Path(worker.__file__).parent
    found = {".".join(("lms", *path.relative_to(lms).with_suffix("").parts)) for path in lms.rglob("tasks.py")}
    assert set(worker.TASK_MODULES) == found
