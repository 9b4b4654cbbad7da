import asyncio
import signal
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

import pytest
from httpx import ASGITransport, AsyncClient, Response
from litestar import Litestar
from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure

from lms.redis_client import Accelerator
from lms.web.health import Database, Draining, Health, health_router
from tests.web.own_servers import running_mongod, running_valkey


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    with running_mongod(tmp_path_factory.mktemp("mongod")) as running:
        yield running


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
async def database(mongod: tuple[str, subprocess.Popen[bytes]]) -> AsyncGenerator[Database]:
    async with AsyncMongoClient[dict[str, Any]](mongod[0], timeoutMS=4000, serverSelectionTimeoutMS=2000) as client:
        yield client["health"]


async def is_migrated(database: Database) -> bool:
    return await database["meta"].find_one({"_id": "schema"}) is None


async def ask(path: str, database: Database, accelerator: Accelerator, **more: Any) -> Response:
    options: dict[str, Any] = {"is_migrated": is_migrated, "draining": Draining(), **more}
    health = Health(accelerator, open_database=lambda: database, **options)
    app = Litestar([health_router(health)], openapi_config=None, logging_config=None)
    async with AsyncClient(transport=ASGITransport(cast("Any", app)), base_url="http://lms") as client:
        return await client.get(f"/health/{path}")


async def test_all_is_well(database: Database, valkey: tuple[str, subprocess.Popen[bytes]]) -> None:
    accelerator = Accelerator(valkey[0])
    ready = await ask("ready", database, accelerator)
    assert ready.status_code == 200
    assert ready.headers["cache-control"] == "no-store"
    assert ready.json() == {
        "status": "ok",
        "parts": {"mongodb": {"status": "ok"}, "redis": {"status": "ok"}, "schema": {"status": "ok"}},
    }
    live = await ask("live", database, accelerator)
    assert (live.status_code, live.json(), live.headers["cache-control"]) == (200, {"status": "ok"}, "no-store")
    await accelerator.close()


async def test_without_redis_the_process_is_degraded_but_ready(database: Database) -> None:
    accelerator = Accelerator("redis://user:hunter2@127.0.0.1:1/0")
    ready = await ask("ready", database, accelerator)
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["parts"]["redis"] == {"status": "down"}
    assert "hunter2" not in ready.text
    assert "127.0.0.1" not in ready.text
    await accelerator.close()


async def test_a_process_that_wants_no_redis_misses_none(database: Database) -> None:
    ready = await ask("ready", database, Accelerator(""))
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert ready.json()["parts"]["redis"] == {"status": "off"}


async def test_before_the_migration_the_process_is_not_ready(database: Database) -> None:
    async def not_yet(_: Database) -> bool:
        return False

    ready = await ask("ready", database, Accelerator(""), is_migrated=not_yet)
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["parts"]["schema"] == {"status": "not_migrated"}
    assert ready.headers["retry-after"] == "2"


async def test_a_process_that_stops_is_alive_but_not_ready(database: Database) -> None:
    draining = Draining()
    draining.begin()
    ready = await ask("ready", database, Accelerator(""), draining=draining)
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    assert (await ask("live", database, Accelerator(""), draining=draining)).status_code == 200


async def test_frozen_servers_do_not_hold_up_the_answers(
    database: Database,
    mongod: tuple[str, subprocess.Popen[bytes]],
    valkey: tuple[str, subprocess.Popen[bytes]],
) -> None:
    accelerator = Accelerator(valkey[0])
    await ask("ready", database, accelerator)
    for _, process in (mongod, valkey):
        process.send_signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    try:
        for _ in range(3):
            start = loop.time()
            ready = await ask("ready", database, accelerator)
            assert loop.time() - start < 1
            assert ready.status_code == 503
            assert ready.json()["parts"] == {
                "mongodb": {"status": "down"},
                "redis": {"status": "down"},
                "schema": {"status": "unknown"},
            }
            start = loop.time()
            assert (await ask("live", database, accelerator)).status_code == 200
            assert loop.time() - start < 1
    finally:
        for _, process in (mongod, valkey):
            process.send_signal(signal.SIGCONT)
    await becomes_ready(database, accelerator)
    await accelerator.close()


async def becomes_ready(database: Database, accelerator: Accelerator) -> None:
    async with asyncio.timeout(10):
        while (await ask("ready", database, accelerator)).json()["status"] != "ok":  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)


async def test_a_database_that_is_gone_is_told_at_once(tmp_path: Path) -> None:
    with running_mongod(tmp_path) as (url, process):
        async with AsyncMongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=100, retryReads=False) as client:
            await client.admin.command("ping")
            process.kill()
            process.wait()
            with pytest.raises(ConnectionFailure):
                await client.admin.command("ping")
            ready = await ask("ready", client["health"], Accelerator(""))
    assert (ready.status_code, ready.json()["parts"]["mongodb"]) == (503, {"status": "down"})
