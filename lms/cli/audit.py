"""The commands for the audit log."""

import sys
from dataclasses import dataclass, field
from datetime import timedelta

import rich_click as click

from lms.cli import EXIT_FAILED, AsJson, cli, print_json, run
from lms.cli.operating import open_database

MOST_SHOWN = 20


class Head(click.ParamType[tuple[int, str]]):
    """`SEQUENCE:HASH`, as `lms audit verify` and the log's lines `audit_appended` tell it."""

    name = "SEQUENCE:HASH"

    def convert(
        self, value: str | tuple[int, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        sequence, _, digest = value.partition(":")
        if not (sequence.isascii() and sequence.isdigit() and len(digest) == 64):  # noqa: PLR2004 - SHA-256 in hex
            self.fail("is a number, a colon, and 64 hexadecimal digits", param, ctx)
        return int(sequence), digest.lower()


@cli.group()
def audit() -> None:
    """The audit log: show whether it is as it was written."""


@audit.command("verify")
@click.option(
    "--expect", "expected", type=Head(), multiple=True, help="A head that was told before; it must still be there."
)
@AsJson
def verify(expected: tuple[tuple[int, str], ...], as_json: bool) -> None:
    """Read the whole log and show where it was changed, cut or put together anew.

    Keep the head that this prints somewhere else, and give it with --expect the next time: only so can be shown that
    nothing was taken off the end.
    """
    faults, head = run(_verify(dict(expected), tell=not as_json))
    if as_json:
        told = {"head": head, "faults": faults.count, "first_faults": faults.first, "waiting": faults.waiting}
        print_json(told)
    elif faults.waiting:
        click.echo(
            f"{faults.waiting} acts wait to be written down for more than a minute; is a worker running?", err=True
        )
    elif not faults.count:
        click.echo(f"The audit log is whole. Its head is {head}")
    elif faults.count > MOST_SHOWN:
        click.echo(f"and {faults.count - MOST_SHOWN} more", err=True)
    sys.exit(EXIT_FAILED if faults.count or faults.waiting else 0)


@dataclass(slots=True)
class Faults:
    """How many there are, and the first ones: a log that is all broken has as many as it has entries.

    `waiting` are acts that are not in the log yet and should be.
    """

    count: int = 0
    waiting: int = 0
    first: list[dict[str, int | str]] = field(default_factory=list[dict[str, int | str]])


async def _verify(expected: dict[int, str], *, tell: bool) -> tuple[Faults, str]:
    from lms.audit.chain import Verified, count_waiting, verify
    from lms.clock import utc_now

    verified, faults = Verified(), Faults()
    async with open_database():
        faults.waiting = await count_waiting(utc_now() - timedelta(minutes=1))
        async for one in verify(verified, expected):
            faults.count += 1
            if faults.count > MOST_SHOWN:
                continue
            faults.first.append({"sequence": one.sequence, "problem": one.problem})
            if tell:
                click.echo(f"entry {one.sequence} {one.problem}", err=True)
    return faults, f"{verified.entries}:{verified.head}"
