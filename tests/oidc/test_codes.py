"""What an app gets for a code: tokens, once, within a minute, and only the app that started."""

import asyncio

import httpx
import pytest

from lms.accounts.documents import SignIn, User
from lms.accounts.people import set_active
from lms.oidc.documents import OidcCode
from tests.accounts.people import refusal
from tests.conftest import HeldClock
from tests.oidc.browser import VERIFIER, Browser, exchange, told
from tests.oidc.rogue import Rogue

REFUSED = (401, "oidc_code_refused")


@pytest.fixture
async def url(browser: Browser, rogue: Rogue) -> httpx.URL:
    """Where the app is told a code."""
    asked = await browser.away()
    rogue.nonce = asked["nonce"]
    found = await browser.callback("rogue", code="a-code", state=asked["state"])
    assert "code" in told(found)
    return found


async def test_a_code_works_once(api: httpx.AsyncClient, url: httpx.URL) -> None:
    assert (await exchange(api, url, "rogue")).status_code == 200
    assert refusal(await exchange(api, url, "rogue")) == REFUSED


async def test_of_ten_at_once_one_gets_tokens(api: httpx.AsyncClient, url: httpx.URL) -> None:
    answers = await asyncio.gather(*(exchange(api, url, "rogue") for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
    assert await SignIn.count() == 1


async def test_whoever_reads_the_code_lacks_what_the_app_holds(api: httpx.AsyncClient, url: httpx.URL) -> None:
    assert refusal(await exchange(api, url, "rogue", "another-verifier" * 3)) == REFUSED
    # Somebody has seen it who should not have, so it is over.
    assert refusal(await exchange(api, url, "rogue")) == REFUSED
    assert await SignIn.count() == 0


async def test_a_code_is_good_for_a_minute(
    held_clock: HeldClock, browser: Browser, api: httpx.AsyncClient, rogue: Rogue
) -> None:
    asked = await browser.away()
    now = int(held_clock.now.timestamp())
    rogue.nonce, rogue.claims = asked["nonce"], {"iat": now, "exp": now + 300}
    url = await browser.callback("rogue", code="a-code", state=asked["state"])
    held_clock.advance(seconds=60)
    assert refusal(await exchange(api, url, "rogue")) == REFUSED


async def test_a_code_counts_at_its_own_provider(api: httpx.AsyncClient, url: httpx.URL) -> None:
    assert refusal(await exchange(api, url, "school")) == REFUSED
    assert (await exchange(api, url, "rogue")).status_code == 200


async def test_whoever_was_shut_out_meanwhile_is_out(api: httpx.AsyncClient, url: httpx.URL) -> None:
    (user,) = await User.find_all().to_list()
    await set_active(user.id, active=False)
    assert refusal(await exchange(api, url, "rogue")) == REFUSED
    assert await SignIn.count() == 0


async def test_whoever_was_erased_meanwhile_is_out(api: httpx.AsyncClient, url: httpx.URL) -> None:
    await User.find_all().delete()
    assert refusal(await exchange(api, url, "rogue")) == REFUSED


async def test_the_code_itself_is_not_stored(url: httpx.URL) -> None:
    (stored,) = await OidcCode.find_all().to_list()
    assert told(url)["code"] not in stored.model_dump_json()
    assert VERIFIER not in stored.model_dump_json()


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {"#/code", "#/app_verifier"}),
        ({"code": "", "app_verifier": "short"}, {"#/code", "#/app_verifier"}),
        ({"code": "c" * 101, "app_verifier": "v" * 129}, {"#/code", "#/app_verifier"}),
        ({"code": "c", "app_verifier": "v" * 43, "role": "admin"}, {"#/role"}),
    ],
)
async def test_what_is_no_exchange_is_refused(api: httpx.AsyncClient, body: dict[str, str], pointers: set[str]) -> None:
    response = await api.post("/auth/oidc/rogue/exchange", json=body)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == pointers


async def test_an_unknown_code_and_an_unknown_provider_are_refused(api: httpx.AsyncClient) -> None:
    body = {"code": "c" * 43, "app_verifier": "v" * 43}
    assert refusal(await api.post("/auth/oidc/rogue/exchange", json=body)) == REFUSED
    assert refusal(await api.post("/auth/oidc/nobody/exchange", json=body)) == (404, "oidc_provider_not_found")
