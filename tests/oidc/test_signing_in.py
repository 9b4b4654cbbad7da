"""The whole way at a real provider: its own pages, its own tokens, keys and refusals."""

import httpx
import pytest
from structlog.testing import capture_logs

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.service import Accounts
from lms.audit.documents import Act
from lms.oidc.documents import Identity, OidcCode, OidcStart
from lms.outbox.documents import Event
from lms.settings import Settings
from tests.accounts.people import PASSWORD, a_person, refusal
from tests.oidc.browser import APP, Browser, exchange, told
from tests.oidc.conftest import Idp
from tests.recovery.mailed import deliver_all, text_of
from tests.servers import SmtpSink


async def acts() -> list[str]:
    return [event.data["act"] for event in await Event.find({"kind": "audit"}).sort("_id").to_list()]


async def mails(settings: Settings, sink: SmtpSink) -> list[tuple[str, str]]:
    await Event.find({"kind": "audit"}).delete()
    await deliver_all(settings, sink)
    return [(mail["To"], mail["Subject"]) for mail in sink.messages]


async def test_a_new_person_comes_in_as_a_verified_student(browser: Browser, api: httpx.AsyncClient, idp: Idp) -> None:
    url = await browser.sign_in("new@school.example")
    assert str(url).startswith(f"{APP}/signed-in#code=")
    assert set(told(url)) == {"code", "provider"}
    response = await exchange(api, url)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["user"]["email"], body["user"]["full_name"]) == ("new@school.example", "New Provider")
    assert (body["user"]["role"], body["user"]["verified"]) == ("student", True)
    header = {"Authorization": f"Bearer {body['access_token']}"}
    assert (await api.get("/users/me", headers=header)).json()["id"] == body["user"]["id"]
    refreshed = await api.post("/auth/refresh", json={"refresh_token": body["refresh_token"]})
    assert refreshed.status_code == 200
    (user,) = await User.find_all().to_list()
    assert user.role is Role.STUDENT
    (sign_in,) = await SignIn.find_all().to_list()
    assert sign_in.methods == ["fed"]
    (identity,) = await Identity.find_all().to_list()
    assert (identity.issuer, identity.user_id, identity.provider) == (idp.issuer, user.id, "school")
    assert await OidcStart.count() == await OidcCode.count() == 0
    assert await acts() == [Act.REGISTERED, Act.IDENTITY_LINKED, Act.SIGNED_IN]


async def test_whoever_comes_again_is_the_same_person(
    browser: Browser, api: httpx.AsyncClient, school_settings: Settings, smtp_sink: SmtpSink
) -> None:
    people = {(await exchange(api, await browser.sign_in("new@school.example"))).json()["user"]["id"] for _ in "12"}
    assert len(people) == 1
    assert (await User.count(), await Identity.count(), await SignIn.count()) == (1, 1, 2)
    assert await mails(school_settings, smtp_sink) == [("new@school.example", "Welcome to Open School")]
    assert "School account" in text_of(smtp_sink.messages[0])
    assert "password you chose" not in text_of(smtp_sink.messages[0])


async def test_an_address_that_was_changed_here_changes_nothing(browser: Browser, api: httpx.AsyncClient) -> None:
    first = await exchange(api, await browser.sign_in("new@school.example"))
    await User.get_pymongo_collection().update_one({}, {"$set": {"email": "mine@home.example"}})
    again = await exchange(api, await browser.sign_in("new@school.example"))
    assert again.json()["user"]["id"] == first.json()["user"]["id"]
    assert again.json()["user"]["email"] == "mine@home.example"


async def test_a_client_without_a_secret_signs_in_by_pkce_alone(browser: Browser, api: httpx.AsyncClient) -> None:
    url = await browser.sign_in("new@school.example", "public")
    assert (await exchange(api, url, "public")).status_code == 200


async def test_an_account_whose_address_was_proved_is_linked_and_its_owner_told(
    browser: Browser, api: httpx.AsyncClient, accounts: Accounts, school_settings: Settings, smtp_sink: SmtpSink
) -> None:
    ivy = await a_person(accounts, "Ivy", role=Role.INSTRUCTOR, verified=True)
    response = await exchange(api, await browser.sign_in("ivy@school.example"))
    told_of = response.json()["user"]
    assert (told_of["id"], told_of["role"]) == (str(ivy.id), "instructor")
    assert told_of["full_name"] == "Ivy Okafor"
    assert (await User.get(ivy.id) or ivy).password_hash == ivy.password_hash
    assert await acts() == [Act.IDENTITY_LINKED, Act.SIGNED_IN]
    subject = "Sign-in with School account was added to your account at Open School"
    assert await mails(school_settings, smtp_sink) == [("ivy@school.example", subject)]
    assert "password was removed" not in text_of(smtp_sink.messages[0])


