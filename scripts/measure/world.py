"""The embedded servers, the product and the floor, on free ports, with their data in a throw-away folder."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pymongo import AsyncMongoClient

from lms.database import DOCUMENTS, bind
from lms.embedded import free_port, start_mongod, start_valkey
from lms.keys import new_seed
from lms.migrations import migrate
from lms.passwords import Passwords
from lms.processes import die_with_parent, end_process
from lms.settings import Settings, load_settings
from scripts.measure.seed import PASSWORD, Database, World, seed

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Process:
    """A server of ours: the product's API or the floor."""

    name: str
    port: int
    child: asyncio.subprocess.Process
    log: Path
    start_seconds: float = 0.0

    def cpu_seconds(self) -> float:
        """User and system time so far (proc(5), stat: fields 14 and 15)."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mebibytes(self) -> float:
        status = Path(f"/proc/{self.child.pid}/status").read_text(encoding="utf-8", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


@dataclass(slots=True)
class System:
    """Everything that runs and what is in it."""

    directory: Path
    settings: Settings
    environ: dict[str, str]
    database: Database
    world: World
    stack: AsyncExitStack

    async def spawn(self, name: str, *arguments: str, **more: str) -> Process:
        """A Python process; the port stands in its environment and, as {port}, in its arguments."""
        port, log = free_port(), self.directory / f"{name}.log"
        command = [one.replace("{port}", str(port)) for one in arguments]
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                env={**self.environ, "MEASURE_PORT": str(port), **more},
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        self.stack.push_async_callback(end_process, child, 10)
        return Process(name, port, child, log)

    async def start_api(self, name: str = "api", **more: str) -> Process:
        """One process with production defaults, and how long it took to be ready."""
        started = time.perf_counter()
        process = await self.spawn(name, "-m", "lms", "serve", "--port", "{port}", **more)
        await until_ready(process, "/health/ready")
        process.start_seconds = time.perf_counter() - started
        return process

    async def start_floor(self) -> Process:
        process = await self.spawn("floor", "-m", "scripts.measure.floor")
        await until_ready(process, "/null")
        return process


async def until_ready(process: Process, path: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _answers(process.port, path):
                if process.child.returncode is not None:
                    raise SystemExit(f"{process.name} ended: {process.log.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise SystemExit(f"{process.name} did not get ready within {READY_SECONDS:.0f} seconds.") from None


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in line


def _environ(mongodb_url: str, redis_url: str, directory: Path) -> dict[str, str]:
    """Production, every default as it is. What has to be named is named; callers are told apart by the proxy's word."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "LMS_ENVIRONMENT": "production",
        "LMS_DATA_DIR": str(directory),
        "LMS_MONGODB_URL": mongodb_url,
        "LMS_REDIS_URL": redis_url,
        "LMS_PUBLIC_URL": "https://lms.example",
        "LMS_TRUSTED_PROXIES": "127.0.0.0/8",
        "LMS_SECRET_KEY": "a-secret-key-of-more-than-thirty-two-characters",
        "LMS_PASSWORD_PEPPER": "a-pepper-of-more-than-thirty-two-characters",
        "LMS_JWT_KEYS": new_seed(),
    }


@asynccontextmanager
async def system(enrollments: int) -> AsyncGenerator[System]:
    directory = Path(tempfile.mkdtemp(prefix="lms-bench-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        mongod = await start_mongod(directory / "mongodb")
        stack.push_async_callback(mongod.stop)
        valkey = await start_valkey(directory / "valkey")
        stack.push_async_callback(valkey.stop)
        environ = _environ(mongod.url, valkey.url, directory)
        settings = load_settings(environ)
        # Patient, unlike the product's own: seeding takes as long as it takes.
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
            mongod.url, uuidRepresentation="standard", tz_aware=True
        )
        stack.push_async_callback(client.close)
        database = client[settings.mongodb_database]
        await bind(database)
        await migrate(database, DOCUMENTS)
        world = await seed(database, await _password_hash(settings), enrollments)
        yield System(directory, settings, environ, database, world, stack)


async def _password_hash(settings: Settings) -> str:
    passwords = Passwords(settings)
    try:
        return await passwords.hash(PASSWORD)
    finally:
        passwords.close()
