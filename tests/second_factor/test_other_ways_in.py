"""No other way in gets around the second factor, and all of them can keep the refresh token in the cookie."""

import httpx
import pytest

from lms.accounts.documents import SignIn, User
from lms.accounts.schemas import CodeAsked, Tokens
from lms.accounts.service import Accounts
from lms.oidc.service import identified
from lms.recovery.documents import Purpose
from lms.settings import Settings
from tests.accounts.people import Signed, refusal, sign_in
from tests.conftest import HeldClock
from tests.recovery.mailed import newest_token
from tests.second_factor.factors import App, begin, challenge, finish, secret_of

FRESH = "a fresh new start"
APP = {"Origin": "https://app.school.example"}


async def test_a_reset_by_mail_does_not_get_around_it(
    client: httpx.AsyncClient, person: User, app_of_sam: App, settings: Settings
) -> None:
    await client.post("/auth/forgot-password", json={"email": person.email})
    token = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    answer = await client.post("/auth/reset-password", json={"token": token, "password": FRESH})
    assert answer.status_code == 200
    asked = await challenge(client, person, FRESH)
    assert (await finish(client, asked, app_of_sam.code())).response.status_code == 200


@pytest.mark.parametrize(("methods", "answer"), [(["fed"], CodeAsked), (["fed", "mfa"], Tokens)])
async def test_who_comes_from_a_provider_gives_a_code_unless_it_asked_for_one(
    accounts: Accounts,
    client: httpx.AsyncClient,
    person: User,
    app_of_sam: App,
    held_clock: HeldClock,
    methods: list[str],
    answer: type,
) -> None:
    stored = await User.get(person.id)
    assert stored is not None
    found = await identified(accounts, stored, methods, None)
    assert type(found) is answer
    if isinstance(found, CodeAsked):
        signed = await finish(client, found.challenge_token, app_of_sam.code())
        session = await SignIn.get(signed.family)
        assert session is not None
        assert set(session.methods) == {"fed", "otp", "mfa"}
        assert session.proved_at == held_clock.now


async def test_after_the_code_the_refresh_token_goes_where_the_app_wants_it(
    client: httpx.AsyncClient, person: User, app_of_sam: App
) -> None:
    asked = await challenge(client, person)
    body = {"challenge_token": asked, "code": app_of_sam.code(), "delivery": "cookie"}
    # Refused before anything is done, so that the challenge is still there.
    assert refusal(await client.post("/auth/login/mfa", json=body)) == (403, "origin_refused")
    answer = await client.post("/auth/login/mfa", json=body, headers=APP)
    assert answer.status_code == 200
    assert "refresh_token" not in answer.json()
    assert "HttpOnly" in answer.headers["set-cookie"]


async def test_setting_one_up_in_a_browser_renews_its_cookie(
    client: httpx.AsyncClient, laptop: Signed, person: User
) -> None:
    made = App(secret_of((await begin(client, laptop)).json()), [])
    body = {"code": made.code(), "delivery": "cookie"}
    answer = await client.post("/auth/mfa/totp/confirm", json=body, headers=laptop.header | APP)
    assert answer.status_code == 200, answer.text
    assert "refresh_token" not in answer.json()
    assert len(answer.json()["recovery_codes"]) == 10
    assert "lms_refresh=" in answer.headers["set-cookie"]


async def test_a_wrong_password_is_no_challenge(client: httpx.AsyncClient, person: User, app_of_sam: App) -> None:
    assert refusal((await sign_in(client, person, "a wrong guess")).response) == (401, "bad_credentials")
