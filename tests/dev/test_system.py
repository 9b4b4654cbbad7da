import os
import signal
import socket
import uuid
from asyncio import Event
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient

from lms.demo.seed import PASSWORD, PEOPLE
from lms.dev import system
from lms.dev.system import DevFailed
from tests.dev.running import a_dev
from tests.promises.system import eventually
from tests.web.own_servers import free_port

OURS = {"dev", "serve", "worker", "scheduler"}
SAM = {"email": "sam@school.example", "password": "correct horse battery", "full_name": "Sam Okafor"}


@pytest.fixture
async def given(mongodb_url: str, redis_url: str) -> AsyncGenerator[dict[str, str]]:
    """Servers that run already, with a database of the test's own."""
    name = uuid.uuid4().hex[:12]
    yield {
        "LMS_MONGODB_URL": mongodb_url,
        "LMS_MONGODB_DATABASE": f"lms_test_{name}",
        "LMS_REDIS_URL": redis_url,
        "LMS_REDIS_PREFIX": f"test-{name}",
    }
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
    await client.drop_database(f"lms_test_{name}")
    await client.close()


def api(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20)


async def test_it_brings_everything_stops_everything_and_keeps_the_data(tmp_path: Path) -> None:
    port = free_port()
    async with a_dev(tmp_path / "data", "--no-demo", "--port", str(port)) as dev:
        assert f"http://127.0.0.1:{port}/api/v1" in await dev.says("API  ")
        assert f"http://127.0.0.1:{port}/docs" in await dev.says("Reference  ")
        assert f"{tmp_path}/data/mail/" in await dev.says("Mails  ")
        assert "lms_refresh: over plain http" in await dev.says("Cookie  ")
        await dev.says("Ctrl-C stops everything")
        assert "Sign in as" not in dev.text
        assert set(dev.family()) == {"mongod", "valkey-server", *OURS}
        async with api(port) as client:
            assert (await client.get("/health/ready")).json()["status"] == "ok"
            assert (await client.get("/docs")).status_code == 200
            assert (await client.post("/api/v1/auth/register", json=SAM)).status_code == 202
        assert 'sam@school.example  "' in await dev.says("mail      ")
        assert await dev.stop(signal.SIGINT) == 0
        assert dev.family() == {}
        assert "Traceback" not in dev.text
    async with a_dev(tmp_path / "data", "--no-demo", "--port", str(port)) as dev:
        await dev.says("Ctrl-C stops everything")
        async with api(port) as client:
            credentials = {"email": SAM["email"], "password": SAM["password"]}
            assert (await client.post("/api/v1/auth/login", json=credentials)).status_code == 200
        assert await dev.stop(signal.SIGTERM) == 0
        assert dev.family() == {}


async def test_servers_that_are_given_are_used_and_the_demo_can_sign_in(tmp_path: Path, given: dict[str, str]) -> None:
    port = free_port()
    async with a_dev(tmp_path, "--port", str(port), **given) as dev:
        await dev.says("Ctrl-C stops everything")
        assert set(dev.family()) == OURS
        assert not (tmp_path / "mongodb").exists()
        async with api(port) as client:
            for person in PEOPLE:
                line = await dev.says(f"Sign in as   {person.email}")
                assert f"password: {PASSWORD}" in line
                answer = await client.post(
                    "/api/v1/auth/login", json={"email": person.email, "password": person.password}
                )
                assert answer.status_code == 200
            assert (await client.get("/api/v1/courses")).json()["items"]
        async with a_dev(tmp_path, "--port", str(port), **given) as second:
            assert await second.ends() == 1
            assert "Another `lms dev` uses" in second.text
            assert "--data-dir" in second.text
        assert await dev.stop() == 0


async def test_a_taken_port_is_named_with_its_holder_and_another_is_used(tmp_path: Path, given: dict[str, str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as held:
        port = held.getsockname()[1]
        async with a_dev(tmp_path, "--no-demo", "--port", str(port), **given) as dev:
            said = await dev.says(f"Port {port} is taken by")
            assert f"(pid {os.getpid()}); the API takes" in said
            other = int(said.rstrip(".").rsplit(" ", maxsplit=1)[1])
            assert f":{other}/api/v1" in await dev.says("API  ")
            async with api(other) as client:
                assert (await client.get("/health/live")).status_code == 200
            assert await dev.stop() == 0


async def test_a_part_that_ends_stops_the_rest(tmp_path: Path, given: dict[str, str]) -> None:
    async with a_dev(tmp_path, "--no-demo", "--port", str(free_port()), **given) as dev:
        await dev.says("Ctrl-C stops everything")
        os.kill(dev.family()["worker"], signal.SIGKILL)
        assert await dev.ends() == 1
        assert "worker ended with exit code -9; stopping the rest." in dev.text
        assert dev.family() == {}


async def test_it_can_be_stopped_while_it_starts(tmp_path: Path, given: dict[str, str]) -> None:
    async with a_dev(tmp_path, "--no-demo", "--port", str(free_port()), **given) as dev:

        async def has_begun() -> bool:
            return "serve" in dev.family()

        await eventually(has_begun)
        assert await dev.stop() == 0
        assert "Stopping." in dev.text
        assert "Ctrl-C" not in dev.text
        assert dev.family() == {}


async def test_when_it_is_killed_nobody_is_left(tmp_path: Path, given: dict[str, str]) -> None:
    async with a_dev(tmp_path, "--no-demo", "--port", str(free_port()), **given) as dev:
        await dev.says("Ctrl-C stops everything")
        os.kill(dev.process.pid, signal.SIGKILL)
        await dev.no_orphan()


async def test_a_migration_that_fails_is_shown(tmp_path: Path, given: dict[str, str]) -> None:
    async with a_dev(tmp_path, "--no-demo", **given | {"LMS_BCRYPT_COST": "99"}) as dev:
        assert await dev.ends() == 1
        assert "lms migrate" in dev.text
        assert "LMS_BCRYPT_COST: " in dev.text
        assert dev.family() == {}
        assert "Traceback" not in dev.text


async def test_an_api_that_is_not_ready_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "READY_SECONDS", 0.2)
    with pytest.raises(DevFailed, match="did not get ready"):
        await system._until_ready("127.0.0.1", 1, [], Event())  # pyright: ignore[reportPrivateUsage]
