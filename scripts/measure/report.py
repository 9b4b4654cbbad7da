"""What the run says: a table for people, JSON for programs."""

from pathlib import Path

import msgspec
import rich_click as click

from scripts.measure.running import Result

COLUMNS = (
    "case",
    "rate/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "commands",
    "floor/s",
    "floor commands",
    "ratio",
    "spread",
    "aim",
)


def as_table(results: list[Result]) -> str:
    """Markdown, as it stands in the README."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *map(_cells, results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(one: Result) -> tuple[str, ...]:
    return (
        one.title,
        f"{one.rps:,.0f}",
        f"{one.p50_ms:.1f}",
        f"{one.p99_ms:.1f}",
        f"{one.cpu_us:,.0f}",
        f"{one.db_commands:g}",
        f"{one.floor_rps:,.0f}",
        f"{one.floor_db_commands:g}",
        f"**{one.ratio:.2f}**",
        f"{one.lowest:.2f} to {one.highest:.2f}",
        "" if one.aim is None else f"{one.aim:g}",
    )


def print_table(results: list[Result]) -> None:
    click.echo(as_table(results))


def write_json(results: list[Result], path: Path) -> None:
    told = [msgspec.to_builtins(one) | {"spread": one.spread} for one in results]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))
