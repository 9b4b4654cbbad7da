"""Processes that start while MongoDB or Redis is away come up when it is back."""

import asyncio
from pathlib import Path

import httpx
from litestar import Litestar

from lms.embedded import start_mongod, start_valkey
from tests.promises.issuing import check_issued_once, somebody_is_done
from tests.promises.system import Process, a_system, eventually
from tests.servers import SmtpSink


async def lives(process: Process) -> None:
    """Until it answers; it need not be ready."""

    async def answers() -> bool:
        return await status(process, "live") == 200

    await eventually(answers)


async def status(process: Process, kind: str) -> int:
    assert process.process.returncode is None, process.log.read_text()
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            return (await client.get(f"{process.health}/health/{kind}")).status_code
        except httpx.TransportError:
            return 0


async def test_before_mongodb(app: Litestar, redis_url: str, smtp_sink: SmtpSink, tmp_path: Path) -> None:
    mongod = await start_mongod(tmp_path / "mongodb")
    more = {"LMS_SMTP_URL": smtp_sink.url, "LMS_MONGODB_TIMEOUT_SECONDS": "1"}
    async with a_system(tmp_path, mongod.url, redis_url, **more) as (system, database):
        await mongod.stop()
        processes = await asyncio.gather(*(system.start(kind, wait=False) for kind in ("worker", "scheduler", "serve")))
        for process in processes:
            await lives(process)
            assert await status(process, "ready") == 503
        mongod = await start_mongod(tmp_path / "mongodb", port=mongod.port)
        for process in processes:
            await eventually(process.is_ready)
        await check_issued_once(database, await somebody_is_done(database), smtp_sink)
        for process in processes:
            assert await process.terminate() == 0
    await mongod.stop()


async def test_before_redis(app: Litestar, mongodb_url: str, smtp_sink: SmtpSink, tmp_path: Path) -> None:
    valkey = await start_valkey(tmp_path / "valkey")
    await valkey.stop()
    async with a_system(tmp_path, mongodb_url, valkey.url, LMS_SMTP_URL=smtp_sink.url) as (system, database):
        processes = await asyncio.gather(*(system.start(kind) for kind in ("worker", "scheduler", "serve")))
        done = await somebody_is_done(database)
        valkey = await start_valkey(tmp_path / "valkey", port=valkey.port)
        await check_issued_once(database, done, smtp_sink)
        for process in processes:
            assert await process.terminate() == 0
    await valkey.stop()
