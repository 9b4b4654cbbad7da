from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, SignIn, SignInFailures, User
from lms.accounts.service import Accounts
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, me, refresh, refusal, sign_in
from tests.commands import Commands
from tests.conftest import ClientFor, HeldClock

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here


async def test_signing_in_gives_both_tokens_and_the_person(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock
) -> None:
    ivy = await a_person(accounts, "Ivy", role=Role.INSTRUCTOR)
    signed = await sign_in(client, ivy)
    told = {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "user"}
    assert set(signed.body) == told
    assert (signed.body["token_type"], signed.body["expires_in"]) == ("Bearer", 900)
    assert signed.body["refresh_expires_in"] == 30 * 86_400
    assert signed.body["user"]["id"] == str(ivy.id)
    assert signed.response.headers["cache-control"] == "no-store"
    claims = jwt.decode(signed.body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["sid"], claims["role"]) == (str(ivy.id), signed.family, "instructor")
    assert claims["exp"] - held_clock.now.timestamp() == 900
    assert await me(client, signed) == 200


async def test_a_sign_in_is_stored_with_its_device_and_end(
    client: httpx.AsyncClient, accounts: Accounts, held_clock: HeldClock
) -> None:
    sam = await a_person(accounts, "Sam")
    await sign_in(client, sam, **{"User-Agent": "u" * 400})
    (stored,) = await SignIn.find_all().to_list()
    assert (stored.user_id, stored.generation, stored.ended_at) == (sam.id, 0, None)
    assert (stored.user_agent, stored.address) == ("u" * 300, "127.0.0.1")
    assert stored.rotated_at == held_clock.now
    assert stored.expires_at == held_clock.now + timedelta(days=30)


async def test_nothing_that_is_stored_can_sign_in(
    client: httpx.AsyncClient, accounts: Accounts, database: AsyncDatabase[dict[str, Any]]
) -> None:
    sam = await a_person(accounts, "Sam")
    first = await sign_in(client, sam)
    second = await refresh(client, first.refresh_token)
    texts: set[str] = set()
    for name in await database.list_collection_names():
        texts |= {text for row in await database[name].find().to_list() for text in _texts(row)}
    assert {sam.password_hash, second.family} <= texts
    for token in (first, second):
        for secret in (token.body["access_token"], token.refresh_token, token.refresh_token.split(".")[2], PASSWORD):
            assert not any(secret in text for text in texts)
    for text in texts:
        assert refusal((await refresh(client, text[:512] or "-")).response) == (401, "refresh_refused")
        forged = f"{second.family}.1.{text}"[:512]
        assert refusal((await refresh(client, forged)).response) == (401, "refresh_refused")
        # What is guessed too often is not even looked at.
        await SignInFailures.delete_all()
        assert refusal((await sign_in(client, sam, text or "-")).response) == (401, "bad_credentials")
    assert await me(client, second) == 200


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [str(value)]


async def test_unknown_wrong_and_closed_look_and_cost_the_same(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Sam")
    await a_person(accounts, "Stella", active=False)
    tries = {
        "wrong": ("sam@school.example", "wrong horse battery"),
        "unknown": ("nobody@school.example", PASSWORD),
        "closed": ("stella@school.example", PASSWORD),
        "closed and wrong": ("stella@school.example", "wrong horse battery"),
    }
    seen: dict[str, Any] = {}
    for name, (email, password) in tries.items():
        commands.seen.clear()
        bcrypts.clear()
        response = await client.post("/auth/login", json={"email": email, "password": password})
        assert refusal(response) == (401, "bad_credentials"), name
        assert response.headers["www-authenticate"] == "Bearer"
        body = {key: value for key, value in response.json().items() if key != "request_id"}
        headers = {key: value for key, value in response.headers.items() if key not in {"x-request-id", "date"}}
        seen[name] = (body, headers, [command for command, _ in commands.seen], list(bcrypts.calls))
    assert seen["wrong"] == seen["unknown"] == seen["closed"] == seen["closed and wrong"]
    counting = ["find", "findAndModify", "findAndModify", "findAndModify"]
    assert seen["wrong"][2:] == ([*counting, "find"], ["check 04"])
    assert await SignIn.count() == 0


async def test_an_address_may_be_typed_in_other_letters(client: httpx.AsyncClient, accounts: Accounts) -> None:
    await a_person(accounts, "José", email="jos\xe9@school.example")
    for email in (" JOS\xc9@School.Example ", "Jose\u0301@school.example"):
        response = await client.post("/auth/login", json={"email": email, "password": PASSWORD})
        assert response.status_code == 200, email


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        ({}, {"#/email", "#/password"}),
        ({"email": "", "password": ""}, {"#/email", "#/password"}),
        ({"email": "x" * 255, "password": "x" * 1025}, {"#/email", "#/password"}),
        ({"email": {"$ne": None}, "password": ["x"]}, {"#/email", "#/password"}),
        ({"email": "sam@school.example", "password": "x", "delivery": "pigeon"}, {"#/delivery"}),
    ],
)
async def test_every_broken_field_is_named(
    client: httpx.AsyncClient, bcrypts: Bcrypts, body: dict[str, Any], broken: set[str]
) -> None:
    response = await client.post("/auth/login", json=body)
    assert refusal(response) == (422, "validation_failed")
    assert {error["pointer"] for error in response.json()["errors"]} == broken
    assert bcrypts.calls == []


async def test_a_password_too_short_to_choose_is_just_wrong(client: httpx.AsyncClient, accounts: Accounts) -> None:
    sam = await a_person(accounts, "Sam")
    for password in ("x", "x" * 200, "x" * 1024):
        assert refusal((await sign_in(client, sam, password)).response) == (401, "bad_credentials")


async def test_each_device_has_a_session_of_its_own(client: httpx.AsyncClient, accounts: Accounts) -> None:
    sam = await a_person(accounts, "Sam")
    phone, laptop = await sign_in(client, sam), await sign_in(client, sam)
    assert phone.family != laptop.family
    assert phone.refresh_token.split(".")[2] != laptop.refresh_token.split(".")[2]


async def test_me_is_the_signed_in_person_without_what_is_secret(client_for: ClientFor, stella: User) -> None:
    response = await (await client_for(stella)).get("/users/me")
    created = stella.created_at
    assert response.json() == {
        "id": str(stella.id),
        "email": "stella@school.example",
        "full_name": "Stella Okafor",
        "role": "student",
        "verified": True,
        "locale": "en",
        "time_zone": "UTC",
        "created_at": f"{created:%Y-%m-%dT%H:%M:%S}.{created.microsecond // 1000:03}Z",
    }
    assert response.headers["cache-control"] == "no-store"


async def test_me_is_nobody_for_a_visitor(client: httpx.AsyncClient) -> None:
    response = await client.get("/users/me")
    assert refusal(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_me_is_nobody_once_the_person_was_erased(client_for: ClientFor, sam: User) -> None:
    sams = await client_for(sam)
    assert (await sams.get("/users/me")).status_code == 200
    await sam.delete()
    assert refusal(await sams.get("/users/me")) == (401, "unauthenticated")
