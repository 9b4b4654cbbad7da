import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Generator
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
import structlog
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, get, post
from litestar.exceptions import NotAuthorizedException
from litestar.params import FromPath

from lms.logs import RequestLog, configure_logging, request_id
from lms.redaction import MAX_TEXT, REDACTED, clean_text, redact
from lms.settings import Settings

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
REFRESH = f"{UUID(int=7)}.3.c2lnbmF0dXJl_-=="
BCRYPT = "$2b$12$" + "a" * 53
IVY = UUID(int=1)

pytestmark = pytest.mark.quick


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_restored() -> Generator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.BytesIO:
    return io.BytesIO()


def log_to(stream: io.BytesIO, **settings: Any) -> Any:
    configure_logging(Settings(**settings), stream)
    return structlog.get_logger("lms.test")


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_time_level_logger_event_and_what_it_was_given(stream: io.BytesIO) -> None:
    log_to(stream).info("job_done", task="send_welcome_email", seconds=0.25, tries=[1, 2], id=IVY)
    line = lines(stream)[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert abs(datetime.now().astimezone() - datetime.fromisoformat(line["time"])).total_seconds() < 5
    del line["time"]
    assert line == {
        "level": "info",
        "logger": "lms.test",
        "event": "job_done",
        "task": "send_welcome_email",
        "seconds": 0.25,
        "tries": [1, 2],
        "id": str(IVY),
    }


def test_lines_of_libraries_come_out_the_same_way(stream: io.BytesIO) -> None:
    log_to(stream)
    logging.getLogger("uvicorn.error").warning("Started %s with password=%s", "server", "hunter2")
    logging.getLogger("uvicorn.access").info("GET /api/v1/courses?token=x")
    logging.getLogger("somebody").error("%d is not", "a number")
    found = lines(stream)
    assert [(one["level"], one["logger"]) for one in found] == [("warning", "uvicorn.error"), ("error", "somebody")]
    assert found[0]["event"] == f"Started server with password={REDACTED}"
    assert found[1]["event"] == "%d is not"


def test_less_severe_lines_are_not_written(stream: io.BytesIO) -> None:
    logger = log_to(stream, log_level="ERROR")
    logger.warning("hidden")
    logging.getLogger("pymongo").warning("hidden")
    logging.getLogger("somebody").warning("hidden")
    logger.error("shown")
    assert [one["event"] for one in lines(stream)] == ["shown"]


@pytest.mark.parametrize(
    "name", ["password", "new_password", "token", "refresh_token", "Authorization", "secret_key", "cookie", "api_key"]
)
@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"value": "hunter2"}, 12])
def test_a_secret_is_known_by_its_name(stream: io.BytesIO, name: str, value: Any) -> None:
    log_to(stream).info("x", **{name: value}, inside={"deep": [{name: value}]}, empty={name: None})
    line = lines(stream)[0]
    assert line[name] == REDACTED
    assert line["inside"] == {"deep": [{name: REDACTED}]}
    assert line["empty"] == {name: None}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"Authorization failed for Bearer {JWT} here", f"Authorization failed for Bearer {REDACTED} here"),
        (f"got {JWT}, once", f"got {REDACTED}, once"),
        ("{'Authorization': 'Basic aXZ5OnB3'}", f"{{'Authorization': '{REDACTED}'}}"),
        ("authorization: Basic aXZ5OnB3 sent", f"authorization: {REDACTED} sent"),
        (f"got {REFRESH}", f"got {REDACTED}"),
        (f"hash v1${BCRYPT}", f"hash v1${REDACTED}"),
        ("smtp://user:pa:ss@mail:25", f"smtp://{REDACTED}@mail:25"),
        ("redis://:hunter2@cache:6379/0 is away", f"redis://{REDACTED}@cache:6379/0 is away"),
        ("mongodb+srv://ivy:p/w?d@db/?tls=true", f"mongodb+srv://{REDACTED}@db/?tls=true"),
        ("https://token@git.example.org/x", f"https://{REDACTED}@git.example.org/x"),
        ("{'password': 'two words', 'a': 1}", f"{{'password': {REDACTED}, 'a': 1}}"),
        ('{"refresh_token":"abc","b":2}', f'{{"refresh_token":{REDACTED},"b":2}}'),
        ("LMS_SECRET_KEY=abc LMS_PORT=1", f"LMS_SECRET_KEY={REDACTED} LMS_PORT=1"),
        ("https://lms.example/reset?token=abc&next=1", f"https://lms.example/reset?token={REDACTED}&next=1"),
    ],
)
def test_a_secret_is_known_by_its_shape(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8000/courses/a@b",
        "ivy@example.org enrolled",
        f"user {IVY} is in",
        "version 1.2.3",
        "The basic course costs $25",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_a_secret_in_an_exception_does_not_get_out(stream: io.BytesIO) -> None:
    error = RuntimeError({"token": "hunter2"})
    error.__cause__ = ValueError("cannot reach mongodb://root:hunter2@db")
    log_to(stream).error("broke", exc_info=error)
    line = lines(stream)[0]
    assert line["level"] == "error"
    assert "hunter2" not in line["exception"]
    assert "RuntimeError" in line["exception"]
    assert f"mongodb://{REDACTED}@db" in line["exception"]


def test_an_exception_is_told_in_each_of_its_forms(stream: io.BytesIO) -> None:
    logger = log_to(stream)
    logger.error("given", exc_info=KeyError("a"))
    logger.error("none", exc_info=True)  # noqa: LOG014 - where there is none
    logger.error("not wanted", exc_info=False)
    try:
        int("b")
    except ValueError:
        logging.getLogger("somebody").exception("tuple")
    shown = [one.get("exception", "").strip() for one in lines(stream)]
    assert shown[:3] == ["KeyError: 'a'", "", ""]
    assert shown[3].endswith("invalid literal for int() with base 10: 'b'")


def test_an_endless_traceback_is_cut(stream: io.BytesIO) -> None:
    def deeper(depth: int) -> int:
        return deeper(depth - 1) if depth else int("x" * 100_000)

    logger = log_to(stream)
    try:
        deeper(200)
    except ValueError:
        logger.exception("broke")
    assert len(lines(stream)[0]["exception"]) < 17_000


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x1b[2K", "\u202e", "\ud800"])
def test_a_client_cannot_forge_a_line(stream: io.BytesIO, log_format: str, end: str) -> None:
    forged = f'x{end}{{"level":"error","event":"forged"}}'
    logger = log_to(stream, log_format=log_format)
    logger.info(forged, name=forged, **{forged: forged}, nested={forged: [forged]})
    logger.error("broke", exc_info=ValueError(forged))
    text = stream.getvalue().decode()
    assert all(line[0] in "{0123456789 " for line in text.splitlines())
    assert "\x1b" not in text
    assert "\u202e" not in text
    if log_format == "json":
        assert len(lines(stream)) == len(text.splitlines()) == 2


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00\x01", "[2 bytes]"),
        (2**70, "[huge number]"),
        (float("nan"), None),
        (None, None),
        (True, True),
        ({1: 2}, {"1": 2}),
        ((1, "a"), [1, "a"]),
        (Unprintable(), "[Unprintable that cannot be printed]"),
        (list(range(60)), list(range(50))),
        ([[[[[[[1]]]]]]], [[[[["[[1]]"]]]]]),
    ],
)
def test_whatever_is_logged_fits_in_a_line(stream: io.BytesIO, value: Any, shown: Any) -> None:
    log_to(stream).info("x", value=value)
    assert lines(stream)[0]["value"] == shown


