"""What ships beside the code, read as its readers read it: instructions, services, manifests, units."""

import configparser
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import yaml

from lms.cli import cli, operating, people

_REGISTERED = (operating, people)  # They bring the commands for operators.

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "scripts" / "deploy"
COMPOSE = ROOT / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").iterdir())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OURS = ("migrate", "api", "worker", "scheduler")

Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The Dockerfile's stages, after what stands before the first."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found[1:]


def steps(stage: list[Instruction]) -> list[str]:
    """What a stage runs, command by command."""
    return [step.strip() for name, rest in stage if name == "RUN" for step in rest.split(" && ")]


def services() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml with their defaults filled in."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text(encoding="utf-8"))
    return yaml.safe_load(text)["services"]


def manifests() -> list[dict[str, Any]]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def pods() -> dict[str, dict[str, Any]]:
    """The spec of each kind of pod."""
    return {
        one["metadata"]["name"].removeprefix("lms-"): one["spec"]["template"]["spec"]
        for one in manifests()
        if one["kind"] in {"Job", "Deployment"}
    }


Unit = dict[str, dict[str, list[str]]]


class _Repeated(dict[str, Any]):
    """A section in which a name may stand several times, as units have it."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit(path: Path) -> Unit:
    """Sections, and in them all values of each name."""
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parser.read_string(path.read_text(encoding="utf-8"))
    sections: Unit = {}
    for section in parser.sections():
        values: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in parser.items(section):
            values[name] += value.split("\n")
        sections[section] = values
    return sections


def env_file(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


class Run(NamedTuple):
    """A start of `lms` that a file asks for."""

    where: str
    arguments: list[str]


def runs() -> Iterator[Run]:
    for name in OURS:
        yield Run(f"compose {name}", [str(one) for one in services()[name]["command"]])
        yield Run(f"kubernetes {name}", pods()[name]["containers"][0]["args"])
        [command] = unit(DEPLOY / "systemd" / f"lms-{name}.service")["Service"]["ExecStart"]
        yield Run(f"systemd {name}", shlex.split(command)[1:])
    image = dict(stages()[-1])
    yield Run("image", yaml.safe_load(image["CMD"]))
    yield Run("image's health check", yaml.safe_load(image["HEALTHCHECK"].partition(" CMD ")[2])[1:])
    for name in ("api", "worker", "scheduler"):
        yield Run(f"compose {name}'s health check", services()[name]["healthcheck"]["test"][2:])


def understood(arguments: list[str]) -> dict[str, Any]:
    """The options of a command as the command line takes them. Raises click.UsageError, and KeyError for no command."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    return command.make_context(command.name, list(arguments)).params