async def test_a_stranger_who_signed_up_the_address_first_gets_nothing(
    browser: Browser, api: httpx.AsyncClient, school_settings: Settings, smtp_sink: SmtpSink
) -> None:
    """The stranger knows the password of an account that waits for its owner, and has sessions and links of it."""
    body = {"email": "sam@school.example", "password": PASSWORD, "full_name": "A Stranger"}
    assert (await api.post("/auth/register", json=body)).status_code == 202
    stranger = (await api.post("/auth/login", json=_login(body))).json()
    header = {"Authorization": f"Bearer {stranger['access_token']}"}
    change = {"new_email": "stranger@evil.example", "current_password": PASSWORD}
    assert (await api.post("/auth/change-email", json=change, headers=header)).status_code == 202
    await Event.find_all().delete()
    owner = (await exchange(api, await browser.sign_in("sam@school.example"))).json()
    assert owner["user"]["id"] == stranger["user"]["id"]
    assert (owner["user"]["verified"], owner["user"]["full_name"]) == (True, "Sam Provider")
    assert refusal(await api.get("/users/me", headers=header)) == (401, "unauthenticated")
    refreshing = await api.post("/auth/refresh", json={"refresh_token": stranger["refresh_token"]})
    assert refusal(refreshing) == (401, "refresh_refused")
    assert refusal(await api.post("/auth/login", json=_login(body))) == (401, "bad_credentials")
    assert (await api.get("/users/me", headers={"Authorization": f"Bearer {owner['access_token']}"})).status_code == 200
    (linked,) = await Event.find({"kind": "audit", "data.act": Act.IDENTITY_LINKED}).to_list()
    assert linked.data["facts"]["taken_over"] is True
    await mails(school_settings, smtp_sink)
    assert "password was removed" in text_of(smtp_sink.messages[0])


def _login(body: dict[str, str]) -> dict[str, str]:
    return {"email": body["email"], "password": body["password"]}


async def test_an_address_that_the_provider_does_not_vouch_for_is_worth_nothing(
    browser: Browser, accounts: Accounts
) -> None:
    stella = await a_person(accounts, "Stella", verified=True)
    with capture_logs() as lines:
        url = await browser.sign_in("stella@school.example")
    assert told(url) == {"error": "email_not_verified", "provider": "school"}
    assert await Identity.count() == await OidcCode.count() == 0
    assert (await User.find_all().to_list()) == [stella]
    assert "stella" not in str([line for line in lines if line["event"] == "oidc_sign_in_failed"])


async def test_whoever_declines_at_the_provider_comes_back_as_they_were(browser: Browser) -> None:
    url = await browser.decline(await browser.to_the_consent("new@school.example"))
    assert (url.path, told(url)) == ("/signed-in", {"error": "cancelled", "provider": "school"})
    assert await User.count() == await OidcStart.count() == 0


async def test_a_new_key_of_the_provider_is_found_at_the_next_sign_in(
    browser: Browser, other_browser: Browser, api: httpx.AsyncClient, idp: Idp
) -> None:
    assert (await exchange(api, await browser.sign_in("new@school.example"))).status_code == 200
    await idp.restart()
    assert (await exchange(api, await other_browser.sign_in("new@school.example"))).status_code == 200


@pytest.mark.parametrize("return_to", ["/courses/git?from=mail&x=1", f"{APP}/deep/link?tab=2"])
async def test_the_app_goes_on_where_it_was(browser: Browser, return_to: str) -> None:
    url = await browser.sign_in("new@school.example", return_to=return_to)
    assert str(url).startswith(f"{APP}{return_to.removeprefix(APP)}#code=")


async def test_the_list_says_where_to_start(api: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    listed = (await api.get("/auth/oidc")).json()
    assert listed[0] == {
        "name": "school",
        "title": "School account",
        "start_url": "http://lms.test/api/v1/auth/oidc/school/start",
    }
    assert [one["name"] for one in listed] == ["school", "public", "rogue", "strong"]
    assert (await client.get("/auth/oidc")).json() == []
    assert refusal(await client.get("/auth/oidc/school/callback")) == (404, "oidc_provider_not_found")
