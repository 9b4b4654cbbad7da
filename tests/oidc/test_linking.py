"""Whose account somebody comes to, and the identities that people see of themselves."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from litestar import Litestar

from lms.accounts.documents import Role, User
from lms.accounts.people import set_active, take_over
from lms.accounts.service import Accounts
from lms.audit.documents import Act
from lms.oidc.documents import Identity, OidcCode
from lms.oidc.linking import Arrival
from lms.oidc.rules import Person
from lms.outbox.documents import Event
from lms.transactions import in_transaction
from tests.accounts.people import PASSWORD, a_person, refusal, sign_in
from tests.build import a_user
from tests.conftest import open_client, token_for
from tests.oidc.browser import Browser, exchange, told
from tests.oidc.rogue import Rogue

SAM = Person(
    issuer="https://id.school.example",
    subject="sam-1",
    email="Sam@School.example",
    names=("Sam Okafor",),
    methods=("fed",),
)


async def arrive(browser: Browser, rogue: Rogue) -> httpx.URL:
    asked = await browser.away()
    rogue.nonce = asked["nonce"]
    return await browser.callback("rogue", code="a-code", state=asked["state"])


async def signed_in(api: httpx.AsyncClient, browser: Browser, rogue: Rogue) -> dict[str, Any]:
    response = await exchange(api, await arrive(browser, rogue), "rogue")
    assert response.status_code == 200, response.text
    return response.json()


def header_of(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest.mark.parametrize("kind", ["new", "verified", "unverified"])
async def test_of_many_who_are_one_person_there_is_one_account(accounts: Accounts, school: Litestar, kind: str) -> None:
    if kind != "new":
        await a_person(accounts, "Sam", verified=kind == "verified")
    users = await asyncio.gather(*(Arrival("school", SAM).user() for _ in range(8)))
    assert len({user.id for user in users}) == 1
    assert (await User.count(), await Identity.count()) == (1, 1)
    linked = await Event.find({"kind": "audit", "data.act": Act.IDENTITY_LINKED}).to_list()
    assert len(linked) == 1
    assert await Event.find({"kind": {"$ne": "audit"}}).count() == 1


@pytest.mark.parametrize("doubted", [True, False])
async def test_a_password_that_the_owner_may_not_know_goes(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue, doubted: bool
) -> None:
    sam = await a_person(accounts, "Sam", verified=True, password_doubted=doubted)
    await Identity(issuer="https://other.example", subject="mallory", user_id=sam.id, provider="gone").insert()
    await signed_in(api, browser, rogue)
    after = await User.get(sam.id)
    assert after is not None
    assert after.owner_proved
    assert (after.password_hash == "", await Identity.count()) == (doubted, 1 if doubted else 2)
    assert (await sign_in(api, sam)).response.status_code == (401 if doubted else 200)


async def test_a_doubt_without_a_password_costs_nothing(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    sam = await a_user("Sam", verified=True, password_doubted=True, password_hash="").insert()
    await Identity(issuer="https://other.example", subject="sam", user_id=sam.id, provider="gone").insert()
    await signed_in(api, browser, rogue)
    assert await Identity.count() == 2


async def test_a_code_from_before_a_take_over_signs_nobody_in(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    sam = await a_person(accounts, "Sam", verified=True, password_doubted=True)
    await Identity(issuer=rogue.issuer, subject="sam-at-rogue", user_id=sam.id, provider="rogue").insert()
    address = await arrive(browser, rogue)
    await in_transaction(lambda session: take_over(sam, {}, session))
    assert refusal(await exchange(api, address, "rogue")) == (401, "oidc_code_refused")


async def test_an_address_that_the_provider_gave_to_somebody_else_brings_no_account_along(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    first = await signed_in(api, browser, rogue)
    rogue.claims = {"sub": "another-sam"}
    assert told(await arrive(browser, rogue)) == {"error": "linked_otherwise", "provider": "rogue"}
    rogue.claims = {}
    assert (await signed_in(api, browser, rogue))["user"]["id"] == first["user"]["id"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_closed_account_stays_closed(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue, when: str
) -> None:
    sam = await a_person(accounts, "Sam", verified=True)
    if when == "after":
        await signed_in(api, browser, rogue)
    await set_active(sam.id, active=False)
    assert told(await arrive(browser, rogue)) == {"error": "sign_in_refused", "provider": "rogue"}
    assert await OidcCode.count() == 0
    assert await Identity.count() == (1 if when == "after" else 0)


async def test_a_role_is_not_the_providers_to_give(api: httpx.AsyncClient, browser: Browser, rogue: Rogue) -> None:
    rogue.claims = {"role": "admin", "roles": ["admin"], "groups": ["admin"], "realm_access": {"roles": ["admin"]}}
    assert (await signed_in(api, browser, rogue))["user"]["role"] == Role.STUDENT


@pytest.mark.parametrize(
    ("names", "full_name"),
    [
        ({"name": " Sam O. "}, "Sam O."),
        ({"name": None, "given_name": "Sam", "family_name": "Okafor"}, "Sam Okafor"),
        ({"name": "a\x00b", "preferred_username": "sammy"}, "sammy"),
        ({"name": "x" * 121}, "sam"),
        ({"name": "\u202emaS"}, "sam"),
        ({"name": ["Sam"]}, "sam"),
    ],
)
async def test_the_name_is_one_that_can_stand_on_a_certificate(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue, names: dict[str, Any], full_name: str
) -> None:
    rogue.claims = names
    assert (await signed_in(api, browser, rogue))["user"]["full_name"] == full_name


async def test_where_the_provider_has_no_name_the_one_given_here_stays(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    await a_person(accounts, "Sam", verified=False)
    rogue.claims = {"name": None}
    assert (await signed_in(api, browser, rogue))["user"]["full_name"] == "Sam Okafor"


async def test_people_see_their_own_identities(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue, stella: User
) -> None:
    tokens = await signed_in(api, browser, rogue)
    (identity,) = (await api.get("/users/me/identities", headers=header_of(tokens))).json()["items"]
    assert set(identity) == {"id", "provider", "title", "issuer", "created_at"}
    assert (identity["provider"], identity["title"], identity["issuer"]) == ("rogue", "Rogue", rogue.issuer)
    hers = {"Authorization": f"Bearer {await token_for(accounts, stella)}"}
    assert (await api.get("/users/me/identities", headers=hers)).json() == {"items": []}
    for _ in range(2):
        response = await api.delete(f"/users/me/identities/{identity['id']}", headers=hers)
        assert refusal(response) == (404, "identity_not_found")
    assert refusal(await api.get("/users/me/identities")) == (401, "unauthenticated")
    assert refusal(await api.delete(f"/users/me/identities/{identity['id']}")) == (401, "unauthenticated")
    assert (await api.delete("/users/me/identities/no-id", headers=hers)).status_code == 404
    assert await Identity.count() == 1


async def test_an_identity_can_go_where_there_is_a_password(
    accounts: Accounts, api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    sam = await a_person(accounts, "Sam", verified=True)
    header = header_of(await signed_in(api, browser, rogue))
    (identity,) = await Identity.find_all().to_list()
    await Event.find_all().delete()
    response = await api.delete(f"/users/me/identities/{identity.id}", headers=header)
    assert (response.status_code, await Identity.count()) == (204, 0)
    (event,) = await Event.find_all().to_list()
    assert (event.data["act"], event.data["actor"]) == (Act.IDENTITY_UNLINKED, str(sam.id))
    again = await api.delete(f"/users/me/identities/{identity.id}", headers=header)
    assert refusal(again) == (404, "identity_not_found")
    assert (await sign_in(api, sam)).response.status_code == 200
    assert (await signed_in(api, browser, rogue))["user"]["id"] == str(sam.id)


async def test_the_only_way_in_stays_until_there_is_another(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    header = header_of(await signed_in(api, browser, rogue))
    (identity,) = await Identity.find_all().to_list()
    path = f"/users/me/identities/{identity.id}"
    assert refusal(await api.delete(path, headers=header)) == (409, "only_way_in")
    (user,) = await User.find_all().to_list()
    another = Identity(issuer="https://other.example", subject="s", user_id=user.id, provider="gone")
    await another.insert()
    listed = (await api.get("/users/me/identities", headers=header)).json()["items"]
    assert [one["title"] for one in listed] == ["Rogue", "gone"]
    assert (await api.delete(path, headers=header)).status_code == 204
    last = await api.delete(f"/users/me/identities/{another.id}", headers=header)
    assert refusal(last) == (409, "only_way_in")


async def test_of_two_who_remove_the_last_two_at_once_one_is_refused(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    header = header_of(await signed_in(api, browser, rogue))
    (user,) = await User.find_all().to_list()
    for number in range(3):
        await Identity(issuer=f"https://{number}.example", subject="s", user_id=user.id, provider="p").insert()
    ids = [one.id for one in await Identity.find_all().to_list()]
    answers = await asyncio.gather(*(api.delete(f"/users/me/identities/{one}", headers=header) for one in ids))
    assert sorted(answer.status_code for answer in answers) == [204, 204, 204, 409]
    assert await Identity.count() == 1


async def test_whoever_has_no_password_cannot_be_guessed_and_can_set_one(
    api: httpx.AsyncClient, browser: Browser, rogue: Rogue
) -> None:
    header = header_of(await signed_in(api, browser, rogue))
    (user,) = await User.find_all().to_list()
    for password in ("x", " ", PASSWORD, "v1$"):
        assert refusal((await sign_in(api, user, password)).response) == (401, "bad_credentials")
    change = {"current_password": "x", "new_password": "a fresh new start"}
    assert refusal(await api.post("/auth/change-password", json=change, headers=header)) == (403, "no_password")
    assert (await api.post("/auth/forgot-password", json={"email": user.email})).status_code == 202
    assert await Event.find({"kind": "user.password_forgotten"}).count() == 1


async def test_an_identity_of_somebody_who_is_gone_signs_nobody_in(
    started_school: Litestar, browser: Browser, rogue: Rogue
) -> None:
    await Identity(issuer=rogue.issuer, subject="sam-at-rogue", user_id=uuid4(), provider="rogue").insert()
    assert told(await arrive(browser, rogue)) == {"error": "sign_in_refused", "provider": "rogue"}
    async with open_client(started_school) as client:
        assert (await client.get("/users/me/identities")).status_code == 401
