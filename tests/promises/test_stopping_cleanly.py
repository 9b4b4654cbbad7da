"""SIGTERM: every process finishes what runs and exits with 0 within its grace time, an idle one too."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

from lms.embedded import start_mongod, start_valkey
from tests.promises.issuing import SHORT_LEASES, certificate_mails, check_issued_once, mail_event, somebody_is_done
from tests.promises.journey import School, a_school
from tests.promises.system import Process, a_system, eventually
from tests.servers import SmtpSink

SOON_SECONDS = 8.0
"""For stopping with nothing to wait for, on a machine with much to do."""


class SlowRequest:
    """A request to enrol whose body comes in two halves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def begin(self, school: School) -> None:
        """Until the application reads the body, of which one half is sent."""
        self._body = json.dumps({"course_id": str(school.course.id)}).encode()
        lines = {
            "Host": "lms.test",
            "Content-Type": "application/json",
            "Content-Length": str(len(self._body)),
            "Expect": "100-continue",
        } | school.signed_in
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._writer.write(f"POST /api/v1/enrollments HTTP/1.1\r\n{head}\r\n".encode())
        assert (await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        self._writer.write(self._body[:10])
        await self._writer.drain()

    async def finish(self) -> int:
        """Send the rest; returns the answer's status."""
        self._writer.write(self._body[10:])
        return int((await self._reader.readuntil(b"\r\n\r\n")).split(b" ")[1])

    async def is_cut_off(self) -> bool:
        """Whether no answer comes but the end of the connection, or one that says no."""
        try:
            answer = await asyncio.wait_for(self._reader.read(), SOON_SECONDS)
        except ConnectionError:
            return True
        return not answer.startswith(b"HTTP/1.1 2")


@asynccontextmanager
async def a_slow_request(api: Process, school: School) -> AsyncGenerator[SlowRequest]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.health.rpartition(":")[2]))
    request = SlowRequest(reader, writer)
    try:
        await request.begin(school)
        yield request
    finally:
        writer.transport.abort()


async def takes_no_more(api: Process) -> bool:
    """Whether it has seen the signal."""
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            await client.get(f"{api.health}/health/live")
        except httpx.TransportError:
            return True
    return False


@pytest.mark.parametrize(
    "arguments", [("serve",), ("serve", "--workers", "2"), ("worker",), ("scheduler",)], ids=" ".join
)
async def test_idle(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, _):
        process = await system.start(*arguments)
        # A client that keeps its connection holds nothing up.
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{process.health}/health/live")).status_code == 200
            assert await process.terminate(SOON_SECONDS) == 0


async def test_the_api_answers_the_request_that_runs(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):
        school = await a_school(system, database)
        api = await system.start("serve")
        async with a_slow_request(api, school) as request:
            stopping = asyncio.create_task(api.terminate(SOON_SECONDS))
            await eventually(lambda: takes_no_more(api))
            assert not stopping.done()
            assert await request.finish() == 201
            assert await stopping == 0
        assert await database["enrollments"].count_documents({}) == 1


async def test_the_api_waits_no_longer_than_its_grace_time(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_GRACE_SECONDS="1") as (system, database):
        school = await a_school(system, database)
        api = await system.start("serve")
        async with a_slow_request(api, school) as request:
            assert await api.terminate(1 + SOON_SECONDS) == 0
            assert await request.is_cut_off()
        assert await database["enrollments"].count_documents({}) == 0


async def test_the_worker_finishes_the_job_that_runs(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_SMTP_URL=smtp_sink.url) as (system, database):
        done = await somebody_is_done(database)
        smtp_sink.stall_before_reply()
        worker = await system.start("worker")
        await smtp_sink.wait_for_held(1)
        stopping = asyncio.create_task(worker.terminate(SOON_SECONDS))

        async def is_draining() -> bool:
            async with httpx.AsyncClient(timeout=2) as client:
                return (await client.get(f"{worker.health}/health/ready")).status_code == 503

        await eventually(is_draining)
        assert not stopping.done()
        smtp_sink.release()
        assert await stopping == 0
        # Nobody is left to do anything, so what is done now was done by it.
        assert await database["outbox"].count_documents({}) == 0
        assert len(await check_issued_once(database, done, smtp_sink)) == 1


async def test_a_job_longer_than_the_grace_time_runs_elsewhere(
    app: Litestar, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path
) -> None:
    more = SHORT_LEASES | {"LMS_SMTP_URL": smtp_sink.url, "LMS_GRACE_SECONDS": "0.5"}
    async with a_system(tmp_path, mongodb_url, redis_url, **more) as (system, database):
        done = await somebody_is_done(database)
        smtp_sink.stall_before_reply()
        worker = await system.start("worker")
        (unanswered,) = await smtp_sink.wait_for_held(1)
        assert await worker.terminate(SOON_SECONDS) == 0
        assert (await mail_event(database))["failed_at"] is None
        assert certificate_mails(smtp_sink) == []
        smtp_sink.release()
        await system.start("worker")
        mails = await check_issued_once(database, done, smtp_sink)
        assert mails[0]["Message-ID"] == unanswered["Message-ID"]


async def test_the_leading_scheduler_hands_over_at_once(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with a_system(tmp_path, mongodb_url, redis_url) as (system, database):

        async def leader() -> str:
            return ((await database["leases"].find_one({"_id": "scheduler"})) or {}).get("owner", "")

        leading = await system.start("scheduler")
        first = await eventually(leader)
        following = await system.start("scheduler")
        assert await leading.terminate(SOON_SECONDS) == 0
        stopped = time.monotonic()

        async def another_leads() -> bool:
            return await leader() not in {"", first}

        await eventually(another_leads)
        # A dead leader's lease would have lasted longer.
        assert time.monotonic() - stopped < 5
        assert await following.terminate(SOON_SECONDS) == 0


@pytest.mark.parametrize("server", ["mongodb", "redis"])
async def test_with_a_server_frozen(
    app: Litestar, mongodb_url: str, redis_url: str, tmp_path: Path, server: str
) -> None:
    frozen = await (start_mongod if server == "mongodb" else start_valkey)(tmp_path / server)
    urls = (frozen.url, redis_url) if server == "mongodb" else (mongodb_url, frozen.url)
    more = {"LMS_MONGODB_TIMEOUT_SECONDS": "1"}
    async with a_system(tmp_path, *urls, **more) as (system, _):
        processes = await asyncio.gather(*(system.start(kind) for kind in ("serve", "worker", "scheduler")))
        frozen.process.send_signal(signal.SIGSTOP)
        grace = system.settings.grace_seconds
        codes = await asyncio.gather(*(one.terminate(grace) for one in processes), return_exceptions=True)
        frozen.process.send_signal(signal.SIGCONT)
        assert codes == [0, 0, 0]
    await frozen.stop()
