"""`lms load` beside a raw `insert_many` of the same courses, whose files are read and looked at by nobody."""

import asyncio
import time
from pathlib import Path
from typing import Any

from pymongo import WriteConcern

from lms.ids import new_id
from lms.loading.load import LoadOptions, load
from scripts.measure.running import Race, Result, Run, count_commands, race
from scripts.measure.seed import TEXT
from scripts.measure.world import System

COURSES = 25
MODULES = 4
LESSONS = 20
FILES = COURSES * (1 + MODULES + LESSONS)
"""What counts as a document: each course.yaml, module.yaml and lesson."""


async def measure_load(system: System, rounds: int) -> Result:
    folder = system.directory / "courses"
    await asyncio.to_thread(_write_courses, folder)

    async def product(number: int) -> Run:
        options = LoadOptions(source=f"bench-{number}", instructor_email="ivy@school.example", publish=True)
        return await _timed(system, _load(folder, options))

    async def floor(number: int) -> Run:
        made = await system.database["courses"].find({"source": "bench-0"}).to_list()
        named = [
            {**one, "_id": new_id(), "slug": f"bare-{number}-{place}", "source": f"bare-{number}"}
            for place, one in enumerate(made)
        ]
        return await _timed(system, _insert(system, folder, named))

    facts = Race("load", f"`lms load`, {COURSES} courses, files", 0.5, 1 / FILES, "files")
    return await race(facts, rounds, product, floor)


async def _load(folder: Path, options: LoadOptions) -> None:
    report = await load([folder], options)
    if report.exit_code or not all(course.applied for course in report.courses):
        raise SystemExit(f"load: {report.courses[0]}")


async def _insert(system: System, folder: Path, courses: list[dict[str, Any]]) -> None:
    """Read the files as bytes, and store the courses that the product made of them once, under other names."""
    await asyncio.to_thread(_read, folder)
    collection = system.database.get_collection("courses", write_concern=WriteConcern("majority"))
    await collection.insert_many(courses)


def _read(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()]


async def _timed(system: System, work: Any) -> Run:
    commands, cpu, started = await count_commands(system.database), time.process_time(), time.perf_counter()
    await work
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Run(FILES, seconds, cpu, (await count_commands(system.database) - commands) / FILES)


def _write_courses(folder: Path) -> None:
    for course in range(COURSES):
        path = folder / f"tidal-{course}"
        for module in range(MODULES):
            inside = path / f"{module + 1:02}-part"
            inside.mkdir(parents=True)
            _write(inside / "module.yaml", f"id: m{module}\ntitle: Part {module + 1}\n")
            for lesson in range(LESSONS // MODULES):
                head = f"---\nid: l{module}-{lesson}\ntitle: Square metre {lesson + 1}\nduration_minutes: 7\n---\n"
                _write(inside / f"{lesson + 1:02}-square.md", f"{head}\n# Square metre\n\n{TEXT * 6}")
        head = (
            f"id: tidal-{course}\ntitle: Tidal zone {course}\ndescription: Walks.\ncategory: biology\ntags: [plants]\n"
        )
        _write(path / "course.yaml", head)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