def test_long_values_are_cut_without_leaving_half_a_secret() -> None:
    assert clean_text("a" * 5000) == "a" * MAX_TEXT + "... [5000 characters]"
    almost = "a" * (MAX_TEXT - 20) + " Bearer " + JWT
    assert JWT[:12] not in clean_text(almost)


def test_a_field_cannot_take_the_place_of_ours(stream: io.BytesIO) -> None:
    log_to(stream).info("x", level="fine", logger="me", time="never")
    line = lines(stream)[0]
    assert (line["level"], line["logger"], line["time"][:2]) == ("info", "lms.test", "20")


def test_people_read_columns(stream: io.BytesIO) -> None:
    logger = log_to(stream, log_format="console")
    logger.warning("late", task="mail", seconds=3)
    logger.error("broke", exc_info=ValueError("a\nb"))
    shown = [line[10:] for line in stream.getvalue().decode().splitlines()]
    assert shown[0] == "warning  lms.test  late  task=mail  seconds=3"
    assert shown[1] == "error    lms.test  broke"
    assert "ValueError: a" in stream.getvalue().decode()


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    log_to(terminal, log_format="console").error("broke")
    assert b"\x1b[31m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    log_to(plain, log_format="console").error("broke")
    assert b"\x1b" not in plain.getvalue()


