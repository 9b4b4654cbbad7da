"""The commands for the audit log."""

import sys

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
    faults, head = run(_verify(dict(expected)))
    if as_json:
        print_json({"head": head, "faults": faults})
    elif faults:
        for fault in faults[:MOST_SHOWN]:
            click.echo(f"entry {fault['sequence']} {fault['problem']}", err=True)
        if len(faults) > MOST_SHOWN:
            click.echo(f"and {len(faults) - MOST_SHOWN} more", err=True)
    else:
        click.echo(f"The audit log is whole. Its head is {head}")
    sys.exit(EXIT_FAILED if faults else 0)


async def _verify(expected: dict[int, str]) -> tuple[list[dict[str, int | str]], str]:
    from lms.audit.chain import Verified, verify

    verified = Verified()
    async with open_database():
        faults: list[dict[str, int | str]] = [
            {"sequence": one.sequence, "problem": one.problem} async for one in verify(verified, expected)
        ]
    return faults, f"{verified.entries}:{verified.head}"
