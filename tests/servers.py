"""Real servers for the whole session, started for whoever asks first. The quick tier asks for none."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

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
    """The controller of xdist hands the addresses to each worker."""
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