def test_a_crash_is_a_line_and_an_interrupt_is_not(stream: io.BytesIO, capsys: pytest.CaptureFixture[str]) -> None:
    log_to(stream)
    sys.excepthook(ValueError, ValueError("token=abc"), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    found = lines(stream)
    assert [(one["level"], one["event"]) for one in found] == [("critical", "crashed")]
    assert "KeyboardInterrupt" in capsys.readouterr().err


@get("/courses/{name:str}")
async def read_course(name: FromPath[str]) -> dict[str, str]:
    return {"name": name}


@post("/broken")
async def break_down() -> None:
    structlog.get_logger("lms.test").error("here")
    raise RuntimeError("token=abc")


@get("/refused")
async def refuse() -> None:
    raise NotAuthorizedException


@get("/probe", opt={"quiet": True})
async def probe() -> None:
    return None


def client_of(app: Any, *, signed_in: bool = False) -> AsyncClient:
    log = RequestLog(app)

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"request_id": "req-12345678"}
        scope["user"] = SimpleNamespace(id=IVY) if signed_in else None
        await log(scope, receive, send)

    return AsyncClient(transport=ASGITransport(cast("Any", outermost), raise_app_exceptions=False), base_url="http://l")


def sample_app() -> Litestar:
    return Litestar([read_course, break_down, refuse, probe], openapi_config=None, logging_config=None)


async def test_a_request_is_one_line_with_the_route_and_never_the_path(stream: io.BytesIO) -> None:
    log_to(stream)
    client = client_of(sample_app(), signed_in=True)
    await client.get("/courses/private-name?token=abc")
    line = lines(stream)[0]
    assert line.pop("milliseconds") < 1000
    del line["time"]
    assert line == {
        "level": "info",
        "logger": "lms.requests",
        "event": "request",
        "request_id": "req-12345678",
        "method": "GET",
        "route": "/courses/{name}",
        "status": 200,
        "user_id": str(IVY),
    }


async def test_unknown_routes_and_refusals_are_told_without_alarm(stream: io.BytesIO) -> None:
    log_to(stream)
    client = client_of(sample_app())
    await client.get("/nothing/here")
    await client.get("/refused")
    assert [(one["level"], one["route"], one["status"]) for one in lines(stream)] == [
        ("info", "(unmatched)", 404),
        ("info", "/refused", 401),
    ]


async def test_a_server_error_is_an_error_and_every_line_of_the_request_has_its_id(stream: io.BytesIO) -> None:
    log_to(stream)
    await client_of(sample_app()).post("/broken")
    found = lines(stream)
    assert [(one["level"], one["event"]) for one in found] == [("error", "here"), ("error", "request")]
    assert {one["request_id"] for one in found} == {"req-12345678"}
    assert found[1]["status"] == 500
    assert request_id.get() == ""


async def test_probes_are_quiet_while_all_is_well(stream: io.BytesIO) -> None:
    log_to(stream)
    await client_of(sample_app()).get("/probe")
    assert lines(stream) == []
    log_to(stream, log_level="DEBUG")
    await client_of(sample_app()).get("/probe")
    assert lines(stream)[0]["level"] == "debug"


async def test_what_breaks_the_answer_itself_is_told_once(stream: io.BytesIO) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("password=hunter2")

    log_to(stream)
    await client_of(broken).get("/")
    found = lines(stream)
    assert [(one["event"], one.get("status")) for one in found] == [("answer_broke_off", None), ("request", 500)]
    assert "hunter2" not in found[0]["exception"]


async def test_a_client_that_went_away_is_499(stream: io.BytesIO) -> None:
    async def given_up(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    log_to(stream)
    with pytest.raises(asyncio.CancelledError):
        await client_of(given_up).get("/")
    assert lines(stream)[0]["status"] == 499


async def test_other_scopes_pass_through(stream: io.BytesIO) -> None:
    log_to(stream)
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    nothing: Callable[..., Any] = app
    await RequestLog(app)(cast("Any", {"type": "lifespan"}), nothing, nothing)
    assert seen == ["lifespan"]
    assert lines(stream) == []


async def test_people_read_requests_in_columns(stream: io.BytesIO) -> None:
    log_to(stream, log_format="console")
    await client_of(sample_app()).get("/courses/x")
    assert re.fullmatch(r"\d\d:\d\d:\d\d  200  GET /courses/\{name\}  \d+ ms\n", stream.getvalue().decode())
