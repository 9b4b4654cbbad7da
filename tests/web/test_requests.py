import httpx
import pytest
from litestar import Litestar

from tests.conftest import open_client

APP = "https://app.school.example"


@pytest.mark.parametrize("given", ["abcd1234", "A_b-" * 16])
async def test_a_harmless_request_id_is_taken_over(app: Litestar, given: str) -> None:
    async with open_client(app) as client:
        assert (await client.get("/nowhere", headers={"X-Request-Id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["short", "x" * 65, "with space", "tab\there", '"quoted"', "líne-éééé"])
async def test_any_other_one_is_replaced(app: Litestar, given: str) -> None:
    async with open_client(app) as client:
        answer = await client.get("/nowhere", headers=[(b"X-Request-Id", given.encode())])
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers.get_list("x-request-id") == [answer.json()["request_id"]]


async def test_requests_have_ids_of_their_own(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/courses")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_a_known_app_may_read_everything_errors_too(app: Litestar) -> None:
    async with open_client(app, Origin=APP) as client:
        answers = [
            await client.get("/courses"),
            await client.get("/nowhere"),
            await client.get("/enrollments"),
            await client.post("/auth/login", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"}),
        ]
    assert [answer.status_code for answer in answers] == [200, 404, 401, 413]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-allow-credentials"] == "true"
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"etag", "link", "location", "retry-after", "ratelimit", "x-request-id"} <= exposed
        assert "origin" in answer.headers["vary"].lower()


async def test_an_unknown_app_gets_no_leave(app: Litestar) -> None:
    for origin in ("https://evil.example", "http://app.school.example", f"{APP}.evil.example", "null"):
        async with open_client(app, Origin=origin) as client:
            answer = await client.get("/courses")
        assert "access-control-allow-origin" not in answer.headers


async def test_a_preflight_tells_what_is_allowed(app: Litestar) -> None:
    asks = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match, idempotency-key"}
    async with open_client(app, Origin=APP) as client:
        answer = await client.options("/courses", headers=asks)
    assert answer.status_code == 204
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    named = {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key", "last-event-id"}
    assert named | {"x-lms-csrf"} <= allowed
    assert "PATCH" in answer.headers["access-control-allow-methods"]


async def test_a_preflight_of_an_unknown_app_is_refused(app: Litestar) -> None:
    async with open_client(app, Origin="https://evil.example") as client:
        answer = await client.options("/courses", headers={"Access-Control-Request-Method": "GET"})
    assert "access-control-allow-origin" not in answer.headers


async def test_long_answers_are_compressed_for_who_takes_it(client: httpx.AsyncClient) -> None:
    plain = await client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    packed = await client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert "accept-encoding" in packed.headers["vary"].lower()
    short = await client.get("/nowhere", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in short.headers


async def test_many_unknown_parameters_are_named_up_to_a_bound(client: httpx.AsyncClient) -> None:
    answer = await client.get("/courses?" + "&".join(f"p{n}=1" for n in range(500)))
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 100
