"""What a sign-in at a provider proves, and when: as much as the ID token says, and as the school trusts it."""

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from lms.accounts.documents import SignIn, SignInFailures, User
from lms.accounts.service import Accounts
from lms.app import create_app
from lms.clock import utc_now
from lms.settings import Settings
from tests.accounts.people import Signed, a_person, refusal, sign_in
from tests.conftest import open_client, running
from tests.oidc.browser import Browser, exchange, told
from tests.oidc.rogue import Rogue
from tests.second_factor.factors import App, confirm, enrol, prove, renew, secret_of, state

TOO_OLD = (403, "proof_too_old")
NO_PASSWORD = (403, "no_password")
PROVEN = (409, "no_second_factor")
"""The proof was recent enough; there is just nothing to renew."""
REFUSED = {"error": "provider_refused", "provider": "rogue"}


async def arrive(browser: Browser, rogue: Rogue, provider: str = "rogue", **more: str) -> httpx.URL:
    asked = await browser.away(provider, **more)
    rogue.nonce = asked["nonce"]
    return await browser.callback(provider, code="a-code", state=asked["state"])


async def enter(api: httpx.AsyncClient, browser: Browser, rogue: Rogue, provider: str = "rogue", **more: str) -> Signed:
    return Signed(await exchange(api, await arrive(browser, rogue, provider, **more), provider))


async def session_of(signed: Signed) -> SignIn:
    stored = await SignIn.get(signed.family)
    assert stored is not None
    return stored


@pytest.fixture
async def demanding(school_settings: Settings, school: Litestar) -> AsyncGenerator[Litestar]:
    """A school whose students must have a second factor."""
    own = school_settings.model_copy(update={"mfa_required_for": ["student"]})
    async with running(create_app(own)) as app:
        yield app


@pytest.mark.parametrize(
    ("provider", "amr", "methods"),
    [
        ("strong", ["pwd", "mfa"], ["fed", "mfa"]),
        ("strong", ["pwd", "otp"], ["fed"]),
        ("strong", "mfa", ["fed"]),
        ("rogue", ["pwd", "mfa"], ["fed"]),
    ],
)
async def test_a_second_factor_counts_where_the_school_trusts_the_provider_in_that(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue, provider: str, amr: object, methods: list[str]
) -> None:
    rogue.claims = {"amr": amr}
    assert (await session_of(await enter(api, browser, rogue, provider))).methods == methods


