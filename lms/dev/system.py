"""Starts the parts in order, passes their lines on, and stops them in order."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import rich_click as click

from lms.dev.mails import catch_mails
from lms.dev.ports import holder_of, is_free, next_free
from lms.embedded import EmbeddedServer, start_mongod, start_valkey
from lms.processes import die_with_parent, end_process

STOP_SECONDS = 25.0
READY_SECONDS = 30.0
LINE_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class DevOptions:
    host: str = "127.0.0.1"
    port: int = 8000
    data_dir: Path = Path(".lms")
    load_demo: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A child process: its name in messages, and what follows `lms` on its command line."""

    name: str
    arguments: tuple[str, ...]


class DevFailed(click.ClickException):
    """The system could not start or lost a part."""


async def run_dev(options: DevOptions) -> int:
    """Run until Ctrl-C or SIGTERM (0), or until a part ends by itself (1)."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(options.data_dir))
        port = _choose_port(options)
        environ = await _start_servers(stack, options, port)
        await _run_once(environ, "migrate")
        parts = [
            Part("api", ("serve", "--host", options.host, "--port", str(port))),
            Part("worker", ("worker",)),
            Part("scheduler", ("scheduler",)),
        ]
        running = [await stack.enter_async_context(_child(part, environ)) for part in parts]
        await _until_ready(options.host, port, running, stop)
        if not stop.is_set():
            await _welcome(options, port, environ)
        return await _until_stopped(parts, running, stop)


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Generator[None]:
    """One system for one data directory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DevFailed(f"Another `lms dev` uses {data_dir}; stop it, or take another --data-dir.") from None
        yield


def _choose_port(options: DevOptions) -> int:
    if is_free(options.host, options.port):
        return options.port
    port = next_free(options.host, options.port + 1)
    click.echo(f"Port {options.port} is taken by {holder_of(options.port)}; the API takes {port}.")
    return port


async def _start_servers(stack: AsyncExitStack, options: DevOptions, port: int) -> dict[str, str]:
    """The databases and the mail catcher; returns the environment of the other parts."""
    data_dir = options.data_dir.absolute()
    mongodb_url, redis_url = os.environ.get("LMS_MONGODB_URL"), os.environ.get("LMS_REDIS_URL")
    if not mongodb_url:
        mongodb_url = await _embedded(stack, start_mongod(data_dir / "mongodb"))
    if not redis_url:
        redis_url = await _embedded(stack, start_valkey(data_dir / "valkey"))
    smtp_port = await stack.enter_async_context(catch_mails(data_dir / "mail"))
    return {
        **os.environ,
        "LMS_ENVIRONMENT": "development",
        "LMS_DATA_DIR": str(data_dir),
        "LMS_MONGODB_URL": mongodb_url,
        "LMS_REDIS_URL": redis_url,
        "LMS_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
        "LMS_PUBLIC_URL": os.environ.get("LMS_PUBLIC_URL", f"http://{options.host}:{port}"),
        "LMS_LOG_FORMAT": os.environ.get("LMS_LOG_FORMAT", "console"),
    }


async def _embedded(stack: AsyncExitStack, starting: Awaitable[EmbeddedServer]) -> str:
    server = await starting
    stack.push_async_callback(server.stop)
    return server.url


async def _run_once(environ: Mapping[str, str], *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lms",
        *arguments,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise DevFailed(f"`lms {' '.join(arguments)}` failed:\n{output.decode(errors='replace').strip()}")


@asynccontextmanager
async def _child(part: Part, environ: Mapping[str, str]) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A running part whose lines are passed on; ended with SIGTERM, and SIGKILL where that is not enough."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lms",
        *part.arguments,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_LIMIT,
        # Ctrl-C in the terminal is for us, who stop the parts in order.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    lines = asyncio.create_task(_pass_on(part, process))
    try:
        yield process
    finally:
        await end_process(process, STOP_SECONDS)
        await lines


async def _pass_on(part: Part, process: asyncio.subprocess.Process) -> None:
    async for line in cast("asyncio.StreamReader", process.stdout):
        click.echo(f"{part.name:<9} {line.decode(errors='replace').rstrip()}")


async def _until_ready(host: str, port: int, running: list[asyncio.subprocess.Process], stop: asyncio.Event) -> None:
    """Until the API says that it is ready, a part ended, or somebody stops us."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not stop.is_set() and all(one.returncode is None for one in running):
                if await _answers(host, port):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise DevFailed(f"The API did not get ready within {READY_SECONDS:.0f} seconds.") from None


async def _answers(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in line


async def _welcome(options: DevOptions, port: int, environ: Mapping[str, str]) -> None:
    base = f"http://{options.host}:{port}"
    lines = [f"API          {base}/api/v1", f"Reference    {base}/docs", f"Mails        {options.data_dir}/mail/*.eml"]
    from lms.accounts.delivery import cookie_name
    from lms.settings import load_settings

    settings = load_settings(environ)
    if not settings.has_https:
        lines.append(f"Cookie       {cookie_name(settings)}: over plain http without Secure and without __Host-")
    if options.load_demo:
        from lms.demo.seed import seed_demo

        people = await seed_demo(settings)
        lines += [f"Sign in as   {one.email}  password: {one.password}  ({one.role})" for one in people]
    click.echo("\n" + "\n".join(f"  {line}" for line in lines) + "\n\n  Ctrl-C stops everything; the data stays.\n")


async def _until_stopped(parts: list[Part], running: list[asyncio.subprocess.Process], stop: asyncio.Event) -> int:
    stopped = asyncio.create_task(stop.wait())
    ended = {asyncio.create_task(one.wait()): part for part, one in zip(parts, running, strict=True)}
    done, waiting = await asyncio.wait({stopped, *ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    lost = [f"{ended[task].name} ended with exit code {task.result()}" for task in done if task in ended]
    if lost and not stop.is_set():
        click.echo(f"{'; '.join(lost)}; stopping the rest.", err=True)
        return 1
    click.echo("Stopping.")
    return 0
