"""`await lms("users", "list")` runs a command in this process, in a thread, as each command has its own event loop."""

import asyncio
import gc
import re
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lms.cli import api_keys, audit, cli, courses, operating, people
from lms.settings import Settings
from tests.promises.system import System

Command = Callable[..., Awaitable[Result]]
registered = {api_keys.api_keys.name, audit.audit.name, courses.courses.name, operating.outbox.name, people.users.name}
assert registered <= cli.commands.keys()


def environ_of(settings: Settings, data_dir: Path) -> dict[str, str | None]:
    return {
        "LMS_DATA_DIR": str(data_dir),
        "LMS_MONGODB_URL": settings.mongodb_url,
        "LMS_MONGODB_DATABASE": settings.mongodb_database,
        "LMS_REDIS_URL": settings.redis_url,
        "LMS_REDIS_PREFIX": settings.redis_prefix,
        "LMS_SECRET_KEY": settings.secret_key.get_secret_value(),
        "LMS_PASSWORD_PEPPER": settings.password_pepper.get_secret_value(),
        "LMS_JWT_KEYS": settings.jwt_keys.get_secret_value(),
        "LMS_BCRYPT_COST": "4",
        "LMS_PUBLIC_URL": settings.public_url,
        "LMS_MONGODB_TIMEOUT_SECONDS": "2",
    }


@pytest.fixture
def lms(settings: Settings, tmp_path: Path) -> Command:
    environ = environ_of(settings, tmp_path)

    async def run(*arguments: str, stdin: str = "", **more: str) -> Result:
        return await asyncio.to_thread(_invoke, CliRunner(env=environ | more), arguments, stdin)

    return run


def _invoke(runner: CliRunner, arguments: tuple[str, ...], stdin: str) -> Result:
    with warnings.catch_warnings():
        # A client of PyMongo that is closed at once leaves the connection that it was opening to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        result = runner.invoke(cli, arguments, input=stdin, prog_name="lms")
        result.exc_info = None  # pyright: ignore[reportAttributeAccessIssue]
        error: BaseException | None = result.exception
        while error is not None:
            # The frames hold that client.
            error.__traceback__ = None
            error = error.__context__
        gc.collect()
    return result


@pytest.fixture
def nowhere(settings: Settings, tmp_path: Path) -> System:
    """An installation whose database is not there."""
    system = System(tmp_path, "mongodb://127.0.0.1:1/", settings.redis_url, LMS_MONGODB_TIMEOUT_SECONDS="0.5")
    system.environ |= {"COLUMNS": "200"}
    return system


def plain(text: str) -> str:
    """What is said, without the frame around it and the line breaks in it."""
    return " ".join(re.sub("[─│╭╮╰╯]", " ", text).split())
