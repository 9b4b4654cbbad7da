"""Health and metrics of processes that serve no API: a few lines of HTTP.

At another address than loopback, which probes from outside need, /metrics asks for the token as the API's does.
"""

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import msgspec

from lms.metrics import MEDIA_TYPE, read_outbox, render
from lms.transactions import database

CHECK_SECONDS = 0.7
REQUEST_SECONDS = 2.0
JSON = "application/json"
LOOPBACK = "127.0.0.1"
NOT_FOUND = ("404 Not Found", JSON, b'{"status":"not_found"}')
UNAUTHENTICATED = ("401 Unauthorized", JSON, b'{"status":"unauthenticated"}')

Parts = dict[str, str]
Answer = tuple[str, str, bytes]
"""Status, media type and body."""
Check = Callable[[], Awaitable[Parts]]
"""Gives each part's state: `ok`, `down` (the process cannot work) or `degraded` (it waits for that part)."""


@asynccontextmanager
async def health_server(
    port: int | None, check: Check, *, host: str = LOOPBACK, token: str = ""
) -> AsyncGenerator[None]:
    """Serves /health/live, /health/ready and /metrics; with no port, nothing."""
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                line = await reader.readuntil(b"\r\n")
                status, media_type, body = await respond(line.split(b" "), reader)
                head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
                writer.write(head.encode() + b"Cache-Control: no-store\r\nConnection: close\r\n\r\n" + body)
                await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            # Whoever asked went away or talks something else; there is nobody to tell.
            return
        finally:
            writer.close()

    async def respond(request: list[bytes], reader: asyncio.StreamReader) -> Answer:
        path = request[1].split(b"?")[0] if len(request) > 1 else b""
        if path == b"/health/live":
            return "200 OK", JSON, b'{"status":"ok"}'
        if path == b"/health/ready":
            return await _readiness(check)
        if path == b"/metrics":
            # Whoever is on this machine may read them, as at the port of `metrics_port`.
            return await (_metrics() if _is_loopback(host) else _guarded_metrics(reader, token))
        return NOT_FOUND

    server = await asyncio.start_server(answer, host, port)
    try:
        yield
    finally:
        server.close()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _guarded_metrics(reader: asyncio.StreamReader, token: str) -> Answer:
    if not token:
        return NOT_FOUND
    headers = (line.partition(b":") for line in (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n"))
    given = next((value.strip() for name, _, value in headers if name.lower() == b"authorization"), b"")
    return await _metrics() if hmac.compare_digest(given, f"Bearer {token}".encode()) else UNAUTHENTICATED


async def _metrics() -> Answer:
    return "200 OK", MEDIA_TYPE, await asyncio.to_thread(render, await read_outbox(database()))


async def _readiness(check: Check) -> Answer:
    parts = await bounded(check)
    states = set(parts.values())
    status = "down" if "down" in states else "degraded" if "degraded" in states else "ok"
    body: dict[str, Any] = {"status": status, "parts": {name: {"status": state} for name, state in parts.items()}}
    return "503 Service Unavailable" if status == "down" else "200 OK", JSON, msgspec.json.encode(body)


async def bounded(check: Check) -> Parts:
    """The check's answer, or down where it hangs: a probe that waits tells nothing."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return {"mongodb": "down"}
