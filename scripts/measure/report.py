"""What the run says: a table for people, JSON for programs."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import rich_click as click

from scripts.measure.running import Result

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
COLUMNS = ("case", "rate/s", "p50 ms", "p99 ms", "CPU µs", "commands", "floor/s", "floor's", "ratio", "spread", "aim")


@dataclass(slots=True)
class Report:
    """`api_mebibytes` is what the API process takes after all that was asked of it."""

    enrollments: int
    start_seconds: float
    api_mebibytes: float = 0.0
    results: list[Result] = field(default_factory=list[Result])

    def add(self, one: Result) -> None:
        self.results.append(one)
        click.echo(f"{one.case:<12} {one.rps:8.0f}/s  floor {one.floor_rps:8.0f}/s  ratio {one.ratio:.2f}", err=True)


def as_table(results: list[Result]) -> str:
    """Markdown, as it stands in the README."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *map(_cells, results)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _cells(one: Result) -> tuple[str, ...]:
    return (
        one.title,
        f"{one.rps:,.0f}",
        _number(one.p50_ms, ".1f"),
        _number(one.p99_ms, ".1f"),
        _number(one.cpu_us, ",.0f"),
        _number(one.db_commands, "g"),
        f"{one.floor_rps:,.0f}",
        _number(one.floor_db_commands, ".2g"),
        f"**{one.ratio:.2f}**",
        f"{one.lowest:.2f} to {one.highest:.2f}",
        _number(one.aim, "g"),
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def as_text(report: Report) -> str:
    start, memory = f"{report.start_seconds:.2f} s", f"{report.api_mebibytes:.0f} MiB"
    told = f"{report.enrollments:,} enrolments. The API was ready {start} after its start; after this it has {memory}."
    return f"{as_table(report.results)}\n\n{told}"


def write_readme(report: Report, readme: Path) -> None:
    """Put the table where the README has the one before."""
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n{as_text(report)}\n{END}{after}", encoding="utf-8")


def write_json(report: Report, path: Path) -> None:
    told = [msgspec.to_builtins(one) | {"spread": one.spread} for one in report.results]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))
