"""The worker: the relay and the jobs in one process."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from uuid import UUID

import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError
from taskiq.receiver import Receiver

from lms.broker import ReliableStreamBroker, open_broker
from lms.database import connect
from lms.health_server import LOOPBACK, Parts, health_server
from lms.mail import Mailer
from lms.metrics import mark_started
from lms.migrations import is_migrated
from lms.outbox.jobs import JobContext, run_job
from lms.outbox.relay import Relay
from lms.settings import Settings
from lms.transactions import database

CANCEL_SECONDS = 2.0
TASK_MODULES = (
    "lms.accounts.tasks",
    "lms.recovery.tasks",
    "lms.api_keys.tasks",
    "lms.users.tasks",
    "lms.enrollments.tasks",
    "lms.second_factor.tasks",
    "lms.oidc.tasks",
    "lms.certificates.tasks",
    "lms.audit.tasks",
    "lms.erasure.tasks",
    "lms.maintenance.tasks",
)

logger = structlog.get_logger("lms.worker")


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_worker(settings: Settings, *, health_port: int | None = None, health_host: str = LOOPBACK) -> int:
    """Work until SIGTERM or SIGINT, then finish what runs within `grace_seconds`. Returns the exit code."""
    for name in TASK_MODULES:
        import_module(name)
    stop = stop_on_signals()
    mark_started("worker")
    context = JobContext(settings, Mailer(settings))
    async with connect(settings):
        broker = open_broker(settings, _runner(context))
        relay = Relay(context, _sender(broker))
        token = settings.metrics_token.get_secret_value()
        async with health_server(health_port, _check(broker, stop), host=health_host, token=token):
            await broker.startup()
            passing_on = asyncio.create_task(relay.run())
            # Without its relay a worker only looks alive: it ends, with the error below, and is started again.
            passing_on.add_done_callback(lambda _: stop.set())
            logger.info("worker_started", concurrency=settings.worker_concurrency)
            await _receive(broker, settings, stop)
            await _end(passing_on)
            await broker.shutdown()
    logger.info("worker_stopped")
    return 0


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel it until it has ended: `asyncio.wait_for`, which PyMongo sends with, may swallow one on Python 3.11."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _runner(context: JobContext) -> Callable[[str, UUID], Awaitable[Any]]:
    async def run(name: str, event_id: UUID) -> None:
        try:
            await run_job(name, event_id, context)
        except PyMongoError as error:
            # The outcome could not be recorded; the row comes due again and the job with it.
            logger.warning("job_not_recorded", job=name, event_id=str(event_id), error=type(error).__name__)

    return run


def _sender(broker: ReliableStreamBroker) -> Callable[[str, str], Awaitable[object]]:
    async def send(name: str, event_id: str) -> object:
        task = broker.find_task(name)
        if task is None:
            # A newer version's event: a worker of that version will take it up when the lease ends.
            logger.warning("unknown_job", job=name, event_id=event_id)
            return None
        return await task.kiq(event_id)

    return send


async def _receive(broker: ReliableStreamBroker, settings: Settings, stop: asyncio.Event) -> None:
    broker.is_worker_process = True
    with ThreadPoolExecutor(1) as executor:
        receiver = Receiver(
            broker,
            executor=executor,
            max_async_tasks=settings.worker_concurrency,
            wait_tasks_timeout=settings.grace_seconds,
            run_startup=False,
        )
        await receiver.listen(stop)


def _check(broker: ReliableStreamBroker, stop: asyncio.Event) -> Callable[[], Awaitable[Parts]]:
    async def check() -> Parts:
        (mongodb, schema), redis = await asyncio.gather(mongodb_states(), _redis_state(broker))
        process = "down" if stop.is_set() else "ok"
        return {"mongodb": mongodb, "schema": schema, "redis": redis, "process": process}

    return check


async def mongodb_states() -> tuple[str, str]:
    """Of the server, and of what `lms migrate` makes there."""
    try:
        async with asyncio.timeout(0.5):
            return "ok", "ok" if await is_migrated(database()) else "down"
    except (PyMongoError, TimeoutError):
        return "down", "down"


async def _redis_state(broker: ReliableStreamBroker) -> str:
    try:
        async with asyncio.timeout(0.5), broker.redis() as redis:
            await redis.ping()
    except (RedisError, OSError, TimeoutError):
        return "degraded"
    return "ok"
