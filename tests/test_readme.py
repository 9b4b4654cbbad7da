"""The README is true: its session runs as it stands there, and what it names exists."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pypdfium2
import pytest

from lms.cli import api_keys, audit, cli, courses, operating, people
from lms.embedded import free_port
from lms.settings_table import as_markdown

_REGISTERED = (api_keys, audit, courses, operating, people)  # They bring the commands for operators.

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_it_as_it_is() -> None:
    assert as_markdown() in README


def test_every_command_is_in_it() -> None:
    named = {name.split()[0] for name in re.findall(r"^\| `lms ([a-z][^`]+)`", README, re.MULTILINE)}
    assert named == set(cli.commands)


def test_every_option_it_names_exists() -> None:
    known = {option for command in _commands(cli) for one in command.params for option in one.opts + one.secondary_opts}
    rows = re.findall(r"^\| `lms .*$", README, re.MULTILINE)
    named = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    assert len(named) > 10
    assert named <= known


def _commands(group: click.Command) -> list[click.Command]:
    inside = group.commands.values() if isinstance(group, click.Group) else ()
    return [group, *(found for one in inside for found in _commands(one))]


def test_every_file_it_names_exists() -> None:
    linked = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    tests = re.findall(r"`(tests/[\w/.]+)`", README)
    scripts = re.findall(r"\./(scripts/\w+)", README)
    assert len(tests) > 10
    assert [name for name in (*linked, *tests, *scripts) if not (ROOT / name).exists()] == []


def test_the_map_has_every_module() -> None:
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", README.partition("## Map of the code")[2]))
    there = {f"{one.name}/" if one.is_dir() else one.name for one in (ROOT / "lms").iterdir()}
    assert {name for name in there if not name.startswith("__") and name != "py.typed"} <= named


@asynccontextmanager
async def running_dev(directory: Path, port: int) -> AsyncGenerator[None]:
    """`lms dev` as `scripts/dev` starts it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LMS_")}
    dev = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lms", "dev", "--port", str(port), "--data-dir", str(directory)),
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert dev.stdout is not None
    told = bytearray()
    try:
        async with asyncio.timeout(90):
            while b"sam@school.example" not in told:
                line = await dev.stdout.readline()
                assert line, told.decode()
                told += line
        yield
    finally:
        # What is not read would stop whoever writes.
        reading = asyncio.create_task(dev.stdout.read())
        dev.send_signal(signal.SIGINT)
        await asyncio.wait_for(dev.wait(), 60)
        await reading


@pytest.mark.timeout(240)
async def test_its_session_ends_with_a_certificate(tmp_path: Path) -> None:
    [session] = re.findall(r"```sh\n(API=.*?)```", README, re.DOTALL)
    port = free_port()
    async with running_dev(tmp_path / "data", port):
        script = "set -euo pipefail\n" + session.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        bash = await asyncio.create_subprocess_exec(
            *("bash", "-c", script), cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(bash.communicate(), 60)
    shown = output.decode()
    assert bash.returncode == 0, shown
    assert '"status":"valid"' in shown.replace(" ", "").splitlines()[-1]
    assert "\n100\n" in shown
    with pypdfium2.PdfDocument(tmp_path / "certificate.pdf") as pdf:
        assert "Git for writers" in pdf[0].get_textpage().get_text_range()
