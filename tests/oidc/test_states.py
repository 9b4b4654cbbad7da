"""Leaving and coming back: only the browser that left comes back, once, and only to the school's own apps."""

import asyncio
from http.cookies import SimpleCookie

import httpx
import pytest
from litestar import Litestar

from lms.app import create_app
from lms.oidc.documents import OidcCode, OidcStart
from lms.settings import Settings
from tests.accounts.people import refusal
from tests.conftest import HeldClock, open_client, running, settings_for
from tests.oidc.browser import APP, Browser, told
from tests.oidc.rogue import Rogue

REFUSED = {"error": "state_refused", "provider": "rogue"}


async def test_the_provider_is_asked_for_a_code_with_pkce_state_and_nonce(browser: Browser, rogue: Rogue) -> None:
    first, second = await browser.away(), await browser.away()
    assert first | {"state": "", "nonce": "", "code_challenge": ""} == {
        "response_type": "code",
        "client_id": "lms",
        "redirect_uri": "http://lms.test/api/v1/auth/oidc/rogue/callback",
        "scope": "openid email profile",
        "state": "",
        "nonce": "",
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    secrets = [one[name] for one in (first, second) for name in ("state", "nonce", "code_challenge")]
    assert len(set(secrets)) == 6
    assert {len(secret) for secret in secrets} == {43}
    assert (await browser.start("rogue", prompt="login")).headers["location"].endswith("&prompt=login&max_age=0")


async def test_nothing_that_is_stored_lets_anybody_come_back(browser: Browser) -> None:
    asked = await browser.away()
    (stored,) = await OidcStart.find_all().to_list()
    text = stored.model_dump_json()
    cookie = browser.client.cookies["lms_oidc"]
    assert not [secret for secret in (asked["state"], asked["nonce"], cookie) if secret in text]


async def comes_back(browser: Browser, rogue: Rogue, asked: dict[str, str]) -> dict[str, str]:
    rogue.nonce = asked["nonce"]
    return told(await browser.callback("rogue", code="a-code", state=asked["state"]))


async def test_a_state_works_once(browser: Browser, rogue: Rogue) -> None:
    asked = await browser.away()
    assert "code" in await comes_back(browser, rogue, asked)
    assert await comes_back(browser, rogue, asked) == REFUSED
    assert rogue.paths().count("/token") == 1


async def test_of_ten_at_once_one_comes_back(browser: Browser, rogue: Rogue) -> None:
    asked = await browser.away()
    answers = await asyncio.gather(*(comes_back(browser, rogue, asked) for _ in range(10)))
    assert sorted("code" in answer for answer in answers) == [False] * 9 + [True]
    assert await OidcCode.count() == 1


async def test_another_browser_cannot_be_made_to_come_back(
    browser: Browser, other_browser: Browser, rogue: Rogue
) -> None:
    """Who would be signed in there is whoever started, which is how strangers are given one's own account."""
    asked = await browser.away()
    assert await comes_back(other_browser, rogue, asked) == REFUSED
    await other_browser.away()
    assert await comes_back(other_browser, rogue, asked) == REFUSED
    assert "/token" not in rogue.paths()
    # And nobody can spoil it for the one that left.
    assert "code" in await comes_back(browser, rogue, asked)


async def test_a_state_is_good_for_ten_minutes(browser: Browser, rogue: Rogue, held_clock: HeldClock) -> None:
    asked = await browser.away()
    held_clock.advance(minutes=10)
    assert await comes_back(browser, rogue, asked) == REFUSED


async def test_an_unknown_state_leads_to_the_app_and_nowhere_else(browser: Browser, rogue: Rogue) -> None:
    await browser.away()
    for query in ({}, {"state": "x" * 43}, {"state": "x" * 43, "return_to": "https://evil.example"}):
        url = await browser.callback("rogue", code="a-code", **query)
        assert (str(url.copy_with(fragment="")).rstrip("#"), told(url)) == (f"{APP}/", REFUSED)
    assert "/token" not in rogue.paths()


async def test_a_state_counts_at_the_provider_that_it_was_made_for(browser: Browser, rogue: Rogue) -> None:
    asked = await browser.away()
    url = await browser.callback("school", code="a-code", state=asked["state"])
    assert told(url) == {"error": "state_refused", "provider": "school"}
    assert "code" in await comes_back(browser, rogue, asked)


async def test_two_tabs_do_not_disturb_each_other(browser: Browser, rogue: Rogue) -> None:
    first, second = await browser.away(), await browser.away()
    assert "code" in await comes_back(browser, rogue, second)
    assert "code" in await comes_back(browser, rogue, first)


async def test_what_a_provider_appends_is_no_fault_and_what_is_doubled_counts_for_nothing(
    browser: Browser, rogue: Rogue
) -> None:
    asked = await browser.away()
    url = await browser.callback("rogue", code="a", state=[asked["state"], asked["state"]])
    assert told(url) == REFUSED
    rogue.nonce = asked["nonce"]
    url = await browser.callback("rogue", code="a", state=asked["state"], session_state="s", scope="openid")
    assert "code" in told(url)


async def test_what_is_no_cookie_of_ours_is_replaced(browser: Browser) -> None:
    browser.client.cookies.set("lms_oidc", "x", domain="lms.test", path="/")
    response = await browser.start("rogue")
    assert len(SimpleCookie(response.headers["set-cookie"])["lms_oidc"].value) == 43


async def test_over_tls_no_other_host_can_set_the_cookie(
    mongodb_url: str, redis_url: str, school_settings: Settings, school: Litestar
) -> None:
    own = school_settings.model_copy(update={"public_url": "https://lms.test"})
    async with running(create_app(own)) as app, open_client(app) as client:
        query = {"return_to": "/", "app_challenge": "c" * 43}
        response = await client.get("/auth/oidc/rogue/start", params=query)
    flags = {part.strip().lower() for part in response.headers["set-cookie"].split(";")[1:]}
    assert response.headers["set-cookie"].startswith("__Host-lms_oidc=")
    assert flags == {"httponly", "secure", "path=/", "samesite=lax", "max-age=600"}
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "return_to",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "https:/evil.example", "javascript:alert(1)"),
        *("https://app.school.example.evil.example/", "https://app.school.example@evil.example/", "evil.example"),
        *("https://app.school.example\\@evil.example", "http://app.school.example/", "/#code=mine", "/a b", "/\x00"),
        *("/\n//evil.example", "https://app.school.example:444/", "https://APP.school.example@/", "", "https://[::1/"),
        "/" + "x" * 2000,
    ],
)
async def test_there_is_no_way_out_of_the_schools_own_apps(browser: Browser, return_to: str) -> None:
    response = await browser.start("rogue", return_to)
    assert response.status_code == 422
    assert [error["parameter"] for error in response.json()["errors"]] == ["return_to"]
    assert await OidcStart.count() == 0


