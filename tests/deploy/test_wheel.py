"""The package: everything that runs is in it and nothing else, with its types, its extras and its one version."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from lms import __version__
from tests.deploy.files import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.iterdir()
    assert path.name == f"lms-{__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_string(wheel.read(f"lms-{__version__}.dist-info/METADATA").decode())


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_holds_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "lms").rglob("*") if path.is_file()}
    info = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    expected = {name for name in package if "__pycache__" not in name}
    assert set(wheel.namelist()) == expected | {f"lms-{__version__}.dist-info/{name}" for name in info}
    assert {"lms/py.typed", "lms/certificates/template.typ", "lms/letters/letter.html"} <= expected
    assert {Path(name).suffix for name in expected} == {
        ".py",
        ".typed",
        ".typ",
        ".html",
        ".css",
        ".txt",
        ".md",
        ".yaml",
    }


def test_it_starts_as_lms(wheel: zipfile.ZipFile) -> None:
    entry_points = wheel.read(f"lms-{__version__}.dist-info/entry_points.txt").decode()
    assert entry_points.split() == ["[console_scripts]", "lms", "=", "lms.cli:main"]


def test_its_version_stands_in_one_place(metadata: Message, project: dict[str, Any]) -> None:
    assert metadata["Version"] == __version__
    assert project["dynamic"] == ["version"]
    assert "version" not in project


def test_its_extras_bring_what_they_promise(metadata: Message, project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras) == {"cjk", "embedded"}
    required = [one for one in metadata.get_all("Requires-Dist", []) if "extra == " in one]
    found = {extra: {name_of(one) for one in required if f"extra == '{extra}'" in one} for extra in extras}
    assert found == {extra: {name_of(one) for one in wanted} for extra, wanted in extras.items()}


def name_of(requirement: str) -> str:
    return re.split(r"[<>=~!; ]", requirement)[0]
