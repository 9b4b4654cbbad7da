"""Source folders for tests, written from a mapping of paths to texts."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lms.loading.detect import Found, read_path
from lms.loading.faults import Fault
from lms.loading.load import LoadOptions, LoadReport, load

DATA = Path(__file__).parents[2].parent / "shared" / "data"
DEMO = Path(__file__).parents[2] / "lms" / "demo" / "courses"

TIDES = {
    "course.yaml": "id: tides\ntitle: Plants of the tidal zone\ntags: [plants, sea]\n",
    "01-first-steps/module.yaml": "title: First steps\n",
    "01-first-steps/01-hello.md": "---\nduration_minutes: 5\npreview: true\n---\n# Hello\n\nSalt and light.\n",
    "01-first-steps/02-eelgrass.md": "---\ntitle: Eelgrass\n---\nIt flowers under water.\n",
    "02-shore/01-salt.md": "# Salt\n\nHow plants bear it.\n",
}
"""A small course without a fault."""


def write_tree(root: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read_tree(root: Path, files: Mapping[str, str | bytes], source: str | None = None) -> Found:
    [found] = read_path(write_tree(root, files), source)
    return found


class School:
    """A folder of sources, at first with the course TIDES, which a test changes and loads."""

    def __init__(self, root: Path, instructor_email: str) -> None:
        self.root = root
        self.files: dict[str, str | bytes] = {f"tides/{name}": text for name, text in TIDES.items()}
        self.instructor_email = instructor_email

    def write(self) -> Path:
        shutil.rmtree(self.root, ignore_errors=True)
        return write_tree(self.root, self.files)

    async def load(self, *names: str, **options: Any) -> LoadReport:
        """Load the folders of these names, without names the whole folder."""
        root = self.write()
        given: dict[str, Any] = {"instructor_email": self.instructor_email} | options
        return await load([root / name for name in names] or [root], LoadOptions(**given))


def places(faults: list[Fault]) -> list[tuple[str, int, int, str]]:
    return [(fault.file, fault.line, fault.column, fault.code) for fault in faults]


def comprehensive_rust() -> Path:
    book = DATA / "comprehensive-rust"
    if not book.is_dir():
        pytest.skip("the data set comprehensive-rust is not on this machine")
    return book
