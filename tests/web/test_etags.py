"""Conditional requests of the mechanism itself, in an app of three routes."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from litestar import Litestar, Response, get, post
from litestar.params import FromQuery
from litestar.response import Stream

from lms.errors import Invalid
from lms.web.etags import ConditionalReads, RevisionMismatch, if_match, seen_revision, strong_tag
from tests.conftest import open_client


@get("/strong")
async def strong() -> Response[str]:
    return Response("body", headers={"ETag": '"3.7"', "Link": "</x>", "Cache-Control": "no-cache"})


@get("/weak")
async def weak(text: FromQuery[str]) -> str:
    return text


@get("/missing", status_code=404)
async def missing() -> str:
    return "nothing"


@get("/empty")
async def empty() -> Response[bytes]:
    return Response(b"")


@get("/stream")
async def stream() -> Stream:
    async def parts() -> AsyncGenerator[bytes]:
        yield b"one "
        yield b"two"

    return Stream(parts())


@post("/write", status_code=200)
async def write() -> Response[str]:
    return Response("written", headers={"ETag": '"4"'})


@pytest.fixture
async def reader() -> AsyncGenerator[httpx.AsyncClient]:
    app = Litestar([strong, weak, missing, empty, stream, write], middleware=[ConditionalReads()], openapi_config=None)
    async with open_client(app) as client:
        client.base_url = httpx.URL("http://lms.test")
        yield client


@pytest.mark.parametrize(
    "wanted", ['"3.7"', 'W/"3.7"', '"1", "3.7"', '"1","3.7" ,"9"', "*", ["", '"1"', '"3.7"'], ['"3.7"', '"1"']]
)
async def test_a_read_that_the_caller_has_is_a_304_without_a_body(
    reader: httpx.AsyncClient, wanted: str | list[str]
) -> None:
    lines = [wanted] if isinstance(wanted, str) else wanted
    answer = await reader.get("/strong", headers=[("If-None-Match", line) for line in lines])
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == '"3.7"'
    assert (answer.headers["link"], answer.headers["cache-control"]) == ("</x>", "no-cache")
    assert not {"content-type", "content-length"} & set(answer.headers)


@pytest.mark.parametrize("wanted", ["", '"3"', '"3.70"', "3.7", '"3.6", "3.8"'])
async def test_another_tag_gets_the_whole_answer(reader: httpx.AsyncClient, wanted: str) -> None:
    answer = await reader.get("/strong", headers={"If-None-Match": wanted})
    assert (answer.status_code, answer.text, answer.headers["etag"]) == (200, "body", '"3.7"')


async def test_an_answer_without_a_tag_gets_a_weak_one_of_its_bytes(reader: httpx.AsyncClient) -> None:
    first, same, other = [await reader.get("/weak", params={"text": text}) for text in ("a", "a", "b")]
    assert first.headers["etag"].startswith('W/"')
    assert first.headers["etag"] == same.headers["etag"] != other.headers["etag"]
    seen = {"If-None-Match": first.headers["etag"]}
    assert (await reader.get("/weak?text=a", headers=seen)).status_code == 304
    assert (await reader.get("/weak?text=b", headers=seen)).text == "b"


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/empty", 200), ("/stream", 200)])
async def test_what_is_no_whole_representation_is_never_a_304(
    reader: httpx.AsyncClient, path: str, status: int
) -> None:
    answer = await reader.get(path, headers={"If-None-Match": "*"})
    assert answer.status_code == status
    assert "etag" not in answer.headers


async def test_a_stream_arrives_whole(reader: httpx.AsyncClient) -> None:
    assert (await reader.get("/stream")).text == "one two"


async def test_a_write_is_never_a_304(reader: httpx.AsyncClient) -> None:
    answer = await reader.post("/write", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.text, answer.headers["etag"]) == (200, "written", '"4"')


def request_with(**headers: str) -> Any:
    return cast("Any", SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()}))


def test_a_strong_tag_is_made_of_revisions() -> None:
    assert strong_tag(3) == '"3"'
    assert strong_tag(3, 7) == '"3.7"'


def test_no_if_match_and_a_star_mind_nothing() -> None:
    assert if_match(request_with()) is None
    assert if_match(request_with(if_match=" * ")) is None
    assert seen_revision(None, 3)


@pytest.mark.parametrize(
    ("value", "revision", "seen"),
    [
        ('"3.7"', 3, True),
        ('"3.8"', 3, True),
        ('"3"', 3, True),
        ('"1.1" , "3.7"', 3, True),
        ('"13.7"', 3, False),
        ('"2.7"', 3, False),
        ('"7.3"', 3, False),
        ('W/"3.7"', 3, False),
        ('""', 3, False),
    ],
)
def test_the_first_number_of_a_strong_tag_is_what_the_caller_saw(value: str, revision: int, *, seen: bool) -> None:
    assert seen_revision(if_match(request_with(if_match=value)), revision) is seen


@pytest.mark.parametrize("value", ["", "3.7", '"3.7', '"3.7" "3.8"', '"a b"', '"3.7",', '*, "3.7"', 'w/"3"', '"\x7f"'])
def test_a_malformed_if_match_is_refused(value: str) -> None:
    with pytest.raises(Invalid) as refused:
        if_match(request_with(if_match=value))
    assert [(one.code, one.header) for one in refused.value.errors] == [("invalid", "If-Match")]


def test_a_mismatch_carries_the_tag_and_what_stands_there_now() -> None:
    error = RevisionMismatch('"4.7"', {"title": "Tides"})
    assert (error.status, error.code) == (412, "revision_mismatch")
    assert error.headers == {"ETag": '"4.7"'}
    assert error.members == {"current": {"title": "Tides"}}