async def test_any_of_the_schools_origins_will_do(
    mongodb_url: str, redis_url: str, school: Litestar, rogue: Rogue
) -> None:
    provider = f'[{{"name": "rogue", "title": "R", "issuer": "{rogue.issuer}", "client_id": "lms"}}]'
    own = settings_for(mongodb_url, redis_url, LMS_OIDC_PROVIDERS=provider, LMS_CORS_ORIGINS="http://localhost:5173")
    async with running(create_app(own)) as app, Browser.open(app) as browser:
        assert (await browser.start("rogue", "http://localhost:5173/in")).status_code == 302
        assert (await browser.start("rogue", "http://lms.test/in")).status_code == 302
        assert (await browser.start("rogue", f"{APP}/in")).status_code == 422


@pytest.mark.parametrize(
    ("query", "broken"),
    [
        ({}, {"app_challenge", "return_to"}),
        ({"return_to": "/", "app_challenge": "short"}, {"app_challenge"}),
        ({"return_to": "/", "app_challenge": "c" * 43, "prompt": "none"}, {"prompt"}),
        ({"return_to": "/", "app_challenge": "c" * 43, "next": "/"}, {"next"}),
    ],
)
async def test_what_start_does_not_know_is_refused(
    api: httpx.AsyncClient, query: dict[str, str], broken: set[str]
) -> None:
    response = await api.get("/auth/oidc/rogue/start", params=query)
    assert refusal(response) == (422, "validation_failed")
    assert {error["parameter"] for error in response.json()["errors"]} == broken


async def test_starts_are_limited_as_sign_ins_are(
    mongodb_url: str, redis_url: str, school_settings: Settings, school: Litestar
) -> None:
    own = school_settings.model_copy(update={"rate_auth": "2/60", "redis_prefix": "test-oidc-starts", "redis_url": ""})
    async with running(create_app(own)) as app, Browser.open(app) as browser:
        assert [(await browser.start("rogue")).status_code for _ in range(3)] == [302, 302, 429]
