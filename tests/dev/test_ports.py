import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from lms.dev import ports
from lms.dev.ports import holder_of, is_free, next_free
from tests.web.own_servers import free_port, wait_until

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Generator[socket.socket]:
    with closing(socket.create_server((HOST, 0))) as listener:
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_a_port_is_free_until_somebody_listens(listener: socket.socket) -> None:
    assert not is_free(HOST, port_of(listener))
    port = port_of(listener)
    listener.close()
    assert is_free(HOST, port)


def test_the_next_free_port_is_not_the_taken_one(listener: socket.socket) -> None:
    found = next_free(HOST, port_of(listener))
    assert found > port_of(listener)
    assert is_free(HOST, found)


def test_the_holder_of_a_port_is_named(listener: socket.socket) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert holder_of(port_of(listener)) == f"{name} (pid {os.getpid()})"


def test_another_process_is_named_as_well() -> None:
    port = free_port()
    holding = f"import socket, sys; held = socket.create_server(('{HOST}', {port})); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE) as process:
        wait_until(lambda: "pid" in holder_of(port))
        assert holder_of(port).endswith(f"(pid {process.pid})")
        process.communicate()


def test_a_port_that_nobody_holds_has_no_name() -> None:
    assert holder_of(free_port()) == "another process"


@pytest.fixture
def not_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system without /proc, and a folder for what it has as `lsof`."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_elsewhere_lsof_knows(not_linux: Path, listener: socket.socket) -> None:
    lsof = not_linux / "lsof"
    lsof.write_text(f'#!/bin/sh\ncase "$*" in *"TCP:{port_of(listener)} "*) echo {os.getpid()};; esac\n')
    lsof.chmod(0o755)
    assert shutil.which("lsof") == str(lsof)
    assert holder_of(port_of(listener)).endswith(f"(pid {os.getpid()})")
    assert holder_of(free_port()) == "another process"


def test_without_lsof_nobody_is_named(not_linux: Path, listener: socket.socket) -> None:
    assert holder_of(port_of(listener)) == "another process"


def test_a_process_without_a_name_is_a_process() -> None:
    assert ports._name_of(999_999_999) == "a process"  # pyright: ignore[reportPrivateUsage]
