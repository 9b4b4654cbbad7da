"""Whose word on a client's address is taken: by the very middleware that `lms serve` puts around the application."""

from collections.abc import Mapping
from typing import Any, cast

import httpx
import pytest
import uvicorn
from litestar import Litestar

from lms.accounts.attempts import PAIR
from lms.accounts.documents import SignIn, User
from lms.accounts.service import Accounts
from lms.serving import server_options
from lms.settings import Settings
from tests.accounts.people import PASSWORD, a_person, refusal

PROXY, CLIENT, ELSEWHERE = "10.1.2.3", "192.0.2.7", "198.51.100.9"
Headers = list[tuple[str, str]]


@pytest.fixture
async def sam(client: httpx.AsyncClient, accounts: Accounts) -> User:
    _ = client
    return await a_person(accounts, "Sam")


def served(app: Litestar, settings: Settings, trusted: list[str]) -> Any:
    """The application as uvicorn calls it."""
    options = server_options(settings.model_copy(update={"trusted_proxies": trusted}), host="127.0.0.1", port=0)
    options |= {"factory": False, "lifespan": "off"}
    config = uvicorn.Config(cast("Any", app), **options)
    config.load()
    return config.loaded_app


async def sign_in(
    app: Litestar, settings: Settings, peer: str, headers: Headers, *, password: str = PASSWORD, trusted: str = PROXY
) -> httpx.Response:
    transport = httpx.ASGITransport(served(app, settings, [trusted] if trusted else []), client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://lms.test/api/v1", headers=headers) as client:
        return await client.post("/auth/login", json={"email": "sam@school.example", "password": password})


def forwarded(*values: str) -> Headers:
    return [("X-Forwarded-For", value) for value in values]


@pytest.mark.usefixtures("sam")
@pytest.mark.parametrize(
    ("peer", "headers", "trusted", "address"),
    [
        (PROXY, forwarded(CLIENT), PROXY, CLIENT),
        (PROXY, forwarded(CLIENT), "10.0.0.0/8", CLIENT),
        (PROXY, forwarded(f"{ELSEWHERE}, {CLIENT}"), PROXY, CLIENT),
        (PROXY, forwarded(ELSEWHERE, CLIENT), PROXY, CLIENT),
        (PROXY, forwarded("127.0.0.1", f"{PROXY}, {CLIENT}"), PROXY, CLIENT),
        (PROXY, forwarded(f"{ELSEWHERE}, {CLIENT}, 10.9.9.9"), "10.0.0.0/8", CLIENT),
        (CLIENT, forwarded(ELSEWHERE), PROXY, CLIENT),
        (CLIENT, forwarded(ELSEWHERE, PROXY), PROXY, CLIENT),
        (CLIENT, [("Forwarded", f"for={ELSEWHERE}"), ("X-Real-IP", ELSEWHERE)], PROXY, CLIENT),
        ("127.0.0.1", forwarded(ELSEWHERE), "", "127.0.0.1"),
    ],
)
async def test_only_proxies_of_configured_networks_say_where_somebody_is(
    app: Litestar, settings: Settings, peer: str, headers: Headers, trusted: str, address: str
) -> None:
    assert (await sign_in(app, settings, peer, headers, trusted=trusted)).status_code == 200
    (stored,) = await SignIn.find_all().to_list()
    assert stored.address == address


@pytest.mark.usefixtures("sam")
async def test_no_made_up_address_makes_a_guesser_somebody_else(app: Litestar, settings: Settings) -> None:
    seen: Mapping[str, list[tuple[int, str]]] = {CLIENT: [], PROXY: []}
    for number in range(PAIR.free + 1):
        made_up = f"203.0.113.{number}"
        direct = await sign_in(app, settings, CLIENT, forwarded(made_up), password="wrong")
        behind = await sign_in(app, settings, PROXY, forwarded(made_up, ELSEWHERE), password="wrong")
        seen[CLIENT].append(refusal(direct))
        seen[PROXY].append(refusal(behind))
    assert [code for _, code in seen[CLIENT]] == ["bad_credentials"] * PAIR.free + ["too_many_attempts"]
    assert [code for _, code in seen[PROXY]] == ["bad_credentials"] * PAIR.free + ["too_many_attempts"]
    other = await sign_in(app, settings, PROXY, forwarded("192.0.2.200"))
    assert other.status_code == 200


async def test_the_variable_of_the_server_itself_opens_nothing(
    app: Litestar, settings: Settings, sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = sam
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    for trusted in ("", PROXY):
        assert (await sign_in(app, settings, CLIENT, forwarded(ELSEWHERE), trusted=trusted)).status_code == 200
    assert {row.address for row in await SignIn.find_all().to_list()} == {CLIENT}