async def test_what_nobody_signed_says_nothing_of_how_or_when(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    rogue.claims = {"email": None}
    now = int(utc_now().timestamp())
    rogue.userinfo = {"sub": "sam-at-rogue", "email": "sam@school.example", "email_verified": True}
    rogue.userinfo |= {"amr": ["mfa"], "auth_time": now}
    stored = await session_of(await enter(api, browser, rogue, "strong"))
    assert (stored.methods, stored.proved_at) == (["fed"], None)


async def test_who_has_a_factor_here_gives_its_code_whatever_a_provider_says_that_is_not_trusted(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue, accounts: Accounts
) -> None:
    await enrol(api, await sign_in(api, await a_person(accounts, "Sam", verified=True)))
    rogue.claims = {"amr": ["mfa"]}
    asked = await exchange(api, await arrive(browser, rogue), "rogue")
    assert set(asked.json()) == {"mfa_required", "challenge_token", "expires_in"}
    assert "access_token" in (await exchange(api, await arrive(browser, rogue, "strong"), "strong")).json()


@pytest.mark.parametrize("provider", ["rogue", "strong"])
async def test_being_let_in_without_a_question_is_as_old_a_proof_as_the_provider_says(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue, provider: str
) -> None:
    rogue.claims = {"amr": ["mfa"]}
    silent = await enter(api, browser, rogue, provider)
    assert (await session_of(silent)).proved_at is None
    assert refusal(await renew(api, silent)) == TOO_OLD
    rogue.seconds = {"auth_time": -3600}
    old = await enter(api, browser, rogue, provider)
    assert _seconds_ago((await session_of(old)).proved_at) == pytest.approx(3600, abs=30)
    assert refusal(await renew(api, old)) == TOO_OLD
    rogue.seconds = {"auth_time": -5}
    assert refusal(await renew(api, await enter(api, browser, rogue, provider))) == PROVEN


def _seconds_ago(then: datetime | None) -> float:
    assert then is not None
    return (utc_now() - then) / timedelta(seconds=1)


async def test_no_proof_is_of_later_than_now(api: httpx.AsyncClient, browser: Browser, rogue: Rogue) -> None:
    rogue.seconds = {"auth_time": 30}
    assert _seconds_ago((await session_of(await enter(api, browser, rogue))).proved_at) >= 0


@pytest.mark.parametrize(
    "told_of", [4_000_000_000, 1_790_000_000_000, 1e30, float("nan"), -1, 0, True, "1790000000", []]
)
async def test_what_is_no_time_proves_nothing(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue, told_of: Any
) -> None:
    rogue.claims = {"auth_time": told_of}
    assert (await session_of(await enter(api, browser, rogue))).proved_at is None


async def test_a_provider_that_shall_ask_again_is_asked_when_it_did(browser: Browser) -> None:
    asked = await browser.away(prompt="login")
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    assert "max_age" not in await browser.away()
    assert "max_age" not in await browser.away(prompt="select_account")


async def test_who_shall_prove_anew_does_not_come_back_with_a_proof_of_before(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    assert told(await arrive(browser, rogue, prompt="login")) == REFUSED
    rogue.seconds = {"auth_time": -90}
    assert told(await arrive(browser, rogue, prompt="login")) == REFUSED
    rogue.seconds = {"auth_time": 0}
    assert refusal(await renew(api, await enter(api, browser, rogue, prompt="login"))) == PROVEN


async def test_a_real_provider_asks_again(browser: Browser, api: httpx.AsyncClient) -> None:
    await browser.sign_in("new@school.example")
    await browser.sign_in("new@school.example")
    assert not browser.was_asked
    url = await browser.sign_in("new@school.example", prompt="login")
    assert browser.was_asked
    assert refusal(await renew(api, Signed(await exchange(api, url)))) == PROVEN


async def test_who_has_no_password_is_told_how_to_prove_it_is_them(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    signed = await enter(api, browser, rogue)
    change = {"new_password": "a fresh new start"}
    for guess in ("a guess", "v1$"):
        move = {"current_password": guess, "new_email": "sammy@school.example"}
        answers = [
            await prove(api, signed, guess),
            await api.post("/auth/change-password", json=change | {"current_password": guess}, headers=signed.header),
            await api.post("/auth/change-email", json=move, headers=signed.header),
        ]
        assert [refusal(one) for one in answers] == [NO_PASSWORD] * 3
        assert "prompt=login" in answers[0].json()["detail"]
        assert "forgot-password" in answers[0].json()["detail"]
    # They have guessed at nothing.
    assert await SignInFailures.count() == 0


async def test_who_has_no_password_sets_a_factor_up_with_a_recent_proof(demanding: Litestar, rogue: Rogue) -> None:
    async with open_client(demanding) as api, Browser.open(demanding) as browser:
        silent = await enter(api, browser, rogue)
        assert silent.body["second_factor_required"] is True
        for body in ({}, {"current_password": "a guess"}):
            refused = await api.post("/auth/mfa/totp", json=body, headers=silent.header)
            assert refusal(refused) == TOO_OLD
        assert "prompt=login" in refused.json()["detail"]
        rogue.seconds = {"auth_time": 0}
        signed = await enter(api, browser, rogue, prompt="login")
        begun = await api.post("/auth/mfa/totp", json={}, headers=signed.header)
        assert begun.status_code == 200, begun.text
        whole = await confirm(api, signed, App(secret_of(begun.json()), []).code())
        assert await state(api, whole) == (True, 10, True)
        assert (await api.get("/enrollments", headers=whole.header)).status_code == 200
        assert (await session_of(whole)).methods == ["fed", "otp", "mfa"]
        (user,) = await User.find_all().to_list()
        assert user.password_hash == ""
