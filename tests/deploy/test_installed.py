"""The wheel in an empty environment, by the README's commands, as somebody who may write nothing there."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import AsyncMongoClient

from lms import __version__
from lms.embedded import free_port
from tests.deploy.files import ROOT, stages, steps
from tests.deploy.readme import RUN, SETTINGS
from tests.promises.system import eventually
from tests.servers import SmtpSink

NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
PASSWORD = "correct horse battery"

CLIENT = """# pyright: strict
from lms.settings import load_settings

jobs: str = load_settings({}).worker_concurrency
"""

# What tells a test who runs, and how each ended.
REPORT = """
echo "started $(jobs -p | tr '\\n' ' ')"
for pid in $(jobs -p); do code=0; wait "$pid" || code=$?; echo "ended $code"; done
"""


class Machine:
    """A folder that stands for a machine: /opt/lms in it, and the folder that the commands are given in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opt = root / "opt" / "lms"
        self.checkout = root / "checkout"
        self.tmp = root / "tmp"
        for folder in (self.opt.parent, self.checkout, self.tmp):
            folder.mkdir(parents=True)
        # python3 is the one that runs these tests; nothing that they have installed is seen by what it makes.
        self.environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": str(self.tmp)}
        # How pip reaches its index is the machine's own.
        self.environ |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}

    def here(self, text: str) -> str:
        return text.replace("/opt/lms", str(self.opt))

    def run(self, script: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", self.here(script)],
            cwd=self.checkout,
            env=self.environ | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def seen(self) -> dict[str, tuple[int, int]]:
        """Every file but those of /tmp, with its size and when it was written."""
        paths = [path for path in self.root.rglob("*") if not path.is_relative_to(self.tmp)]
        return {str(path): (one.st_size, one.st_mtime_ns) for path in paths for one in [path.lstat()]}


@pytest.fixture
def machine() -> Generator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="lms-machine-"))
    root.chmod(0o755)
    yield Machine(root)
    shutil.rmtree(root)


def read_only(machine: Machine) -> list[str]:
    """What makes all but /tmp read-only and takes every right from root, as those who run the image do, where it can.

    Elsewhere that nothing was written is only seen afterwards.
    """
    if (
        not all(map(shutil.which, ("unshare", "setpriv")))
        or subprocess.run([*NAMESPACE, "true"], check=False).returncode
    ):
        return []
    binds = [f"mount --bind '{one}' '{one}'" for one in (machine.root, machine.tmp)]
    locks = [f"mount -o remount,bind,ro '{one}'" for one in (machine.root, "/")]
    rights = "setpriv --no-new-privs --bounding-set=-all --inh-caps=-all"
    return [*NAMESPACE, "bash", "-euc", "; ".join([*binds, *locks, f'exec {rights} "$@"']), "-"]


def install(machine: Machine) -> None:
    """As the image's build does, from what it is given and nothing else."""
    for name, rest in stages()[0]:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = machine.checkout / target if len(sources) == 1 else machine.checkout / source
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
                copy(ROOT / source, place)
        elif name == "RUN":
            for step in steps([(name, rest)]):
                machine.run(step, CJK="0")


def check_install(machine: Machine) -> None:
    site = next(machine.opt.glob("lib/python3*/site-packages"))
    names = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"lms", "litestar", "typst"} <= names
    assert names & {"pip", "setuptools", "pytest", "hatchling", "cvttf_notosanscjk_regular", "aiosmtpd"} == set()
    modules = {path for path in (site / "lms").rglob("*.py") if path.stat().st_size}
    compiled = {path.with_name(f"{path.stem}.{sys.implementation.cache_tag}.pyc").name for path in modules}
    assert compiled <= {path.name for path in (site / "lms").rglob("__pycache__/*.pyc")}
    assert machine.run("/opt/lms/bin/lms --version").split()[-1] == __version__


