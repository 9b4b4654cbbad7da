"""Promises 1 and 2: whatever happens to the queue, an event has its effect, and has it once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from redis.asyncio import Redis

from lms.accounts.tasks import send_welcome_email
from lms.certificates.tasks import generate_certificate, send_certificate_email
from lms.embedded import start_valkey
from lms.outbox.documents import Event
from tests.build import a_user
from tests.promises.issuing import (
    Database,
    an_event,
    check_issued_once,
    mail_event,
    nothing_held,
    somebody_is_done,
)
from tests.promises.system import System, a_system, eventually, store
from tests.servers import SmtpSink

ONE_AT_A_TIME = {"LMS_JOB_TIMEOUT_SECONDS": "3", "LMS_WORKER_CONCURRENCY": "1"}
COPIES = 20


@asynccontextmanager
async def own_redis(directory: Path) -> AsyncGenerator[str]:
    """The address of one that a test may wipe."""
    valkey = await start_valkey(directory / "valkey")
    yield valkey.url
    await valkey.stop()


async def begin_a_mail(database: Database, sink: SmtpSink) -> Event:
    """Let a worker begin with a mail whose answer does not come."""
    stella = a_user("Stella")
    event = an_event("user.registered", send_welcome_email.name, user_id=str(stella.id))
    sink.stall_before_reply()
    await store(database, stella, event)
    await sink.wait_for_held(1)
    return event


async def messages(redis: Redis, system: System) -> list[dict[Any, Any]]:
    """What is in the queue, those at work included."""
    found: Any = await redis.xrange(f"{system.settings.redis_prefix}:jobs")
    return [fields for _, fields in found]


async def until_queued(redis: Redis, system: System, count: int) -> None:
    async def is_queued() -> bool:
        return len(await messages(redis, system)) == count

    await eventually(is_queued)


@pytest.mark.parametrize("then", ["goes on", "is killed"])
async def test_redis_is_wiped_between_sending_and_running(
    app: Litestar, mongodb_url: str, smtp_sink: SmtpSink, tmp_path: Path, then: str
) -> None:
    more = ONE_AT_A_TIME | {"LMS_SMTP_URL": smtp_sink.url}
    async with (
        own_redis(tmp_path) as redis_url,
        Redis.from_url(redis_url) as redis,
        a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database),
    ):
        worker = await system.start("worker")
        await begin_a_mail(database, smtp_sink)
        done = await somebody_is_done(database)
        await until_queued(redis, system, 2)
        worker.freeze()
        await redis.flushall()
        if then == "is killed":
            await worker.kill()
            await eventually(lambda: nothing_held(smtp_sink))
            await system.start("worker")
        else:
            worker.go_on()
        smtp_sink.release()
        await check_issued_once(database, done, smtp_sink)


async def test_messages_are_delivered_many_times(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    async with (
        Redis.from_url(redis_url) as redis,
        a_system(tmp_path, mongodb_url, redis_url, LMS_SMTP_URL=smtp_sink.url) as (system, database),
    ):
        await asyncio.gather(*(system.start("worker") for _ in range(2)))
        event = await begin_a_mail(database, smtp_sink)
        (message,) = await messages(redis, system)
        smtp_sink.release()
        await until_queued(redis, system, 0)

        async def deliver(job: str, event_id: Any) -> None:
            copy = message[b"data"].replace(send_welcome_email.name.encode(), job.encode())
            copy = copy.replace(str(event.id).encode(), str(event_id).encode())
            for _ in range(COPIES):
                await redis.xadd(f"{system.settings.redis_prefix}:jobs", message | {b"data": copy})

        done = await somebody_is_done(database)
        smtp_sink.stall_before_reply()
        await deliver(generate_certificate.name, done.event)
        await deliver(send_certificate_email.name, (await mail_event(database))["_id"])
        # While one copy runs the others are passed over, in the other worker too.
        await smtp_sink.wait_for_held(1)
        await until_queued(redis, system, 1)
        assert len(smtp_sink.held) == 1
        smtp_sink.release()
        await check_issued_once(database, done, smtp_sink)
        await until_queued(redis, system, 0)
        await check_issued_once(database, done, smtp_sink)
