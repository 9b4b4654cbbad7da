import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo.asynchronous.database import AsyncDatabase

from lms.embedded import free_port
from lms.health_server import Check, Parts, health_server
from tests.outbox.build import emitted


@asynccontextmanager
async def serving(check: Check, *, host: str = "127.0.0.1", token: str = "") -> AsyncGenerator[int]:
    port = free_port()
    async with health_server(port, check, host=host, token=token):
        yield port


async def get(port: int, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=5) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers=headers)


def saying(**parts: str) -> Check:
    async def check() -> Parts:
        return parts

    return check


async def hang() -> Parts:
    await asyncio.Event().wait()
    return {}


async def send_raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_process_that_runs_is_live_whatever_it_depends_on() -> None:
    async with serving(saying(mongodb="down")) as port:
        answer = await get(port, "/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("parts", "status_code", "status"),
    [
        ({"mongodb": "ok", "redis": "ok", "process": "ok"}, 200, "ok"),
        ({"mongodb": "ok", "redis": "degraded", "process": "ok"}, 200, "degraded"),
        ({"mongodb": "down", "redis": "degraded", "process": "ok"}, 503, "down"),
        ({"mongodb": "ok", "redis": "ok", "process": "down"}, 503, "down"),
    ],
)
async def test_readiness_is_that_of_the_worst_part(parts: Parts, status_code: int, status: str) -> None:
    async with serving(saying(**parts)) as port:
        answer = await get(port, "/health/ready?verbose=1")
    assert answer.status_code == status_code
    assert answer.json() == {"status": status, "parts": {name: {"status": state} for name, state in parts.items()}}


async def test_a_check_that_hangs_is_down_within_a_second() -> None:
    async with serving(hang) as port:
        started = time.monotonic()
        answer = await get(port, "/health/ready")
        assert time.monotonic() - started < 1
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        assert (await get(port, "/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/health/live/", "/docs", "/metrics/"])
async def test_an_unknown_path_is_not_found(path: str) -> None:
    async with serving(saying(mongodb="ok")) as port:
        answer = await get(port, path)
    assert (answer.status_code, answer.json()) == (404, {"status": "not_found"})


@pytest.mark.parametrize(
    "request_line", [b"\r\n", b"hello\r\n", b"\x16\x03\x01\x02\r\n", b"GET /\xff\xfe HTTP/1.1\r\n"]
)
async def test_what_is_no_request_is_not_found(request_line: bytes) -> None:
    async with serving(saying(mongodb="ok")) as port:
        answer = await send_raw(port, request_line)
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"status": "not_found"}


@pytest.mark.parametrize("data", [b"", b"GET /health/live", b"x" * 200_000])
async def test_what_never_becomes_a_line_is_hung_up_on_and_the_next_is_served(data: bytes) -> None:
    async with serving(saying(mongodb="ok")) as port:
        # Hanging up on data that was not read resets the connection, which is as good.
        with suppress(ConnectionError):
            assert await send_raw(port, data) == b""
        assert (await get(port, "/health/live")).status_code == 200


async def test_who_connects_and_says_nothing_is_hung_up_on() -> None:
    async with serving(saying(mongodb="ok")) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_without_a_port_nothing_is_served() -> None:
    async with health_server(None, hang):
        pass


async def test_after_the_end_nobody_listens() -> None:
    async with serving(saying(mongodb="ok")) as port:
        pass
    with pytest.raises(httpx.ConnectError):
        await get(port, "/health/live")


async def test_metrics_tell_what_waits_in_the_outbox(database: AsyncDatabase[dict[str, Any]]) -> None:
    await emitted("one")
    async with serving(saying(mongodb="ok")) as port:
        answer = await get(port, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["lms_outbox_due"].samples[0].value == 1
    assert "lms_jobs" in families


async def test_only_this_machine_is_served() -> None:
    async with serving(saying(mongodb="ok")) as port:
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", port)


async def test_at_an_address_of_its_own_choice_probes_from_outside_are_served() -> None:
    async with serving(saying(mongodb="ok"), host="0.0.0.0") as port, httpx.AsyncClient(timeout=5) as client:  # noqa: S104
        assert (await client.get(f"http://127.0.0.2:{port}/health/ready")).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_on_loopback_metrics_need_no_token(database: AsyncDatabase[dict[str, Any]], host: str) -> None:
    async with serving(saying(mongodb="ok"), host=host, token="secret") as port:
        assert (await get(port, "/metrics")).status_code == 200


async def test_elsewhere_metrics_are_for_who_knows_the_token(database: AsyncDatabase[dict[str, Any]]) -> None:
    async with serving(saying(mongodb="ok"), host="0.0.0.0", token="secret") as port:  # noqa: S104
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            answer = await get(port, "/metrics", **headers)
            assert (answer.status_code, answer.json()) == (401, {"status": "unauthenticated"})
        assert "lms_jobs" in (await get(port, "/metrics", authorization="Bearer secret")).text


async def test_elsewhere_without_a_token_there_are_no_metrics() -> None:
    async with serving(saying(mongodb="ok"), host="0.0.0.0") as port:  # noqa: S104
        answer = await get(port, "/metrics", authorization="Bearer None")
    assert (answer.status_code, answer.json()) == (404, {"status": "not_found"})
