import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from lms import __version__, migrations
from lms.cli import cli
from lms.clock import utc_now
from tests.cli.conftest import Command, plain
from tests.promises.system import System
from tests.web.own_servers import running_mongod

Database = AsyncDatabase[dict[str, Any]]
HEAVY = ("litestar", "beanie", "pymongo", "redis", "uvicorn", "typst", "prometheus_client")
LOADED = f"""
import sys
from lms.cli import main
try:
    main()
finally:
    print(*sorted(set(sys.modules) & {set(HEAVY)!r}), file=sys.stderr)
"""
# Nobody listens at port 1.
DOWN = {"LMS_MONGODB_URL": "mongodb://127.0.0.1:1/", "LMS_MONGODB_TIMEOUT_SECONDS": "0.5"}
ADMIN = ("users", "create-admin", "--email", "ada@school.example", "--full-name", "Ada", "--password-stdin")


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


async def test_a_newcomer_is_told_where_to_start_and_what_exit_codes_mean(lms: Command) -> None:
    for option in ("--help", "-h"):
        text = plain((await lms(option)).stdout)
        assert "Start with lms dev" in text
        assert "lms COMMAND --help explains each command" in text
        assert "lms settings lists them" in text
        assert "Exit codes: 0 done; 1 failed" in text
        assert "2 a wrong option or LMS_* value" in text
        for (name, *rest), command in COMMANDS.items():
            assert rest or (name in text and plain(command.get_short_help_str(200)) in text.replace("lms migrate", ""))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
async def test_every_command_explains_itself(lms: Command, path: tuple[str, ...]) -> None:
    result = await lms(*path, "--help")
    assert result.exit_code == 0
    text, command = plain(result.stdout), COMMANDS[path]
    assert f"Usage: lms {' '.join(path)}" in text
    assert command.help is not None
    assert plain(command.help.split(".")[0].replace("`", "")) in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in text
            # The words of a choice say it themselves.
            assert parameter.help or isinstance(parameter.type, click.Choice), parameter.opts[0]


async def test_the_version_is_told(lms: Command) -> None:
    assert (await lms("--version")).stdout == f"lms, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("users", "--help"), ("keys",), ("settings",), ("migrate", "--wrong")]
)
async def test_a_light_command_loads_nothing_heavy(nowhere: System, arguments: tuple[str, ...]) -> None:
    _, _, errors = await run_lms(nowhere, "-c", LOADED, *arguments)
    assert errors.splitlines()[-1].split() == []


async def test_a_heavy_command_is_seen_to_load_what_it_needs(nowhere: System) -> None:
    """Else the test above could not fail."""
    _, _, errors = await run_lms(nowhere, "-c", LOADED, "openapi")
    assert {"litestar", "beanie"} <= set(errors.splitlines()[-1].split())


@pytest.mark.parametrize("path", [(), *COMMANDS], ids=" ".join)
async def test_an_unknown_option_is_refused(lms: Command, path: tuple[str, ...]) -> None:
    result = await lms(*path, "--nonsense")
    assert result.exit_code == 2
    assert "No such option '--nonsense'" in plain(result.stderr) or "No such option: --nonsense" in plain(result.stderr)


async def test_an_unknown_command_is_refused(lms: Command) -> None:
    result = await lms("nonsense")
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in plain(result.stderr)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LMS_BCRYPT_COST", "99"),
        ("LMS_LOG_LEVEL", "loud"),
        ("LMS_ENVIRONMENT", "staging"),
        ("LMS_MONGODB_URL", "http://127.0.0.1"),
        ("LMS_MONGODB_URL", "mongodb://127.0.0.1:port/"),
        ("LMS_MONGODB_URL", "mongodb://lms:p@ss:hidden@127.0.0.1/"),
        ("LMS_DATA_DIR", "/dev/null/nowhere"),
    ],
)
async def test_a_wrong_setting_is_one_line_with_its_name(lms: Command, name: str, value: str) -> None:
    result = await lms("migrate", **({"LMS_SECRET_KEY": ""} if name == "LMS_DATA_DIR" else {}), **{name: value})
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{name}: ")
    assert "hidden" not in line


