"""The commands of operators: failed jobs, keys, settings, the doctor."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import rich_click as click

from lms.cli import EXIT_FAILED, AsJson, checked_settings, cli, print_json, run

SHOWN = 1_000


@asynccontextmanager
async def open_database() -> AsyncGenerator[None]:
    from lms.cli.remote import refuse_remote
    from lms.database import connect

    refuse_remote()
    async with connect(checked_settings()):
        yield


def as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@cli.group()
def outbox() -> None:
    """Jobs that gave up: list them, and try them again."""


@outbox.command("list")
@AsJson
def list_failed(as_json: bool) -> None:
    """List the events whose jobs gave up, with their last error."""

    async def found() -> list[dict[str, Any]]:
        from lms.outbox.jobs import failed

        async with open_database():
            events = await failed(SHOWN)
        return [
            {"id": str(one.id), "kind": one.kind, "jobs": one.todo, "failed_at": one.failed_at, "error": one.last_error}
            for one in events
        ]

    events = run(found())
    if as_json:
        print_json(events)
        return
    for one in events:
        click.echo(f"{one['id']}  {', '.join(one['jobs'])}\n    {one['error']}")
    if not events:
        click.echo("No job has given up.")


@outbox.command("retry")
@click.argument("event_id", type=click.UUID, required=False)
def retry(event_id: UUID | None) -> None:
    """Try failed jobs again: one event's, or without an id all of them."""

    async def retried() -> int:
        from lms.outbox.jobs import retry_failed

        async with open_database():
            return await retry_failed(event_id)

    count = run(retried())
    if event_id is not None and not count:
        raise click.ClickException(f"{event_id} has not given up; `lms outbox list` shows what has.")
    click.echo(f"{count} due again.")


@cli.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write one file for each into this folder instead, for LMS_X_FILE; what is there already stays as it is.",
)
def keys(directory: Path | None) -> None:
    """Print fresh secrets for a production environment, as lines of a settings file."""
    from lms.keys import new_secrets, write_secrets

    if directory is None:
        click.echo("\n".join(f"LMS_{name.upper()}={value}" for name, value in new_secrets().items()))
        return
    try:
        written = write_secrets(directory)
    except FileExistsError as error:
        raise click.ClickException(f"{error} is there already, and stays: a pepper can never change.") from None
    except OSError as error:
        raise click.ClickException(f"{directory}: {error.strerror}.") from None
    click.echo("\n".join(map(str, written)))


@cli.command()
@click.option("--markdown", is_flag=True, help="Print the table of the README.")
@AsJson
def settings(markdown: bool, as_json: bool) -> None:
    """List every setting: name, value here, what it does. Secrets are never shown."""
    from lms import settings_table

    if markdown:
        click.echo(settings_table.as_markdown())
        return
    rows = settings_table.rows(checked_settings())
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']} = {row['value']}\n    {row['description']}")


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI 3.1 document."""
    from lms.app import create_app
    from lms.web.openapi import build_schema

    click.echo(build_schema(create_app(checked_settings())).decode())


@cli.command()
@AsJson
def doctor(as_json: bool) -> None:
    """Check settings, database, indexes, queue, mail and storage, and say what to do."""
    from lms.doctor import examine

    findings = run(examine(checked_settings()))
    if as_json:
        print_json(findings)
    else:
        marks = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}
        for one in findings:
            mark, color = marks[one.state]
            click.echo(f"{click.style(mark, fg=color)}  {one.part:<10} {one.message}")
            if one.remedy:
                click.echo(f"                 -> {one.remedy}")
    sys.exit(EXIT_FAILED if any(one.state == "fail" for one in findings) else 0)
