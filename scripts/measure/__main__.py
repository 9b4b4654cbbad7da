"""`scripts/bench`."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import rich_click as click

from scripts.measure.alike import compare, tell
from scripts.measure.beside import measure_beside
from scripts.measure.cases import Case, cases
from scripts.measure.hot_report import explain_hot
from scripts.measure.jobs import measure_jobs
from scripts.measure.loading import measure_load
from scripts.measure.profiling import profile
from scripts.measure.report import Report, as_text, write_json, write_readme
from scripts.measure.running import NAMES, Result, measure
from scripts.measure.world import ROOT, Process, System, system
from scripts.measure.wrk import find_wrk

BATCHES = {"jobs": measure_jobs, "load": measure_load}
SMALLEST = 1_500


@dataclass(frozen=True, slots=True)
class Options:
    scale: int
    names: tuple[str, ...]
    rounds: int
    seconds: int


@click.command()
@click.option("--scale", type=click.IntRange(SMALLEST), default=SMALLEST, show_default=True, help="Enrolments there.")
@click.option("--case", "names", type=click.Choice(NAMES), multiple=True, help="Only this case; repeat it for several.")
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="Rounds of product and floor.")
@click.option("--seconds", type=click.IntRange(1, 60), default=3, show_default=True, help="Length of a round.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results here.")
@click.option("--profile", "profiled", type=click.Choice(NAMES[:8]), help="Only draw its flame graph in .lms/profiles.")
@click.option("--readme", is_flag=True, help="Put the table into the README.")
@click.option("--explain", is_flag=True, help="Instead judge what each hot request asks of the database.")
@click.option("--alike", "pairs", type=click.IntRange(10, 10_000), help="Instead compare answers by so many pairs.")
def bench(
    scale: int,
    names: tuple[str, ...],
    rounds: int,
    seconds: int,
    file: Path | None,
    profiled: str | None,
    *,
    explain: bool,
    readme: bool,
    pairs: int | None,
) -> None:
    """Measure the product beside its floor, on servers of its own and with production defaults."""
    if explain and names:
        raise click.UsageError("--explain goes through the whole hot list, not through cases.")
    if readme and names:
        raise click.UsageError("The README has all cases.")
    if pairs is not None:
        raise SystemExit(tell(asyncio.run(compare(pairs))))
    if explain:
        raise SystemExit(explain_hot(scale, file))
    find_wrk()
    if profiled is not None:
        asyncio.run(_profile(scale, profiled))
        return
    report = asyncio.run(_run(Options(scale, names or NAMES, rounds, seconds)))
    click.echo(as_text(report))
    if file is not None:
        write_json(report, file)
    if readme:
        write_readme(report, ROOT / "README.md")


async def _run(options: Options) -> Report:
    async with system(options.scale) as running:
        api, floor = await running.start_api(), await running.start_floor()
        report = Report(options.scale, api.start_seconds)
        over_http = {case.name: case for case in cases(running, slots=2_000 * options.seconds)}
        await _over_http(running, options, report, over_http, api, floor)
        report.api_mebibytes = api.resident_mebibytes()
        for name, batch in BATCHES.items():
            if name in options.names:
                report.add(await batch(running, options.rounds))
    return report


async def _over_http(
    running: System, options: Options, report: Report, by_name: dict[str, Case], api: Process, floor: Process
) -> None:
    forgetful = await running.start_api("forgetful", LMS_CATALOGUE_SECONDS="0")
    for name in options.names:
        if name == "beside":
            both = by_name["course"], by_name["login"]
            report.add(await measure_beside(running, *both, api, options.rounds, options.seconds))
        elif name in by_name:
            case = by_name[name]
            process = api if case.cache else forgetful
            report.add(await _measured(running, case, process, floor, options))


async def _measured(running: System, case: Case, api: Process, floor: Process, options: Options) -> Result:
    return await measure(running, case, api, floor, options.rounds, options.seconds)


async def _profile(scale: int, name: str) -> None:
    async with system(scale) as running:
        case = next(one for one in cases(running, slots=20_000) if one.name == name)
        await profile(running, case, await running.start_api())


bench()