async def test_all_wrong_settings_are_named_at_once(nowhere: System) -> None:
    nowhere.environ |= {"LMS_BCRYPT_COST": "99", "LMS_RATE_READS": "many", "LMS_GRACE_SECONDS": "-1"}
    code, output, errors = await run_lms(nowhere, "-m", "lms", "serve")
    assert (code, output) == (2, "")
    names = [line.split(":")[0] for line in errors.splitlines()]
    assert sorted(names) == ["LMS_BCRYPT_COST", "LMS_GRACE_SECONDS", "LMS_RATE_READS"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",),
        ("users", "list"),
        ("users", "activate", "a@school.example"),
        ("outbox", "retry"),
        ADMIN,
    ],
    ids=" ".join,
)
async def test_without_the_database_it_says_so_in_one_sentence(lms: Command, arguments: tuple[str, ...]) -> None:
    result = await lms(*arguments, stdin="correct horse battery", **DOWN)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MongoDB at LMS_MONGODB_URL cannot be used: ServerSelectionTimeoutError." in plain(result.stderr)
    assert "lms doctor" in plain(result.stderr)
    assert isinstance(result.exception, SystemExit)


async def test_without_the_database_nobody_sees_a_traceback(nowhere: System) -> None:
    code, output, errors = await run_lms(nowhere, "-m", "lms", "serve", "--migrate")
    assert (code, output) == (1, "")
    assert "Traceback" not in errors
    assert len([line for line in errors.splitlines() if plain(line)]) == 2, errors


async def test_who_looks_for_the_cause_sees_all_of_it(lms: Command) -> None:
    result = await lms("users", "list", **DOWN, LMS_LOG_LEVEL="DEBUG")
    assert isinstance(result.exception, PyMongoError)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with running_mongod(tmp_path_factory.mktemp("standalone")) as (url, _):
        yield url


@pytest.mark.parametrize("command", ["migrate", "serve"])
async def test_a_database_that_is_no_replica_set_is_refused(lms: Command, standalone: str, command: str) -> None:
    result = await lms(command, LMS_MONGODB_URL=standalone)
    assert result.exit_code == 1
    said = plain(result.stderr)
    assert "LMS_MONGODB_URL: this MongoDB is no replica set" in said
    assert "rs.initiate()" in said


async def test_two_migrations_at_once_both_succeed(nowhere: System, mongodb_url: str, database: Database) -> None:
    nowhere.environ |= {"LMS_MONGODB_URL": mongodb_url, "LMS_MONGODB_TIMEOUT_SECONDS": "4"}
    try:
        both = await asyncio.gather(*(run_lms(nowhere, "-m", "lms", "migrate") for _ in range(2)))
        assert [code for code, _, _ in both] == [0, 0], both
        outputs = sorted((output for _, output, _ in both), key=len)
        assert outputs[0] == "Nothing to do.\n"
        assert "index: users.email" in outputs[1]
    finally:
        await database.client.drop_database(nowhere.environ["LMS_MONGODB_DATABASE"])


async def test_a_migration_that_does_not_end_is_told(
    lms: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lms_test_{uuid.uuid4().hex[:12]}"
    lock = {"_id": "migration_lock", "holder": "another", "until": utc_now() + timedelta(seconds=60)}
    # It would wait for half a minute.
    monkeypatch.setattr(migrations, "migrate_when_free", partial(migrations.migrate_when_free, seconds=-1))
    await database.client[name]["meta"].insert_one(lock)
    try:
        result = await lms("migrate", LMS_MONGODB_DATABASE=name)
    finally:
        await database.client.drop_database(name)
    assert result.exit_code == 1
    assert "Another migration is running" in plain(result.stderr)


async def test_a_machine_without_a_database_server_is_told_the_way_out(nowhere: System, tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "mongod"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'error: this machine is too old' >&2\nexit 1\n")
    broken.chmod(0o755)
    nowhere.environ |= {"LMS_MONGODB_URL": "", "PATH": f"{broken.parent}:{os.environ['PATH']}"}
    code, _, errors = await run_lms(nowhere, "-m", "lms", "dev")
    assert code == 1
    assert "mongod did not start: error: this machine is too old" in plain(errors)
    assert "Traceback" not in errors


async def run_lms(system: System, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, standard output and standard error of a Python process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=os.environ | system.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode(), errors.decode()


async def test_a_worker_without_a_queue_is_refused(lms: Command) -> None:
    result = await lms("worker", LMS_REDIS_URL="")
    assert (result.exit_code, plain(result.stderr)) == (
        2,
        "LMS_REDIS_URL: is empty; a worker takes its jobs from there",
    )
