"""The system as operators run it: our real processes on a database of their own, which tests kill, freeze and count."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pymongo
from beanie import Document
from beanie.odm.utils.dump import get_dict
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from lms.accounts.documents import SignIn, User
from lms.clock import utc_now
from lms.embedded import free_port
from lms.keys import new_seed
from lms.settings import load_settings
from lms.tokens import KeyRing

DEADLINE_SECONDS = 30.0


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = DEADLINE_SECONDS) -> Any:
    """What `condition` gives once that is true; it is asked every 20 ms, as other processes set no event here."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)
    return found


async def store(database: AsyncDatabase[dict[str, Any]], *documents: Document) -> None:
    for document in documents:
        await database[document.get_collection_name()].insert_one(dict(get_dict(document, to_db=True)))


class Process:
    """One of our processes; its log is `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, health: str) -> None:
        self.process = process
        self.log = log
        self.health = health

    @property
    def pid(self) -> int:
        return self.process.pid

    async def is_ready(self) -> bool:
        """Raises AssertionError with the log where the process has ended."""
        assert self.process.returncode is None, self.log.read_text()
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=2) as client:
                return (await client.get(f"{self.health}/health/ready")).status_code == 200
        return False

    async def kill(self) -> None:
        """As `kill -9` does."""
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def terminate(self, seconds: float = DEADLINE_SECONDS) -> int:
        """SIGTERM; returns the exit code. Raises TimeoutError."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), seconds)


class System:
    """Settings of one installation, and the processes that were started with them."""

    def __init__(self, directory: Path, mongodb_url: str, redis_url: str, **more: str) -> None:
        name = uuid.uuid4().hex[:12]
        self.directory = directory
        self.environ = {
            "LMS_DATA_DIR": str(directory),
            "LMS_MONGODB_URL": mongodb_url,
            "LMS_MONGODB_DATABASE": f"lms_test_{name}",
            "LMS_REDIS_URL": redis_url,
            "LMS_REDIS_PREFIX": f"test-{name}",
            "LMS_PUBLIC_URL": "http://lms.test",
            "LMS_SECRET_KEY": "test-secret-key-of-thirty-two-characters",
            "LMS_PASSWORD_PEPPER": "test-pepper-of-thirty-two-characters-or-more",
            "LMS_JWT_KEYS": new_seed(),
            "LMS_BCRYPT_COST": "4",
            "LMS_RATE_AUTH": "100000/1",
            "LMS_RATE_SIGN_IN": "100000/1",
            "LMS_RATE_WRITES": "100000/1",
            "LMS_RATE_READS": "100000/1",
        } | more
        self.settings = load_settings(self.environ)
        self.started: list[Process] = []

    async def start(self, *arguments: str, wait: bool = True, **environ: str) -> Process:
        """`await system.start("worker")`; it is ready when this returns, unless `wait` says otherwise."""
        port = free_port()
        option = "--port" if arguments[0] == "serve" else "--health-port"
        log = self.directory / f"{arguments[0]}-{len(self.started)}.log"
        with log.open("wb") as output:
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lms", *arguments, option, str(port)),
                env=os.environ | self.environ | environ,
                stdout=output,
                stderr=output,
            )
        process = Process(started, log, f"http://127.0.0.1:{port}")
        self.started.append(process)
        if wait:
            await eventually(process.is_ready)
        return process

    async def run(self, *arguments: str) -> int:
        """A command that ends by itself; returns its exit code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lms", *arguments),
            env=os.environ | self.environ,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=None,
        )
        return await asyncio.wait_for(process.wait(), DEADLINE_SECONDS)

    async def sign_in(self, database: AsyncDatabase[dict[str, Any]], user: User) -> dict[str, str]:
        """The header of a new sign-in of a stored user."""
        now = utc_now()
        expires_at = now + timedelta(days=1)
        sign_in = SignIn(user_id=user.id, nonce="nonce", rotated_at=now, proved_at=now, expires_at=expires_at)
        await store(database, sign_in)
        token = KeyRing(self.settings).issue(user.id, sign_in.id, user.role, user.auth_epoch, now)
        return {"Authorization": f"Bearer {token}"}

    async def stop(self) -> None:
        for process in self.started:
            if process.process.returncode is None:
                process.go_on()
            await process.kill()


@asynccontextmanager
async def a_system(
    directory: Path, mongodb_url: str, redis_url: str, **more: str
) -> AsyncGenerator[tuple[System, AsyncDatabase[dict[str, Any]]]]:
    """A migrated installation without a running process, and its database as a test sees it.

    The documents' own connection belongs to the session's application (ask for the fixture `app`, so that documents
    can be made at all), so a test stores by `store` and reads with PyMongo.
    """
    system = System(directory, mongodb_url, redis_url, **more)
    settings = system.settings
    assert await system.run("migrate") == 0
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        settings.mongodb_url, uuidRepresentation="standard", tz_aware=True
    )
    try:
        yield system, client[settings.mongodb_database]
    finally:
        await system.stop()
        # The name is used once; where a killed process left a transaction open, its locks last longer than a test.
        with suppress(PyMongoError), pymongo.timeout(2):
            await client.drop_database(settings.mongodb_database)
        await client.close()
