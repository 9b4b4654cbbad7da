"""A real provider in a process of its own, an app that knows it, and a browser between both."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from litestar import Litestar
from pymongo.asynchronous.database import AsyncDatabase

from lms.app import create_app
from lms.embedded import free_port
from lms.oidc.provider import Provider
from lms.settings import Settings
from tests.conftest import open_client, running, settings_for
from tests.oidc.browser import APP, Browser
from tests.oidc.idp.people import CLIENT_SECRET
from tests.oidc.rogue import Rogue, running_rogue

CALLBACK = "http://lms.test/api/v1/auth/oidc/{provider}/callback"
START_SECONDS = 60


@dataclass
class Idp:
    """The provider's process; `restart` gives it another signing key."""

    port: int
    directory: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}/o"

    async def start(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self.directory / "key.pem"
        path.write_bytes(pem)
        arguments = ("-m", "tests.oidc.idp", str(self.port), CALLBACK, str(path))
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            assert await self.process.stdout.readline() == b"ready\n"

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


@pytest.fixture(scope="session")
async def idp(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Idp]:
    found = Idp(free_port(), tmp_path_factory.mktemp("idp"))
    await found.start()
    yield found
    await found.stop()


@pytest.fixture(scope="session")
async def rogue() -> AsyncGenerator[Rogue]:
    async with running_rogue() as found:
        yield found


@pytest.fixture(scope="session")
def school_settings(mongodb_url: str, redis_url: str, idp: Idp, rogue: Rogue) -> Settings:
    known = {"issuer": idp.issuer, "client_id": "lms", "client_secret": CLIENT_SECRET}
    public = {"issuer": idp.issuer, "client_id": "lms-public"}
    bad = {"issuer": rogue.issuer, "client_id": "lms", "client_secret": "secret"}
    providers = [
        {"name": "school", "title": "School account", **known},
        {"name": "public", "title": "School account, public", **public},
        {"name": "rogue", "title": "Rogue", **bad},
        {"name": "strong", "title": "Rogue, trusted", **bad, "trusts_mfa": True},
    ]
    return settings_for(
        mongodb_url,
        redis_url,
        LMS_OIDC_PROVIDERS=json.dumps(providers),
        LMS_APP_URL=APP,
        LMS_REQUEST_TIMEOUT_SECONDS="8",
    )


@pytest.fixture(scope="session")
async def started_school(school_settings: Settings, app: Litestar) -> AsyncGenerator[Litestar]:
    async with running(create_app(school_settings)) as started:
        yield started


@pytest.fixture
def school(started_school: Litestar, rogue: Rogue, database: AsyncDatabase[dict[str, Any]]) -> Litestar:
    """An app that knows the providers, and has not asked any of them yet; the rogue one is honest so far."""
    rogue.reset()
    providers = started_school.state.providers
    providers._named |= {one.name: Provider(one, providers._fetcher) for one in providers.all()}
    return started_school


@pytest.fixture
async def api(school: Litestar) -> AsyncGenerator[httpx.AsyncClient]:
    async with open_client(school) as client:
        yield client


@pytest.fixture
async def browser(school: Litestar) -> AsyncGenerator[Browser]:
    async with Browser.open(school) as found:
        yield found


@pytest.fixture
async def other_browser(school: Litestar) -> AsyncGenerator[Browser]:
    async with Browser.open(school) as found:
        yield found
