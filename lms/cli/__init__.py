"""The `lms` command. Heavy modules are imported inside the commands, so that a light one starts at once."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import rich_click as click

from lms import __version__

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_MISUSED = 2

HEALTH_SECONDS = 3.0
FIRST_FAULT = 400

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.MAX_WIDTH = 100
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

HealthPort = click.option(
    "--health-port", type=click.IntRange(1, 65535), help="Serve /health/live, /health/ready and /metrics at this port."
)
HealthHost = click.option(
    "--health-host", default="127.0.0.1", show_default=True, help="Address of that port, for probes from outside."
)
AsJson = click.option("--json", "as_json", is_flag=True, help="Print data for programs instead of text for people.")


@click.group(
    context_settings=CONTEXT,
    epilog="Start with `lms dev`: it runs everything on this machine. `lms COMMAND --help` explains each command.\n\n"
    "Exit codes: 0 done; 1 failed, and the message says why; 2 a wrong option or LMS_* value, and nothing was done.",
)
@click.version_option(__version__, prog_name="lms")
def cli() -> None:
    """A headless learning backend: courses, enrolments, progress and certificates behind one REST API.

    All settings are LMS_* variables; `lms settings` lists them.
    """


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port of the API.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".lms"),
    show_default=True,
    envvar="LMS_DATA_DIR",
    show_envvar=True,
    help="Where data is kept.",
)
@click.option("--demo/--no-demo", default=True, show_default=True, help="Load the demo courses on the first start.")
def dev(host: str, port: int, data_dir: Path, demo: bool) -> None:
    """Run the whole system on this machine: databases, API, worker, scheduler and a mail catcher.

    Ctrl-C stops everything; data stays in the data directory. LMS_MONGODB_URL and LMS_REDIS_URL take real servers
    instead of the embedded ones.
    """
    from lms.dev import DevOptions, run_dev

    finish(run_dev(DevOptions(host=host, port=port, data_dir=data_dir, load_demo=demo)))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen at.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Number of API processes.")
@click.option("--migrate", "migrate_first", is_flag=True, help="Run `lms migrate` before.")
def serve(host: str, port: int, workers: int, migrate_first: bool) -> None:
    """Serve the API."""
    from lms.serving import serve as serve_api

    settings = checked_settings()
    if migrate_first:
        _migrate(as_json=False)
    run(_check_database())
    sys.exit(serve_api(settings, host=host, port=port, workers=workers))


@cli.command()
@HealthPort
@HealthHost
def worker(health_port: int | None, health_host: str) -> None:
    """Run jobs: mails, certificates and what the scheduler starts. Run as many as you need."""
    from lms.logs import configure_logging
    from lms.worker import run_worker

    settings = checked_settings()
    if not settings.redis_url:
        refuse(["LMS_REDIS_URL: is empty; a worker takes its jobs from there"])
    configure_logging(settings)
    finish(run_worker(settings, health_port=health_port, health_host=health_host))


@cli.command()
@HealthPort
@HealthHost
def scheduler(health_port: int | None, health_host: str) -> None:
    """Start periodic jobs. Any number may run; one leads and the others stand by."""
    from lms.logs import configure_logging
    from lms.scheduler import run_scheduler

    settings = checked_settings()
    configure_logging(settings)
    finish(run_scheduler(settings, health_port=health_port, health_host=health_host))


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the process.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Its port for health.")
@click.option("--live", is_flag=True, help="Ask only whether it runs, not whether it can work.")
def health(host: str, port: int, live: bool) -> None:
    """Ask a running process how it is: the health check of containers, which have no curl."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(host, port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/health/live" if live else "/health/ready")
        answer = connection.getresponse()
        click.echo(answer.read().decode(errors="replace"))
    except (OSError, HTTPException) as error:
        raise click.ClickException(f"Nobody answers at {host}:{port} ({type(error).__name__}).") from None
    finally:
        connection.close()
    sys.exit(EXIT_FAILED if answer.status >= FIRST_FAULT else 0)


@cli.command()
@AsJson
def migrate(as_json: bool) -> None:
    """Bring indexes and documents up to this version. Safe to run twice and at once."""
    _migrate(as_json=as_json)


def _migrate(*, as_json: bool) -> None:
    done = run(_migrated())
    if as_json:
        print_json({"done": done})
    else:
        click.echo("\n".join(done) if done else "Nothing to do.")


