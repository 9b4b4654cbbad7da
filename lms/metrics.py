"""Metrics for Prometheus. One scrape adds up all the processes of one `lms serve`.

Several processes share their numbers through files: `prepare_directory` must run in the parent before they start, since
prometheus-client decides when it is imported whether it keeps a number in memory or in a file.
"""

import asyncio
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from lms.clock import utc_now
from lms.logs import CLIENT_CLOSED, FIRST_ERROR, UNMATCHED
from lms.settings import Settings

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OUTBOX_BUCKETS = list(range(64))
MOST_COUNTED = 10_000
OUTBOX_SECONDS = 0.6

registry = CollectorRegistry()
_requests = Counter(
    "lms_http_requests", "Answers by class of status.", ["method", "route", "status"], registry=registry
)
_request_seconds = Histogram(
    "lms_http_request_seconds",
    "Time to the end of the answer.",
    ["method", "route"],
    buckets=HTTP_BUCKETS,
    registry=registry,
)
_jobs = Counter("lms_jobs", "Runs of jobs by outcome.", ["job", "outcome"], registry=registry)
_job_seconds = Histogram(
    "lms_job_seconds", "What a run of a job took.", ["job"], buckets=JOB_BUCKETS, registry=registry
)
_started = Gauge(
    "lms_process_start_time_seconds",
    "When a process started.",
    ["kind"],
    multiprocess_mode="liveall",
    registry=registry,
)

Database = AsyncDatabase[dict[str, Any]]


def prepare_directory(path: Path) -> None:
    """An empty directory for the numbers of the processes that this one is going to start."""
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("*.db"):
        old.unlink()
    os.environ[DIRECTORY] = str(path)


def mark_started(kind: str) -> None:
    """Called once by each process: `api`, `worker` or `scheduler`."""
    _started.labels(kind).set(time.time())


def forget_process(pid: int) -> None:
    """Called by the parent when a process has ended. What it counted stays counted."""
    if directory := os.environ.get(DIRECTORY):
        mark_process_dead(pid, directory)


def observe_job(name: str, outcome: str, seconds: float) -> None:
    _jobs.labels(name, outcome).inc()
    _job_seconds.labels(name).observe(seconds)


class RequestMetrics:
    """Counts and times every request. Stands around the application, so that unknown routes count too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Looking labels up costs more than counting; there are only as many keys as routes, methods and classes.
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = CLIENT_CLOSED

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except Exception:
            status = FIRST_ERROR
            raise
        finally:
            counter, histogram = self._children(scope["method"], scope.get("path_template", UNMATCHED), status // 100)
            counter.inc()
            histogram.observe(time.perf_counter() - started)

    def _children(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        method = method if method in METHODS else "OTHER"
        key = (method, route, status)
        if key not in self._known:
            self._known[key] = (
                _requests.labels(method, route, f"{status}xx"),
                _request_seconds.labels(method, route),
            )
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits. Counts end at 10,000."""

    due: int
    failed: int
    oldest_seconds: float


async def read_outbox(database: Database) -> Outbox | None:
    """None where the database does not answer in time."""
    try:
        async with asyncio.timeout(OUTBOX_SECONDS):
            return await _outbox(database)
    except (PyMongoError, TimeoutError):
        return None


async def _outbox(database: Database) -> Outbox:
    events, now = database["outbox"], utc_now()
    due: dict[str, Any] = {"bucket": {"$in": OUTBOX_BUCKETS}, "due": {"$lte": now}}
    oldest = await events.find_one(due, {"due": 1}, sort=[("due", 1)])
    return Outbox(
        due=await events.count_documents(due, limit=MOST_COUNTED),
        failed=await events.count_documents({"failed_at": {"$type": "date"}}, limit=MOST_COUNTED),
        oldest_seconds=(now - oldest["due"]).total_seconds() if oldest else 0.0,
    )


def render(outbox: Outbox | None) -> bytes:
    """Everything in Prometheus's text format. Reads files: call it in a thread."""
    directory = os.environ.get(DIRECTORY)
    shared = CollectorRegistry() if directory else registry
    if directory:
        MultiProcessCollector(shared, directory)
    more = CollectorRegistry(auto_describe=False)
    more.register(_Readings(outbox, _processes(directory)))
    return generate_latest(shared) + generate_latest(more)


def _processes(directory: str | None) -> list[int]:
    """The processes that live, by the files that `forget_process` takes away."""
    if directory is None:
        return [os.getpid()]
    names = (re.fullmatch(r"gauge_liveall_(\d+)\.db", path.name) for path in Path(directory).iterdir())
    return sorted(int(name[1]) for name in names if name)


class _Readings:
    """What is looked up when a scrape asks."""

    def __init__(self, outbox: Outbox | None, pids: list[int]) -> None:
        self._outbox = outbox
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        yield from self._outbox_metrics()
        memory = GaugeMetricFamily("lms_process_resident_memory_bytes", "Memory of a process.", labels=["pid"])
        processor = CounterMetricFamily("lms_process_cpu_seconds", "Processor time of a process.", labels=["pid"])
        for pid in self._pids:
            used = _usage(pid)
            if used is not None:
                memory.add_metric([str(pid)], used[0])
                processor.add_metric([str(pid)], used[1])
        yield memory
        yield processor

    def _outbox_metrics(self) -> Iterator[Metric]:
        readable = float(self._outbox is not None)
        yield GaugeMetricFamily("lms_outbox_readable", "1 where the database answered in time.", readable)
        if self._outbox is not None:
            yield GaugeMetricFamily("lms_outbox_due", "Events due now, at most 10000.", self._outbox.due)
            yield GaugeMetricFamily("lms_outbox_failed", "Events given up, at most 10000.", self._outbox.failed)
            oldest = "How long the oldest due event is late."
            yield GaugeMetricFamily("lms_outbox_oldest_due_seconds", oldest, self._outbox.oldest_seconds)


def _usage(pid: int) -> tuple[float, float] | None:
    """Resident bytes and processor seconds, from Linux's /proc; None elsewhere, and for a process that is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE"), sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


async def scrape(settings: Settings) -> bytes:
    """For a process that has no database open: one connection for each scrape."""
    milliseconds = int(OUTBOX_SECONDS * 1000)
    async with AsyncMongoClient[dict[str, Any]](
        settings.mongodb_url, serverSelectionTimeoutMS=milliseconds, tz_aware=True
    ) as client:
        return render(await read_outbox(client[settings.mongodb_database]))


def start_metrics_server(settings: Settings) -> ThreadingHTTPServer:
    """Serves /metrics on 127.0.0.1 at `metrics_port` from a thread. Stop it with `shutdown()` and `server_close()`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = asyncio.run(scrape(settings)) if self.path == "/metrics" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Scrapes are not logged."""

    server = ThreadingHTTPServer(("127.0.0.1", settings.metrics_port), Handler)
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
