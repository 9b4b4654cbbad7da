"""`lms dev` as a developer runs it, with what it prints, and every process that comes from it."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

DEADLINE_SECONDS = 60.0
MARK = "LMS_TEST_MARK"


@dataclass(frozen=True)
class Member:
    """A process, which is the same one as long as pid and start are."""

    pid: int
    started: str
    name: str = field(compare=False)
    parent: int = field(compare=False)
    environ: tuple[str, ...] = field(compare=False)


class Dev:
    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self.process = process
        self.mark = mark
        self.lines: list[str] = []
        self._servers: set[Member] = set()
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def says(self, text: str) -> str:
        """The first line with `text`, as soon as it is printed. Raises AssertionError where that does not happen."""

        def find() -> str | None:
            return next((line for line in self.lines if text in line), None)

        async with self._changed:
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await self._changed.wait_for(lambda: find() is not None or self._reading.done())
            except TimeoutError:
                pass
        found = find()
        assert found is not None, self.text
        return found

    async def ends(self) -> int:
        """The exit code, and everything is printed."""
        code = await asyncio.wait_for(self.process.wait(), DEADLINE_SECONDS)
        await self._reading
        return code

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return await self.ends()

    def family(self) -> dict[str, int]:
        """Every process of it that lives, itself included, by what it is."""
        members = _marked(self.mark) | self._servers
        # Valkey writes its title over its environment, so it is known by its parent while it has one, and then by pid.
        self._servers |= {child for child in _all() if child.parent in {one.pid for one in members}}
        return {one.name: one.pid for one in (members | self._servers) & _all()}

    async def no_orphan(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.family():  # noqa: ASYNC110 - other processes set no event here
                await asyncio.sleep(0.05)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()
        # Whoever waits for another line waits in vain.
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _all() -> set[Member]:
    return {one for path in Path("/proc").glob("[0-9]*") if (one := _read_member(path)) is not None}


def _marked(mark: str) -> set[Member]:
    """Children inherit the mark in their environment, whoever their parent is by now."""
    return {one for one in _all() if f"{MARK}={mark}" in one.environ}


def _read_member(path: Path) -> Member | None:
    try:
        environ = (path / "environ").read_text(errors="replace").split("\0")
        command = (path / "cmdline").read_text(errors="replace").split("\0")
        state, parent, *rest = (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if state == "Z":
        return None
    return Member(int(path.name), rest[17], _name_of(command), int(parent), tuple(environ))


def _name_of(command: list[str]) -> str:
    """`mongod`, `valkey-server`, or of ours what stands after `lms`."""
    if "lms" in command:
        return command[command.index("lms") + 1]
    return Path(command[0].split(" ")[0]).name


@asynccontextmanager
async def a_dev(directory: Path, *options: str, **environ: str) -> AsyncGenerator[Dev]:
    mark = uuid.uuid4().hex
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LMS_")}
    ours = {"LMS_DATA_DIR": str(directory), "LMS_BCRYPT_COST": "4", "PYTHONUNBUFFERED": "1", MARK: mark}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lms", "dev", *options),
        env=inherited | ours | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    dev = Dev(process, mark)
    try:
        yield dev
    finally:
        for pid in dev.family().values():
            os.kill(pid, signal.SIGKILL)
        await dev.ends()
