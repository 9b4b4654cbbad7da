import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, get
from litestar.params import FromPath
from prometheus_client.parser import text_string_to_metric_families
from pymongo import AsyncMongoClient

from lms import metrics
from lms.clock import utc_now
from lms.metrics import Database, Outbox, RequestMetrics, observe_job, prepare_directory, read_outbox, render
from lms.settings import Settings
from lms.transactions import use_database
from lms.web.metrics_route import metrics_router
from lms.web.problems import render_problem
from tests.web.own_servers import free_port, running_mongod

PROCESS = """
from lms import metrics
metrics.mark_started("api")
metrics.observe_job("send_welcome_email", "done", 0.2)
metrics.observe_job("send_welcome_email", "done", 20)
"""


@get("/courses/{name:str}")
async def read_course(name: FromPath[str]) -> dict[str, str]:
    return {"name": name}


@get("/broken")
async def break_down() -> None:
    raise RuntimeError


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    with running_mongod(tmp_path_factory.mktemp("mongod")) as running:
        yield running


@pytest.fixture
async def database(mongod: tuple[str, subprocess.Popen[bytes]]) -> AsyncGenerator[Database]:
    async with AsyncMongoClient[dict[str, Any]](mongod[0], tz_aware=True) as client:
        await client.drop_database("metrics")
        use_database(client["metrics"])
        yield client["metrics"]
        use_database(None)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(metrics.DIRECTORY, "")
    (tmp_path / "numbers").mkdir()
    (tmp_path / "numbers" / "counter_1.db").write_bytes(b"of an earlier run")
    prepare_directory(tmp_path / "numbers")
    return tmp_path / "numbers"


