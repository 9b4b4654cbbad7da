"""`scripts/bench`."""

import asyncio
from pathlib import Path

import rich_click as click

from scripts.measure.cases import cases
from scripts.measure.report import print_table, write_json
from scripts.measure.running import Result, measure
from scripts.measure.world import system
from scripts.measure.wrk import find_wrk


@click.command()
@click.option(
    "--scale", type=click.IntRange(1_500), default=1_500, show_default=True, help="Enrolments in the database."
)
@click.option("--case", "chosen", multiple=True, metavar="NAME", help="Only this case; repeat it for several.")
@click.option("--rounds", type=click.IntRange(1, 50), default=5, show_default=True, help="Rounds of product and floor.")
@click.option("--seconds", type=click.IntRange(1, 60), default=3, show_default=True, help="Length of a round.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Also write the results here."
)
def bench(scale: int, chosen: tuple[str, ...], rounds: int, seconds: int, json_file: Path | None) -> None:
    """Measure the product beside its floor, on servers of its own and with production defaults."""
    find_wrk()
    results = asyncio.run(_run(scale, chosen, rounds, seconds))
    print_table(results)
    if json_file is not None:
        write_json(results, json_file)


async def _run(scale: int, chosen: tuple[str, ...], rounds: int, seconds: int) -> list[Result]:
    results: list[Result] = []
    async with system(scale) as running:
        api, floor = await running.start_api(), await running.start_floor()
        for case in cases(running, slots=2_000 * seconds):
            if not chosen or case.name in chosen:
                results.append(await measure(running, case, api, floor, rounds, seconds))
                one = results[-1]
                click.echo(
                    f"{one.case:<12} {one.rps:8.0f}/s  floor {one.floor_rps:8.0f}/s  ratio {one.ratio:.2f}", err=True
                )
    return results


bench()