async def check_types(machine: Machine) -> None:
    """A program that uses it is checked by its types: the one mistake in it is found, and nothing else."""
    folder = machine.tmp / "client"
    folder.mkdir()
    (folder / "client.py").write_text(CLIENT)
    checker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "basedpyright", "--outputjson"),
        *("--pythonpath", machine.opt / "bin" / "python", "client.py"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await checker.communicate()
    found = [(one["rule"], one["message"]) for one in json.loads(told)["generalDiagnostics"]]
    assert [rule for rule, _ in found] == ["reportAssignmentType"], found
    assert '"int" is not assignable to' in found[0][1]
    shutil.rmtree(folder)


class Script:
    """A script that runs, and all that it and its processes have said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def until(self, start: str) -> list[str]:
        """The words of the next line that starts so."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.said.append(line)
            if line.startswith(start):
                return line.split()[1:]
        raise AssertionError("".join(self.said))


@asynccontextmanager
async def running(machine: Machine, script: str, stdin: str) -> AsyncGenerator[Script]:
    bash = await asyncio.create_subprocess_exec(
        *(*read_only(machine), "bash", "-euc", machine.here(script) + REPORT),
        cwd=machine.checkout,
        env=machine.environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Without a terminal the password is read from standard input; and all of them can be ended at once.
        start_new_session=True,
    )
    assert bash.stdin is not None
    bash.stdin.write(stdin.encode())
    try:
        async with asyncio.timeout(120):
            yield Script(bash)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(bash.pid, signal.SIGKILL)
        await bash.wait()


async def check_running(machine: Machine, ports: dict[str, int]) -> None:
    """The last block of the page, to the end of the processes that it leaves running."""
    script = RUN
    for said, port in ports.items():
        script = script.replace(said, str(port))
    async with running(machine, script, f"{PASSWORD}\n{PASSWORD}\n") as shell:
        pids = await shell.until("started")
        assert len(pids) == len(ports)
        for port in ports.values():
            await eventually(partial(is_ready, port))
        await check_sign_in(ports["8000"])
        for pid in pids:
            os.kill(int(pid), signal.SIGTERM)
        codes = [await shell.until("ended") for _ in pids]
    output = "".join(shell.said)
    assert codes == [["0"], ["0"], ["0"]], output
    assert re.search(r"FAIL|warn |Traceback|Read-only", output) is None, output


async def is_ready(port: int) -> bool:
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(timeout=5) as client:
            return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200
    return False


async def check_sign_in(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=20) as client:
        answer = await client.post("/auth/login", json={"email": "ada@school.example", "password": PASSWORD})
    assert answer.json()["user"]["role"] == "admin", answer.text


def settings(machine: Machine, mongodb_url: str, redis_url: str, smtp_url: str) -> str:
    script = SETTINGS
    for said, meant in {
        "mongodb://db.example/?replicaSet=rs0": mongodb_url,
        "redis://cache.example/0": redis_url,
        "smtp://mail.example": smtp_url,
    }.items():
        assert said in script
        script = script.replace(said, meant)
    return script


@pytest.mark.timeout(300)
async def test_the_readmes_page_from_an_empty_environment_to_a_running_system(
    machine: Machine, mongodb_url: str, redis_url: str, smtp_sink: SmtpSink
) -> None:
    await asyncio.to_thread(install, machine)
    check_install(machine)
    await check_types(machine)
    await asyncio.to_thread(machine.run, settings(machine, mongodb_url, redis_url, smtp_sink.url))
    database = f"lms_test_machine_{os.getpid()}"
    machine.environ |= {"LMS_MONGODB_DATABASE": database, "LMS_REDIS_PREFIX": database.replace("_", "-")}
    before = machine.seen()
    try:
        await check_running(machine, {port: free_port() for port in ("8000", "8001", "8002")})
    finally:
        async with AsyncMongoClient[dict[str, Any]](mongodb_url) as client:
            await client.drop_database(database)
    assert machine.seen() == before
    assert list(machine.tmp.iterdir()) == []