def samples(text: bytes) -> dict[str, float]:
    """Every sample, under its name and labels in order."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found["|".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))])] = sample.value
    return found


def client_of(*handlers: Any) -> AsyncClient:
    app = Litestar(handlers, openapi_config=None, logging_config=None, exception_handlers={Exception: render_problem})
    return AsyncClient(
        transport=ASGITransport(cast("Any", RequestMetrics(app)), raise_app_exceptions=False), base_url="http://lms"
    )


async def test_requests_are_counted_by_method_route_and_class_of_status() -> None:
    before = samples(render(None))
    client = client_of(read_course, break_down)
    for path in ("/courses/a", "/courses/b", "/broken", "/nothing/here", "/courses"):
        await client.get(path)
    await client.request("BREW", "/courses/a")
    after = samples(render(None))

    def added(*labels: str) -> float:
        key = "|".join(labels)
        return after.get(key, 0) - before.get(key, 0)

    assert added("lms_http_requests_total", "GET", "/courses/{name}", "2xx") == 2
    assert added("lms_http_requests_total", "GET", "/broken", "5xx") == 1
    assert added("lms_http_requests_total", "GET", "(unmatched)", "4xx") == 2
    assert added("lms_http_requests_total", "OTHER", "(unmatched)", "4xx") == 1
    assert added("lms_http_request_seconds_count", "GET", "/courses/{name}") == 2
    assert 0 < added("lms_http_request_seconds_sum", "GET", "/courses/{name}") < 2


async def test_an_answer_that_breaks_off_counts_as_an_error() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    key = "lms_http_requests_total|GET|(unmatched)|5xx"
    before = samples(render(None)).get(key, 0)
    scope: Any = {"type": "http", "method": "GET"}
    with pytest.raises(RuntimeError):
        await RequestMetrics(broken)(scope, cast("Any", broken), cast("Any", broken))
    assert samples(render(None))[key] == before + 1


async def test_other_scopes_pass_through() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await RequestMetrics(app)(cast("Any", {"type": "lifespan"}), cast("Any", app), cast("Any", app))
    assert seen == ["lifespan"]


async def test_jobs_are_counted_by_name_and_outcome() -> None:
    before = samples(render(None)).get("lms_jobs_total|cleanup_expired_tokens|failed", 0)
    observe_job("cleanup_expired_tokens", "failed", 0.3)
    found = samples(render(None))
    assert found["lms_jobs_total|cleanup_expired_tokens|failed"] == before + 1
    assert found["lms_job_seconds_sum|cleanup_expired_tokens"] >= 0.3


def test_one_scrape_adds_up_all_processes(directory: Path) -> None:
    assert list(directory.iterdir()) == []
    started = [subprocess.Popen([sys.executable, "-c", PROCESS], cwd=Path.cwd()) for _ in range(2)]
    pids = [process.pid for process in started]
    assert [process.wait() for process in started] == [0, 0]
    found = samples(render(None))
    assert found["lms_jobs_total|send_welcome_email|done"] == 4
    assert found["lms_job_seconds_bucket|send_welcome_email|1.0"] == 2
    living = [key for key in found if key.startswith("lms_process_start_time_seconds|api|")]
    assert len(living) == 2
    metrics.forget_process(pids[0])
    found = samples(render(None))
    assert [key for key in found if key.startswith("lms_process_start")] == [
        f"lms_process_start_time_seconds|api|{pids[1]}"
    ]
    assert found["lms_jobs_total|send_welcome_email|done"] == 4


def test_only_processes_that_live_are_looked_up(directory: Path) -> None:
    for name in ("gauge_liveall_12.db", "gauge_liveall_7.db", "counter_9.db"):
        (directory / name).touch()
    assert metrics._processes(str(directory)) == [7, 12]  # pyright: ignore[reportPrivateUsage]


async def test_this_process_alone_tells_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.DIRECTORY, raising=False)
    metrics.forget_process(1)
    found = samples(render(None))
    assert found[f"lms_process_resident_memory_bytes|{os.getpid()}"] > 10_000_000
    assert found[f"lms_process_cpu_seconds_total|{os.getpid()}"] > 0
    assert metrics._usage(999999999) is None  # pyright: ignore[reportPrivateUsage]


async def test_what_waits_in_the_outbox_is_read_when_asked(database: Database) -> None:
    assert await read_outbox(database) == Outbox(due=0, failed=0, oldest_seconds=0.0)
    now = utc_now()
    await database["outbox"].insert_many(
        [
            {"bucket": 1, "due": now - timedelta(seconds=90)},
            {"bucket": 63, "due": now},
            {"bucket": 2, "due": now + timedelta(seconds=60)},
            {"bucket": 3, "due": None, "failed_at": now},
        ]
    )
    outbox = await read_outbox(database)
    assert outbox is not None
    assert (outbox.due, outbox.failed) == (2, 1)
    assert 90 <= outbox.oldest_seconds < 100
    found = samples(render(outbox))
    assert (found["lms_outbox_readable"], found["lms_outbox_due"], found["lms_outbox_failed"]) == (1, 2, 1)


async def test_a_full_outbox_is_not_counted_to_the_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_COUNTED", 3)
    await database["outbox"].insert_many([{"bucket": 1, "due": utc_now()} for _ in range(5)])
    outbox = await read_outbox(database)
    assert outbox is not None
    assert outbox.due == 3


async def test_without_the_database_the_rest_is_told(
    database: Database, mongod: tuple[str, subprocess.Popen[bytes]]
) -> None:
    start = time.monotonic()
    mongod[1].send_signal(signal.SIGSTOP)
    outbox = await read_outbox(database)
    mongod[1].send_signal(signal.SIGCONT)
    assert outbox is None
    assert time.monotonic() - start < 1
    found = samples(render(outbox))
    assert found["lms_outbox_readable"] == 0
    assert "lms_outbox_due" not in found


@pytest.mark.parametrize(
    ("token", "sent", "status"),
    [("", "", 404), ("", "Bearer ", 404), ("right", "", 401), ("right", "Bearer wrong", 401), ("right", "right", 401)],
)
async def test_the_route_answers_nobody_without_the_token(token: str, sent: str, status: int) -> None:
    client = client_of(metrics_router(Settings.model_validate({"metrics_token": token})))
    answer = await client.get("/metrics", headers={"Authorization": sent} if sent else {})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_route_answers_who_has_the_token(database: Database) -> None:
    client = client_of(metrics_router(Settings.model_validate({"metrics_token": "right"})))
    answer = await client.get("/metrics", headers={"Authorization": "Bearer right"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"
    assert samples(answer.content)["lms_outbox_readable"] == 1


async def test_the_own_port_needs_no_token_and_opens_the_database_itself(
    mongod: tuple[str, subprocess.Popen[bytes]],
) -> None:
    settings = Settings.model_validate({"metrics_port": free_port(), "mongodb_url": mongod[0]})
    server = metrics.start_metrics_server(settings)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.metrics_port}") as client:
        answer = await client.get("/metrics")
        elsewhere = await client.get("/")
    server.shutdown()
    server.server_close()
    assert answer.status_code == 200
    assert samples(answer.content)["lms_outbox_readable"] == 1
    assert elsewhere.status_code == 404
