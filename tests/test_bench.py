"""`scripts/bench` measures: briefly here, since no speed is asserted, only that it tells it."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.measure.report import BEGIN, COLUMNS, END, Report, as_table, write_readme
from scripts.measure.running import NAMES, Result

ROOT = Path(__file__).parents[1]
KEYS = {
    *("case", "rps", "p50_ms", "p99_ms", "cpu_us", "db_commands", "floor_rps", "floor_db_commands", "ratio", "spread"),
}
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed; apt-get install wrk")


async def bench(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.measure", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def a_result(**fields: Any) -> Result:
    values: dict[str, Any] = {
        "case": "list",
        "title": "a list",
        "rps": 1234.5,
        "p50_ms": 7.01,
        "p99_ms": None,
        "cpu_us": 236.4,
        "db_commands": 0.0,
        "floor_rps": 921.0,
        "floor_p99_ms": None,
        "floor_cpu_us": 861.0,
        "floor_db_commands": 1.0,
        "ratio": 1.34,
        "lowest": 1.2,
        "highest": 1.5,
        "aim": 0.8,
    }
    return Result(**(values | fields))


@needs_wrk
async def test_it_measures_product_and_floor_and_writes_what_it_found(tmp_path: Path) -> None:
    cases = ("course", "progress", "enroll", "load")
    chosen = [word for case in cases for word in ("--case", case)]
    file = tmp_path / "bench.json"
    code, output = await bench("--rounds", "1", "--seconds", "1", "--json", str(file), *chosen)
    assert code == 0, output
    told = json.loads(file.read_text())
    assert [one["case"] for one in told] == list(cases)
    for one in told:
        assert one.keys() >= KEYS
        assert one["rps"] > 0
        assert one["ratio"] == pytest.approx(one["rps"] / one["floor_rps"])
        assert f"**{one['ratio']:.2f}**" in output
    assert [one["floor_db_commands"] for one in told[:3]] == [1, 1, 2]
    assert told[0]["db_commands"] == 2
    assert "The API was ready" in output


@needs_wrk
async def test_a_flame_graph_shows_where_the_time_goes() -> None:
    code, output = await bench("--profile", "course")
    assert code == 0, output
    drawn = (ROOT / ".lms" / "profiles" / "course.svg").read_text()
    assert drawn.startswith("<?xml")
    assert "get_course" in drawn


async def test_a_case_that_there_is_not_is_refused() -> None:
    code, output = await bench("--case", "everything")
    assert code == 2
    assert "list-kept" in output


def test_the_table_has_what_was_measured_and_leaves_out_what_was_not() -> None:
    line = as_table([a_result()]).splitlines()[-1]
    assert line == "| a list | 1,234 | 7.0 |  | 236 | 0 | 921 | 1 | **1.34** | 1.20 to 1.50 | 0.8 |"


def test_the_readme_has_a_table_that_it_made() -> None:
    _, rest = (ROOT / "README.md").read_text(encoding="utf-8").split(BEGIN)
    table = rest.split(END)[0].strip().splitlines()
    assert table[0] == f"| {' | '.join(COLUMNS)} |"
    assert len([line for line in table if line.startswith("| ")]) == 2 + len(NAMES)
    assert "The API was ready" in table[-1]


def test_a_new_table_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(Report(enrollments=1500, start_seconds=1.2, api_mebibytes=99.6, results=[a_result()]), readme)
    lines = readme.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert "1,500 enrolments. The API was ready 1.20 s after its start; after this it has 100 MiB." in lines
