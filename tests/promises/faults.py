"""Faults made from outside, at the very moment that a test names: a file that cannot be read yet, a slow wire."""

import asyncio
import fcntl
import signal
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.promises.system import DEADLINE_SECONDS

HEADER = struct.Struct("<iiii")


class BlockedFile:
    """A file that nobody can open; whoever tries waits (by a lease of Linux, up to 45 s)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b")
        self._file.write(b"nothing that could be read")
        self._asked = asyncio.Event()
        # Its signal would end the tests where nobody handles it.
        asyncio.get_running_loop().add_signal_handler(signal.SIGIO, self._asked.set)
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    async def somebody_waits(self) -> None:
        await asyncio.wait_for(self._asked.wait(), DEADLINE_SECONDS)

    def release(self) -> None:
        self._file.close()


@asynccontextmanager
async def blocked(path: Path) -> AsyncGenerator[BlockedFile]:
    file = BlockedFile(path)
    try:
        yield file
    finally:
        file.release()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGIO)


class Wire:
    """The way to MongoDB, on which one command, or the answer to it, is held until a test lets it go on."""

    def __init__(self, mongodb_url: str) -> None:
        self._server = urlsplit(mongodb_url)
        self._wanted: bytes | None = None
        self._held_answers: set[int] = set()
        self._answers = False
        self._is_held = asyncio.Event()
        self._goes_on = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?{self._server.query}"

    def hold(self, command: str, *, answer: bool = False) -> None:
        """The next command of this name stays on its way; with `answer` it arrives and its answer does not."""
        self._wanted, self._answers = command.encode() + b"\0", answer
        self._is_held.clear()
        self._goes_on.clear()

    async def holds(self) -> None:
        await asyncio.wait_for(self._is_held.wait(), DEADLINE_SECONDS)

    def release(self) -> None:
        self._goes_on.set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What asyncio calls for each connection."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, to_server))
                group.create_task(self._pass_on(from_server, writer))
        except* (OSError, EOFError):
            # One side has gone, so the other one goes.
            pass
        except* asyncio.CancelledError:
            # The end of the test.
            pass
        finally:
            for one in (writer, to_server):
                if one is not None:
                    one.transport.abort()
            self._connections.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            header = await reader.readexactly(HEADER.size)
            length, request, answered, _ = HEADER.unpack(header)
            message = header + await reader.readexactly(length - HEADER.size)
            if self._stays(message, request, answered):
                self._is_held.set()
                await self._goes_on.wait()
            writer.write(message)
            await writer.drain()

    def _stays(self, message: bytes, request: int, answered: int) -> bool:
        if answered:
            return answered in self._held_answers
        if self._wanted is None or self._wanted not in message:
            return False
        self._wanted = None
        if self._answers:
            self._held_answers.add(request)
        return not self._answers

    async def close(self) -> None:
        for one in list(self._connections):
            one.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def a_wire(mongodb_url: str) -> AsyncGenerator[Wire]:
    wire = Wire(mongodb_url)
    server = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
