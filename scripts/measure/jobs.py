"""Certificates a second: from the events of completed enrolments to the mails in the recipients' server.

The product's worker beside bare taskiq, by turns; each certificate is two chained jobs.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from aiosmtpd.smtp import SMTP, Envelope, Session
from redis.asyncio import Redis
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisStreamBroker

from lms.clock import utc_now
from lms.outbox.documents import Event
from scripts.measure import bare_worker
from scripts.measure.running import Race, Result, Run, count_commands, race
from scripts.measure.world import Process, System

CERTIFICATES = 100
"""In one round."""
WAIT_SECONDS = 120.0


class Counter:
    """A mail server that counts what it takes."""

    def __init__(self) -> None:
        self.count = 0
        self._arrived = asyncio.Condition()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        _ = server, session, envelope
        async with self._arrived:
            self.count += 1
            self._arrived.notify_all()
        return "250 Message accepted"

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: self.count >= count)


@asynccontextmanager
async def counting_server() -> AsyncGenerator[tuple[Counter, int]]:
    loop, counter = asyncio.get_running_loop(), Counter()
    server = await loop.create_server(lambda: SMTP(counter, loop=loop), "127.0.0.1", 0)
    yield counter, server.sockets[0].getsockname()[1]
    server.close()


async def measure_jobs(system: System, rounds: int) -> Result:
    async with counting_server() as (mails, port):
        more = {"LMS_SMTP_URL": f"smtp://127.0.0.1:{port}"}
        worker = await system.spawn("worker", "-m", "lms", "worker", **more)
        bare = await system.spawn("bare-worker", "-m", "scripts.measure.bare_worker", **more)
        await _until_both_read(system)
        pairs = zip(system.world.students, system.world.enrollments, strict=True)
        places = [(student, enrollment_id) for student, mine in pairs for enrollment_id, _ in mine]
        batches = [places[start : start + CERTIFICATES] for start in range(0, len(places), CERTIFICATES)]
        await system.database["enrollments"].update_many(
            {"_id": {"$in": [enrollment_id for _, enrollment_id in places]}},
            {"$set": {"status": "completed", "percent": 100, "completed_at": utc_now()}},
        )
        broker = RedisStreamBroker(
            system.settings.redis_url, queue_name="bare", consumer_group_name="bare", socket_timeout=None
        ).with_serializer(JSONSerializer())
        task = broker.register_task(bare_worker.certificate.original_func, task_name="certificate")

        async def product(number: int) -> Run:
            return await _timed(worker, mails, lambda: _emit(system, batches[2 * number]), system)

        async def floor(number: int) -> Run:
            return await _timed(bare, mails, lambda: _send(task, batches[2 * number + 1]), system)

        facts = Race("jobs", "certificates, printed and mailed", 0.7, bare_worker.COMMANDS, "certificates")
        try:
            return await race(facts, min(rounds, len(batches) // 2 - 1), product, floor)
        finally:
            await broker.shutdown()


async def _until_both_read(system: System) -> None:
    """Until both workers have their group at their stream."""
    streams = ("bare", f"{system.settings.redis_prefix}:jobs")
    async with asyncio.timeout(WAIT_SECONDS), Redis.from_url(system.settings.redis_url) as redis:
        while not all([await _is_read(redis, stream) for stream in streams]):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)


async def _is_read(redis: Redis, stream: str) -> bool:
    return bool(await redis.exists(stream)) and any(one["consumers"] for one in await redis.xinfo_groups(stream))


async def _emit(system: System, places: list[tuple[UUID, UUID]]) -> None:
    """What completing them commits, all at once."""
    job = ["generate_certificate"]
    events = [
        Event(
            kind="enrollment.completed",
            data={"student_id": str(one), "enrollment_id": str(two)},
            todo=job,
            due=utc_now(),
        )
        for one, two in places
    ]
    await system.database["outbox"].insert_many([event.as_stored() for event in events])


async def _send(task: Any, places: list[tuple[UUID, UUID]]) -> None:
    for _, enrollment_id in places:
        await task.kiq(str(enrollment_id))


async def _timed(worker: Process, mails: Counter, start: Any, system: System) -> Run:
    wanted, commands, cpu = mails.count + CERTIFICATES, await count_commands(system.database), worker.cpu_seconds()
    started = time.perf_counter()
    await start()
    await mails.wait_for(wanted)
    seconds = time.perf_counter() - started
    commands = await count_commands(system.database) - commands
    return Run(CERTIFICATES, seconds, worker.cpu_seconds() - cpu, commands / CERTIFICATES)
