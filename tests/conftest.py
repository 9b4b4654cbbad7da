"""The harness: real servers once a session, a database for each worker, the named cast, a clock that tests hold."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx
import hypothesis
import pytest
from litestar import Litestar
from pymongo import monitoring
from pymongo.asynchronous.database import AsyncDatabase

from lms import clock
from lms.accounts.documents import Role, SignIn, User
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.courses.documents import Course
from lms.database import DOCUMENTS, bind, connect
from lms.database import open_client as open_mongodb
from lms.keys import new_seed
from lms.migrations import migrate
from lms.settings import Settings, load_settings
from lms.transactions import database as open_database
from lms.transactions import open_database as find_database
from tests.build import a_course, a_user
from tests.commands import Commands

pytest_plugins = ["tests.servers"]

# The same examples in every run, however slow the machine is: a red run is a change's doing.
hypothesis.settings.register_profile(
    "lms", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("lms")

_commands = Commands()
monitoring.register(_commands)

ClientFor = Callable[[User], Awaitable[httpx.AsyncClient]]


def settings_for(mongodb_url: str, redis_url: str, **more: str) -> Settings:
    """Settings of a test's own: every limit out of the way, secrets that mean nothing."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    environ = {
        "LMS_MONGODB_URL": mongodb_url,
        "LMS_MONGODB_DATABASE": f"lms_test_{worker}",
        "LMS_REDIS_URL": redis_url,
        "LMS_REDIS_PREFIX": f"test-{worker}",
        "LMS_PUBLIC_URL": "http://lms.test",
        "LMS_SECRET_KEY": "test-secret-key-of-thirty-two-characters",
        "LMS_PASSWORD_PEPPER": "test-pepper-of-thirty-two-characters-or-more",
        "LMS_JWT_KEYS": _SEED,
        "LMS_BCRYPT_COST": "4",
        "LMS_RATE_AUTH": "100000/1",
        "LMS_RATE_SIGN_IN": "100000/1",
        "LMS_RATE_MAIL": "100000/1",
        "LMS_RATE_WRITES": "100000/1",
        "LMS_RATE_READS": "100000/1",
        "LMS_RATE_EXPORTS": "100000/1",
        "LMS_CORS_ORIGINS": "https://app.school.example",
        "LMS_CATALOGUE_SECONDS": "0",
    }
    return load_settings(environ | more)


_SEED = new_seed()


@pytest.fixture(scope="session")
def settings(mongodb_url: str, redis_url: str) -> Settings:
    return settings_for(mongodb_url, redis_url)


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncGenerator[Litestar]:
    async with connect(settings) as database:
        await database.client.drop_database(database.name)
        await migrate(database, DOCUMENTS)
    async with running(create_app(settings)) as app:
        app.state.database = open_database()
        yield app


@asynccontextmanager
async def running(app: Litestar) -> AsyncGenerator[Litestar]:
    """The app between start and stop, both in one task, as its task group demands and fixtures do not do.

    A process has one database; the one that was open before is open again afterwards.
    """
    before = find_database()
    started, over = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await over.wait()

    life = asyncio.create_task(live())
    await asyncio.wait({life, asyncio.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED)
    yield app
    over.set()
    await life
    if before is not None:
        await bind(before)


@pytest.fixture
async def database(app: Litestar) -> AsyncDatabase[dict[str, Any]]:
    """The database of this worker, empty but for its indexes."""
    found: AsyncDatabase[dict[str, Any]] = app.state.database
    if find_database() is not found:
        # The test before opened another one in this process, as commands do.
        await bind(found)
    for name in await found.list_collection_names():
        if name != "meta":
            await found[name].delete_many({})
    _commands.seen.clear()
    return found


@pytest.fixture
async def without_mongodb(
    database: AsyncDatabase[dict[str, Any]], redis_url: str, tmp_path: Path
) -> AsyncGenerator[None]:
    """The documents look for a server where there is none: at a Unix socket, since the driver, when it is closed while
    it connects, leaves a TCP socket open."""
    url = f"mongodb://{quote(str(tmp_path / 'mongodb.sock'), safe='')}"
    away = settings_for(url, redis_url, LMS_MONGODB_TIMEOUT_SECONDS="0.5")
    client = open_mongodb(away)
    await bind(client[away.mongodb_database])
    yield
    await bind(database)
    await client.close()


@pytest.fixture
def commands(database: AsyncDatabase[dict[str, Any]]) -> Commands:
    return _commands


@pytest.fixture
def accounts(app: Litestar) -> Accounts:
    return app.state.accounts


@pytest.fixture
async def client(app: Litestar, database: AsyncDatabase[dict[str, Any]]) -> AsyncGenerator[httpx.AsyncClient]:
    """A visitor."""
    async with open_client(app) as visitor:
        yield visitor


def open_client(app: Litestar, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://lms.test/api/v1", headers=headers)


async def token_for(accounts: Accounts, user: User) -> str:
    """An access token of a new sign-in that has just proved who they are, without the cost of a password."""
    now = clock.utc_now()
    expires_at = now + timedelta(days=1)
    sign_in = SignIn(user_id=user.id, nonce="nonce", rotated_at=now, proved_at=now, expires_at=expires_at)
    await sign_in.insert()
    return accounts.keys.issue(user.id, sign_in.id, user.role, user.auth_epoch, now)


@pytest.fixture
async def client_for(
    app: Litestar, accounts: Accounts, database: AsyncDatabase[dict[str, Any]]
) -> AsyncGenerator[ClientFor]:
    """`await client_for(sam)` is Sam's signed-in client."""
    opened: list[httpx.AsyncClient] = []

    async def sign_in(user: User) -> httpx.AsyncClient:
        opened.append(open_client(app, Authorization=f"Bearer {await token_for(accounts, user)}"))
        return opened[-1]

    yield sign_in
    for one in opened:
        await one.aclose()


async def _stored(name: str, role: Role) -> User:
    return await a_user(name, role, verified=True).insert()


@pytest.fixture
async def ivy(database: AsyncDatabase[dict[str, Any]]) -> User:
    """The instructor who owns the course."""
    return await _stored("Ivy", Role.INSTRUCTOR)


@pytest.fixture
async def oscar(database: AsyncDatabase[dict[str, Any]]) -> User:
    """Another instructor, who has nothing to do with it."""
    return await _stored("Oscar", Role.INSTRUCTOR)


@pytest.fixture
async def sam(database: AsyncDatabase[dict[str, Any]]) -> User:
    """The student."""
    return await _stored("Sam", Role.STUDENT)


@pytest.fixture
async def stella(database: AsyncDatabase[dict[str, Any]]) -> User:
    """Another student."""
    return await _stored("Stella", Role.STUDENT)


@pytest.fixture
async def ada(database: AsyncDatabase[dict[str, Any]]) -> User:
    """The administrator."""
    return await _stored("Ada", Role.ADMIN)


@pytest.fixture
async def course(ivy: User) -> Course:
    """Ivy's published course with two required lessons."""
    return await a_course(ivy.id).insert()


class HeldClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def held_clock() -> Generator[HeldClock]:
    held = HeldClock()
    clock.set_source(lambda: held.now)
    yield held
    clock.set_source(None)
