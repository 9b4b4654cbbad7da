"""Which format a folder has is found by looking; a folder of course folders holds several courses."""

from pathlib import Path

import msgspec

from lms.loading.faults import Faults
from lms.loading.files import SourceFolder, as_text
from lms.loading.mdbook import read_mdbook
from lms.loading.native import COURSE_FILE, read_native
from lms.loading.source import SourceCourse

READERS = {COURSE_FILE: read_native, "book.toml": read_mdbook}
"""Each format by the file that tells it. Where a folder has both, ours counts."""

LOOKED_FOR = "course.yaml, or book.toml with src/SUMMARY.md"


class Found(msgspec.Struct, kw_only=True):
    """One course folder as read: the course where it could be made out, and everything found in its files."""

    name: str
    course: SourceCourse | None
    faults: Faults


def read_path(path: Path, source: str | None, prefix: str = "") -> list[Found]:
    """The course in `path`, or each of the courses below it."""
    faults = Faults()
    if not path.is_dir():
        message = "This is no folder." if path.exists() else "There is no such folder."
        faults.error("no_folder", message, as_text(path), hint=f"Give a folder with {LOOKED_FOR}.")
        return [Found(name=as_text(path), course=None, faults=faults)]
    if _format_of(path):
        return [_read_course(path, source, prefix)]
    return _read_collection(SourceFolder(path, prefix), source, faults)


def _format_of(path: Path) -> str | None:
    return next((name for name in READERS if (path / name).exists()), None)


def _read_course(path: Path, source: str | None, prefix: str) -> Found:
    faults = Faults()
    folder = SourceFolder(path, prefix)
    course = READERS[_format_of(path) or COURSE_FILE](folder, source, faults)
    return Found(name=folder.name, course=course, faults=faults)


def _read_collection(folder: SourceFolder, source: str | None, faults: Faults) -> list[Found]:
    """What is no course is left alone; with no course at all, that is the fault."""
    courses: list[Found] = []
    for entry in folder.children("", faults):
        if not folder.holds(entry.name):
            faults.error("outside_source", "This link leads out of the folder.", folder.shown(entry.name))
        elif entry.is_dir() and _format_of(entry):
            courses.append(_read_course(entry, source, folder.shown(entry.name)))
        else:
            message = f"Not loaded: no folder with {LOOKED_FOR}."
            faults.note("not_loaded", message, folder.shown(entry.name))
    if not courses:
        message = f"There is no course here: no {LOOKED_FOR}, and no folder that has one."
        faults.error("no_course", message, folder.shown("."))
    rest = [Found(name=folder.name, course=None, faults=faults)] if faults.found else []
    return courses + rest
