import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase

from lms.embedded import free_port
from tests.promises.system import Process, System, a_system, eventually

BROKEN = """
import sys
from lms import serving
from lms.settings import load_settings
serving.FACTORY = "lms.nothing:create_app"
if __name__ == "__main__":
    sys.exit(serving.serve(load_settings(), host="127.0.0.1", port=int(sys.argv[1]), workers=2))
"""


Installed = tuple[System, AsyncDatabase[dict[str, Any]]]


@pytest.fixture
async def installed(app: Litestar, tmp_path: Path, mongodb_url: str, redis_url: str) -> AsyncGenerator[Installed]:
    async with a_system(tmp_path, mongodb_url, redis_url, LMS_METRICS_PORT=str(free_port())) as both:
        yield both


@pytest.fixture
def system(installed: Installed) -> System:
    return installed[0]


async def numbers(system: System) -> dict[str, float]:
    async with httpx.AsyncClient(timeout=20) as client:
        text = (await client.get(f"http://127.0.0.1:{system.settings.metrics_port}/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {"|".join([one.name, *one.labels.values()]): one.value for one in samples}


async def processes(system: System) -> set[int]:
    """The processes that the metrics tell of."""
    started = r"lms_process_start_time_seconds\|api\|(\d+)"
    return {int(found[1]) for name in await numbers(system) if (found := re.fullmatch(started, name))}


async def read_courses(process: Process, times: int) -> None:
    for _ in range(times):
        # A connection each, which any process may take.
        async with httpx.AsyncClient(timeout=20) as client:
            assert (await client.get(f"{process.health}/api/v1/courses")).status_code == 200


@asynccontextmanager
async def frozen(pid: int) -> AsyncGenerator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def both(system: System) -> set[int]:
    async def two() -> set[int] | None:
        found = await processes(system)
        return found if len(found) == 2 else None

    return await eventually(two)


async def test_one_scrape_has_what_every_process_has_served(system: System) -> None:
    serving = await system.start("serve", "--workers", "2")
    for pid in await both(system):
        async with frozen(pid):
            await read_courses(serving, 5)
    assert (await numbers(system))["lms_http_requests_total|GET|/api/v1/courses|2xx"] == 10
    assert await serving.terminate() == 0


async def test_a_process_that_dies_is_replaced_and_what_it_counted_stays(system: System) -> None:
    serving = await system.start("serve", "--workers", "2")
    lost, stays = await both(system)
    async with frozen(stays):
        await read_courses(serving, 3)
    os.kill(lost, signal.SIGKILL)

    async def replaced() -> bool:
        found = await processes(system)
        return len(found) == 2 and lost not in found and stays in found

    await eventually(replaced)
    assert (await numbers(system))["lms_http_requests_total|GET|/api/v1/courses|2xx"] == 3
    await eventually(serving.is_ready)
    assert await serving.terminate() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_request_that_runs_is_finished_before_it_stops(system: System, workers: str) -> None:
    serving = await system.start("serve", "--workers", workers)
    body = json.dumps({"email": "s@school.example", "password": "correct horse battery", "full_name": "S"}).encode()
    reader, writer = await begin(serving, len(body))
    serving.process.terminate()
    await eventually(lambda: logged(serving, "Shutting down", int(workers)))
    writer.write(body)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 20)).startswith(b"HTTP/1.1 202 ")
    # It says that it takes nothing more on this connection.
    assert b"connection: close" in (await asyncio.wait_for(reader.read(), 20)).lower()
    writer.close()
    assert await asyncio.wait_for(serving.process.wait(), 20) == 0
    assert "Traceback" not in serving.log.read_text()


async def test_a_request_that_does_not_end_does_not_stop_it_from_stopping(system: System) -> None:
    serving = await system.start("serve", LMS_GRACE_SECONDS="1", LMS_REQUEST_TIMEOUT_SECONDS="60")
    reader, writer = await begin(serving, 10)
    assert await serving.terminate(seconds=15) == 0
    assert not (await reader.read()).startswith(b"HTTP/1.1 2")
    writer.close()


async def begin(serving: Process, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A sign-up whose body is still to come; the application waits for it when this returns."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(serving.health.rsplit(":", maxsplit=1)[1]))
    head = f"POST /api/v1/auth/register HTTP/1.1\r\nHost: lms.test\r\nContent-Length: {length}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return reader, writer


async def logged(serving: Process, text: str, times: int) -> bool:
    return serving.log.read_text().count(text) == times


async def test_it_migrates_before_where_that_is_asked_for(installed: Installed) -> None:
    system, database = installed
    await database["courses"].drop_index("slug")
    serving = await system.start("serve", "--migrate")
    assert "slug" in await database["courses"].index_information()
    # As Ctrl-C does.
    serving.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(serving.process.wait(), 20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_taken_port_is_told_and_is_a_failure(system: System, workers: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]
        code, output = await ended(system, "-m", "lms", "serve", "--workers", workers, "--port", str(port))
    assert code == 1
    assert "address already in use" in output.lower()


async def test_processes_that_cannot_start_are_a_failure(system: System, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    code, output = await ended(system, str(script), str(free_port()))
    assert code == 1
    assert "lms.nothing" in output


async def ended(system: System, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=os.environ | system.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode()