async def _migrated() -> list[str]:
    from lms.database import DOCUMENTS, connect
    from lms.migrations import migrate_when_free

    async with connect(checked_settings()) as database:
        await _check_replica_set(database)
        return await migrate_when_free(database, DOCUMENTS)


async def _check_database() -> None:
    """Where nobody answers the API comes up all the same, says that it is not ready, and works when MongoDB is back."""
    from pymongo.errors import ConnectionFailure, ExecutionTimeout

    from lms.database import connect

    async with connect(checked_settings()) as database:
        try:
            await _check_replica_set(database)
        except (ConnectionFailure, ExecutionTimeout) as error:
            click.echo(f"MongoDB at LMS_MONGODB_URL does not answer yet: {type(error).__name__}.", err=True)


async def _check_replica_set(database: Any) -> None:
    """Transactions need a replica set; without one nothing would work but reading."""
    if not (await database.client.admin.command("hello")).get("setName"):
        raise click.ClickException(
            "LMS_MONGODB_URL: this MongoDB is no replica set, which transactions need; one node is enough "
            "(start mongod with --replSet and run rs.initiate())."
        )


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and every fault, and stop.")
@click.option("--source", help="Name of the source, where the files give none.")
@click.option("--instructor", metavar="EMAIL", help="Who owns new courses. Default: the only administrator.")
@click.option("--publish", is_flag=True, help="Publish new courses at once; otherwise they are drafts.")
@click.option("--overwrite-edits", is_flag=True, help="Also replace what was edited in the app since the last load.")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def load(
    paths: tuple[Path, ...],
    dry_run: bool,
    source: str | None,
    instructor: str | None,
    publish: bool,
    overwrite_edits: bool,
    output: str,
) -> None:
    """Load courses from folders: our own format or an mdBook. Into the database, and not yet by LMS_API_URL.

    Exit code 0: done; 1: the files have faults, or there is no database; 2: refused, since something was edited in the
    app, changed meanwhile or would have no owner, and for an option that does not exist.
    """
    from lms.cli.remote import refuse_remote
    from lms.loading.load import LoadOptions
    from lms.loading.load import load as load_courses
    from lms.loading.show import print_report, to_json

    refuse_remote()

    async def loading() -> Any:
        from lms.database import connect

        async with connect(checked_settings()):
            options = LoadOptions(
                dry_run=dry_run,
                source=source,
                instructor_email=instructor,
                publish=publish,
                overwrite_edits=overwrite_edits,
            )
            return await load_courses(paths, options)

    report = run(loading())
    if output == "json":
        print_json(to_json(report))
    else:
        print_report(report)
    sys.exit(report.exit_code)


def checked_settings() -> Any:
    """The settings, or the names of those that cannot be used and exit code 2."""
    from lms.settings import SettingsError, load_settings

    try:
        return load_settings()
    except SettingsError as error:
        refuse(error.problems)


def refuse(problems: list[str]) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(EXIT_MISUSED)


def run(work: Coroutine[Any, Any, T], loop: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run) -> T:
    """The result of `work`; an outage is one line and exit code 1, not a traceback."""
    from pymongo.errors import PyMongoError

    from lms.embedded import EmbeddedUnavailable
    from lms.migrations import MigrationRunning
    from lms.settings import SettingsError

    try:
        return loop(work)
    except SettingsError as error:
        refuse(error.problems)
    except PyMongoError as error:
        if os.environ.get("LMS_LOG_LEVEL") == "DEBUG":
            raise
        raise click.ClickException(
            f"MongoDB at LMS_MONGODB_URL cannot be used: {type(error).__name__}. `lms doctor` says more."
        ) from None
    except MigrationRunning:
        raise click.ClickException("Another migration is running and did not end in time; try again.") from None
    except EmbeddedUnavailable as error:
        raise click.ClickException(str(error)) from None


def finish(work: Coroutine[Any, Any, int]) -> None:
    """For what runs until it is stopped: on uvloop, as the API does."""
    import uvloop

    sys.exit(run(work, uvloop.run))


def print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def main() -> None:
    # Registers the commands for operators.
    from lms.cli import api_keys, audit, courses, operating, people  # noqa: F401  # pyright: ignore[reportUnusedImport]

    cli(prog_name="lms")
