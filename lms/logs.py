"""Logs: one line for each thing that happened, as JSON or, for people, in columns."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, BinaryIO

import msgspec
import structlog
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from lms.redaction import MAX_NAME, clean_exception, clean_fields, clean_text, escape
from lms.settings import Settings

CLIENT_CLOSED = 499
FIRST_ERROR = 500
UNMATCHED = "(unmatched)"
REQUESTS = "lms.requests"
NOISY = ("uvicorn.access", "httpx", "httpcore", "pymongo", "asyncio", "taskiq.receiver")

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""What every line of this task is marked with."""

Record = MutableMapping[str, Any]

_CONTROL = re.compile("[\x00-\x1f]")
_encoder = msgspec.json.Encoder()


class Writer:
    """Puts each record on the stream with one write, so that lines of several processes stay whole."""

    def __init__(self, stream: BinaryIO, render: Callable[[Record], bytes]) -> None:
        self._stream = stream
        self._render = render

    def write(self, record: Record) -> None:
        self._stream.write(self._render(record) + b"\n")
        self._stream.flush()


class _Output:
    """Where lines go. Until `configure_logging` has run: to whoever reads standard error."""

    writer = Writer(sys.stderr.buffer, _encoder.encode)
    level = logging.INFO


def configure_logging(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Send everything that is logged in this process, by us or by a library, to `stream` or standard error."""
    target = stream or sys.stderr.buffer
    _Output.writer = Writer(target, _columns(target) if settings.log_format == "console" else _encoder.encode)
    _Output.level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=[_with_level],
        wrapper_class=structlog.make_filtering_bound_logger(_Output.level),
        logger_factory=_Logger,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=_Output.level, force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, _Output.level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    sys.excepthook = _log_crash


def emit(level: str, logger: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write one record. Everything in it is cleaned here."""
    record: dict[str, Any] = {"time": _now(), "level": level, "logger": logger, "event": clean_text(event)}
    given = fields.get("request_id") or request_id.get()
    if given:
        record["request_id"] = clean_text(str(given), MAX_NAME)
    taken = record.keys() | {"exc_info", "request_id"}
    record |= clean_fields({key: value for key, value in fields.items() if key not in taken})
    error = _exception_of(fields.get("exc_info"))
    if error is not None:
        record["exception"] = clean_exception(error)
    _Output.writer.write(record)


def _exception_of(info: Any) -> BaseException | None:
    """What the three forms of `exc_info` mean."""
    if isinstance(info, BaseException):
        return info
    found = info if isinstance(info, tuple) else sys.exc_info() if info else (None, None)
    return found[1]


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03}Z"


class _Logger:
    """What structlog hands finished events to."""

    def __init__(self, name: str = "lms") -> None:
        self._name = name

    def _emit(self, /, **fields: Any) -> None:
        emit(fields.pop("_level"), self._name, str(fields.pop("event", "")), fields)

    debug = info = warning = error = critical = _emit


def _with_level(_: Any, method: str, event: Record) -> Record:
    event["_level"] = method
    return event


class _Bridge(logging.Handler):
    """Takes the lines that libraries write with the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (TypeError, ValueError):
            event = str(record.msg)
        emit(record.levelname.lower(), record.name, event, {"exc_info": record.exc_info})


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        emit("critical", "lms", "crashed", {"exc_info": error})


def _columns(stream: BinaryIO) -> Callable[[Record], bytes]:
    colours = {"warning": 33, "error": 31, "critical": 31} if stream.isatty() and "NO_COLOR" not in os.environ else {}

    def render(record: Record) -> bytes:
        text = _request_columns(record) if record["logger"] == REQUESTS else _other_columns(record)
        if record["level"] in colours:
            text = f"\x1b[{colours[record['level']]}m{text}\x1b[0m"
        return f"{time.strftime('%H:%M:%S')}  {text}".encode()

    return render


def _request_columns(record: Record) -> str:
    method = _one_line(record["method"])
    return f"{record['status']}  {method} {record['route']}  {record['milliseconds']:.0f} ms"


def _other_columns(record: Record) -> str:
    known = {"time", "level", "logger", "event", "exception"}
    more = "".join(f"  {_one_line(key)}={_one_line(value)}" for key, value in record.items() if key not in known)
    trace = "".join(f"\n    {_one_line(line)}" for line in str(record.get("exception", "")).splitlines())
    return f"{record['level']:<8} {record['logger']}  {_one_line(record['event'])}{more}{trace}"


def _one_line(value: Any) -> str:
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    return _CONTROL.sub(escape, text)


class RequestLog:
    """One line for each request. Stands around the application, so that unknown routes are told too.

    A route with `opt={"quiet": True}` (probes, metrics) is told at the level DEBUG while all is well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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

        mark = request_id.set(str(scope.get("state", {}).get("request_id", "")))
        try:
            await self.app(scope, receive, send_and_note)
        except Exception as error:
            status = FIRST_ERROR
            emit("error", "lms.errors", "answer_broke_off", {"exc_info": error})
            raise
        finally:
            _write_request(scope, status, time.perf_counter() - started)
            request_id.reset(mark)


def _write_request(scope: Any, status: int, seconds: float) -> None:
    """Not through `emit`, which costs four times as much: only the method is the client's choice."""
    level = _level_of(scope, status)
    if level < _Output.level:
        return
    record: dict[str, Any] = {
        "time": _now(),
        "level": logging.getLevelName(level).lower(),
        "logger": REQUESTS,
        "event": "request",
        "request_id": request_id.get(),
        "method": clean_text(scope["method"], MAX_NAME),
        "route": scope.get("path_template", UNMATCHED),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    user = scope.get("user")
    if user is not None:
        record["user_id"] = str(user.id)
    if "api_key_id" in scope.get("state", ()):
        record["api_key_id"] = scope["state"]["api_key_id"]
    _Output.writer.write(record)


def _level_of(scope: Any, status: int) -> int:
    if status >= FIRST_ERROR:
        return logging.ERROR
    handler = scope.get("route_handler")
    return logging.DEBUG if handler is not None and handler.opt.get("quiet") else logging.INFO
