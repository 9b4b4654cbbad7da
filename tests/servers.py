"""Real servers for the whole session, started for whoever asks first. The quick tier asks for none."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from lms.embedded import EmbeddedServer, start_mongod, start_valkey


class SessionServers:
    """A mongod and a Valkey in an event loop of their own; with xdist the controller starts them for all workers."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="lms-tests-"))
        self.running: list[EmbeddedServer] = []

    def start(self) -> dict[str, str]:
        urls = {name: os.environ.get(f"LMS_TEST_{name.upper()}_URL", "") for name in ("mongodb", "redis")}
        if not urls["mongodb"]:
            urls["mongodb"] = self._run(start_mongod(self.directory / "mongodb"))
        if not urls["redis"]:
            urls["redis"] = self._run(start_valkey(self.directory / "valkey"))
        return urls

    def _run(self, starting: Awaitable[EmbeddedServer]) -> str:
        server = self.loop.run_until_complete(starting)
        self.running.append(server)
        return server.url

    def stop(self) -> None:
        for server in self.running:
            self.loop.run_until_complete(server.stop())
        self.loop.close()
        shutil.rmtree(self.directory, ignore_errors=True)


URLS = pytest.StashKey[dict[str, str]]()
SERVERS = pytest.StashKey[SessionServers]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The controller of xdist hands the addresses to each worker, but for the tier that needs none."""
    if node.config.getoption("markexpr") != "quick":
        node.workerinput["lms_servers"] = json.dumps(_urls(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    servers = config.stash.get(SERVERS, None)
    if servers is not None:
        servers.stop()


def _urls(config: pytest.Config) -> dict[str, str]:
    if URLS not in config.stash:
        given = getattr(config, "workerinput", {}).get("lms_servers")
        if given is None:
            config.stash[SERVERS] = SessionServers()
            config.stash[URLS] = config.stash[SERVERS].start()
        else:
            config.stash[URLS] = json.loads(given)
    return config.stash[URLS]


@pytest.fixture(scope="session")
def mongodb_url(pytestconfig: pytest.Config) -> str:
    return _urls(pytestconfig)["mongodb"]


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config) -> str:
    return _urls(pytestconfig)["redis"]


class SmtpSink:
    """A real mail server on the loopback address that keeps what it takes, and fails as it is told."""

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[EmailMessage] = []
        """What was taken and answered with 250, oldest first."""
        self.held: list[EmailMessage] = []
        """What has come in whole and is not answered yet."""
        self._refusals: dict[str, str] = {}
        self._answering = asyncio.Event()
        self._answering.set()
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    def stall_before_reply(self) -> None:
        """Take whole mails and leave the sender waiting for the answer, until `release`."""
        self._answering.clear()

    def release(self) -> None:
        self._answering.set()

    def refuse(self, reply: str, *, at: Literal["RCPT", "DATA"] = "DATA") -> None:
        """Answer so, such as `451 4.3.0 Try again later` or `550 5.1.1 Nobody here`, until `accept`."""
        self._refusals[at] = reply

    def accept(self) -> None:
        self._refusals.clear()

    async def wait_for(self, count: int, timeout: float = 20.0) -> list[EmailMessage]:
        """Until `count` mails were taken. Raises TimeoutError."""
        return await self._until(self.messages, count, timeout)

    async def wait_for_held(self, count: int, timeout: float = 20.0) -> list[EmailMessage]:
        """Until `count` senders wait for the answer to a whole mail. Raises TimeoutError."""
        return await self._until(self.held, count, timeout)

    async def _until(self, grown: list[EmailMessage], count: int, timeout: float) -> list[EmailMessage]:
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: len(grown) >= count)
        return list(grown)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if "RCPT" in self._refusals:
            return self._refusals["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        if "DATA" in self._refusals:
            return self._refusals["DATA"]
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        if not self._answering.is_set():
            await self._hold(message)
        self.messages.append(message)
        await self._tell()
        return "250 Message accepted"

    async def _hold(self, message: EmailMessage) -> None:
        """Ends also when the sender goes away: aiosmtpd cancels what it does for a lost connection."""
        self.held.append(message)
        await self._tell()
        try:
            await self._answering.wait()
        finally:
            self.held.remove(message)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def running_sink() -> AsyncGenerator[SmtpSink]:
    sink, loop = SmtpSink(), asyncio.get_running_loop()
    connections: list[SMTP] = []

    def connect() -> SMTP:
        connections.append(SMTP(sink, loop=loop, enable_SMTPUTF8=True))
        return connections[-1]

    server = await loop.create_server(connect, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        sink.release()
        for one in connections:
            if one.transport is not None:
                one.transport.close()
        await server.wait_closed()


@pytest.fixture
async def smtp_sink() -> AsyncGenerator[SmtpSink]:
    async with running_sink() as sink:
        yield sink
