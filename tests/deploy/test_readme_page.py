"""The README's page "In production". What cannot be run here, as the names of these tests say, names what exists."""

import re
import shlex
from collections.abc import Iterator

import pytest

from lms import __version__
from tests.deploy.files import DEPLOY, ROOT, manifests, pods, services, stages, steps, understood
from tests.deploy.readme import INSTALL, NOT_RUN_HERE, sections

PROGRAMS = {"docker", "kubectl", "sudo", "touch", "chmod", "echo", "$EDITOR"}


def commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, without what they write to."""
    words = shlex.split(line, comments=True)
    command: list[str] = []
    for word in [*words, ";"]:
        if word in {";", "&&"}:
            yield command
            command = []
        else:
            command.append(word)


def started(command: list[str]) -> list[str] | None:
    """What a command starts in our image, or in the virtual environment."""
    if "--" in command:
        command = ["exec", *command[command.index("--") + 1 :]]
    for name in ("/opt/lms/bin/lms", "lms", f"registry.example/lms:{__version__}"):
        if name in command and {"run", "exec", "sudo"} & set(command):
            rest = command[command.index(name) + 1 :]
            return rest[: next((n for n, word in enumerate(rest) if word in {">", ">>"}), len(rest))]
    return None


@pytest.mark.parametrize("line", NOT_RUN_HERE, ids=NOT_RUN_HERE)
def test_a_line_that_is_not_run_here_names_what_exists(line: str) -> None:
    for command in commands(line):
        assert command[0] in PROGRAMS
        arguments = started(command)
        if arguments:
            understood(arguments)
        check_files(command)
        {"docker": check_docker, "kubectl": check_kubectl}.get(command[0], check_systemctl)(command)


def check_files(command: list[str]) -> None:
    for word in command:
        if word.startswith("scripts/"):
            assert list(ROOT.glob(word)), word


def check_docker(command: list[str]) -> None:
    images = {word for word in command if re.fullmatch(r"(registry\.example/)?lms(:[\w.]+)?", word)}
    assert images <= {"lms", f"registry.example/lms:{__version__}"}
    if command[1:3] == ["compose", "exec"]:
        assert next(word for word in command[3:] if not word.startswith("-")) in services()
    if command[1] == "run":
        assert ("ENTRYPOINT", '["lms"]') in stages()[-1]


def check_kubectl(command: list[str]) -> None:
    existing = {(one["kind"].lower(), one["metadata"]["name"]) for one in manifests()}
    named = {tuple(word.split("/", 1)) for word in command if re.fullmatch(r"(job|deployment)/[\w-]+", word)}
    if command[1:4] == ["create", "secret", "generic"]:
        sources = [one for pod in pods().values() for one in pod["containers"][0]["envFrom"] if "secretRef" in one]
        assert {one["secretRef"]["name"] for one in sources} == {command[4]}
    assert named <= existing
    if "--namespace" in command:
        assert ("namespace", command[command.index("--namespace") + 1]) in existing


def check_systemctl(command: list[str]) -> None:
    if "systemctl" in command:
        units = {word for word in command if re.search(r"\.(service|target)$", word)}
        assert all((DEPLOY / "systemd" / name).exists() for name in units)


def test_the_image_is_installed_as_a_machine_is() -> None:
    """So that running the one proves the other: `tests/deploy/test_installed.py` does."""
    ours = INSTALL.splitlines()
    assert [step for step in steps(stages()[0]) if step in ours] == ours


def test_the_version_that_it_names_is_this_one() -> None:
    named = re.findall(r"lms[:-](\d+\.\d+\.\d+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(named) == {__version__}


def test_every_way_has_its_commands() -> None:
    blocks = {way: len(found) for way, found in sections().items()}
    assert blocks == {
        "With compose": 2,
        "With Kubernetes": 1,
        "With pip alone": 3,
        "With systemd": 1,
        "Running it": 0,
    }
