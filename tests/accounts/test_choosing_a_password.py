from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from lms.accounts.documents import User
from lms.accounts.rules import CommonPassword, check_new_password
from lms.accounts.service import Accounts
from lms.errors import Invalid
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.accounts.people import PASSWORD, a_person, refusal, sign_in
from tests.commands import Commands
from tests.recovery.mailed import newest_token

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

Choose = Callable[[str], Awaitable[httpx.Response]]
AT = {"register": "#/password", "reset": "#/password", "change": "#/new_password"}


@pytest.fixture(params=list(AT))
async def way(request: pytest.FixtureRequest) -> str:
    """Each way to choose a password; in all of them it is Sam Okafor, sam.okafor@school.example, who does."""
    return request.param


@pytest.fixture
async def choose(client: httpx.AsyncClient, accounts: Accounts, settings: Settings, way: str) -> Choose:
    if way == "register":
        sam = {"email": "sam.okafor@school.example", "full_name": "Sam Okafor"}
        return lambda password: client.post("/auth/register", json=sam | {"password": password})
    person = await a_person(accounts, "Sam", email="sam.okafor@school.example")
    if way == "change":
        signed = await sign_in(client, person)
        return lambda password: client.post(
            "/auth/change-password",
            json={"current_password": PASSWORD, "new_password": password},
            headers=signed.header,
        )
    await client.post("/auth/forgot-password", json={"email": person.email})
    token = await newest_token(settings, "user.password_forgotten", Purpose.RESET_PASSWORD)
    return lambda password: client.post("/auth/reset-password", json={"token": token, "password": password})


async def everything() -> list[Any]:
    return [await one.find_all().to_list() for one in (User, Event, MailedLink)]


@pytest.mark.parametrize(
    "password",
    [
        *("baseball", "PassWord1", "12345678", "iloveyou"),
        *("Sam.Okafor@School.example", "sam.okafor", "Sam Okafor", "samokafor", " sam okafor "),
    ],
)
async def test_what_is_guessed_first_is_refused_and_changes_nothing(
    choose: Choose, way: str, bcrypts: Bcrypts, password: str
) -> None:
    before = await everything()
    response = await choose(password)
    assert refusal(response) == (422, "common_password")
    (error,) = response.json()["errors"]
    assert (error["code"], error["pointer"]) == ("common_password", AT[way])
    assert password not in response.text
    assert [call for call in bcrypts.calls if call.startswith("hash")] == []
    assert await everything() == before
    # What was refused has cost nothing: the link is still good, and so is the session.
    assert (await choose("a fresh new start")).is_success


# As typed, a u and two dots; composed, one character.
DOTTED = "u\u0308"


@pytest.mark.parametrize(
    ("password", "fits"),
    [
        (DOTTED * 7, False),
        (DOTTED * 8, True),
        (DOTTED * 128, True),
        (DOTTED * 129, False),
        ("x" * 7, False),
        ("x" * 129, False),
        ("x" * 513, False),
    ],
)
async def test_length_is_counted_in_composed_characters(choose: Choose, way: str, password: str, *, fits: bool) -> None:
    response = await choose(password)
    assert response.is_success is fits
    if not fits:
        assert refusal(response) == (422, "validation_failed")
        assert [(error["code"], error["pointer"]) for error in response.json()["errors"]] == [("invalid", AT[way])]


async def test_a_common_password_costs_the_same_for_known_and_unknown_addresses(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts
) -> None:
    await a_person(accounts, "Sam")
    bcrypts.clear()
    commands.seen.clear()
    for email in ("sam@school.example", "nobody@school.example"):
        body = {"email": email, "password": "password1", "full_name": "Sam"}
        assert refusal(await client.post("/auth/register", json=body)) == (422, "common_password")
    assert (commands.names, bcrypts.calls) == ([], [])


@pytest.mark.parametrize("password", ["Sam Okafor!", "okafor sam", "school.example", "sams own pass"])
def test_a_name_inside_of_a_password_is_welcome(password: str) -> None:
    check_new_password(password, "sam@school.example", "Sam Okafor", common=False, pointer="#/password")


def test_a_short_name_is_refused_for_being_short() -> None:
    with pytest.raises(Invalid) as caught:
        check_new_password("sam", "sam@school.example", "Sam", common=False, pointer="#/password")
    assert not isinstance(caught.value, CommonPassword)


async def test_a_raised_cost_takes_effect_at_the_next_sign_in(
    client: httpx.AsyncClient, accounts: Accounts, commands: Commands, bcrypts: Bcrypts, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = await a_person(accounts, "Sam")
    monkeypatch.setattr(accounts.passwords, "_cost", 5)
    bcrypts.clear()
    assert refusal((await sign_in(client, sam, "a wrong guess")).response) == (401, "bad_credentials")
    assert bcrypts.calls == ["check 04", "hash 04"]
    bcrypts.clear()
    assert (await sign_in(client, sam)).response.status_code == 200
    assert bcrypts.calls == ["check 04", "hash 04", "hash 05"]
    stored = await User.get(sam.id)
    assert stored is not None
    assert stored.password_hash.startswith("v1$$2b$05$")
    assert (stored.password_rev, stored.auth_epoch) == (0, 0)
    bcrypts.clear()
    commands.seen.clear()
    assert (await sign_in(client, sam)).response.status_code == 200
    counted = ["find", *["findAndModify"] * 3, "find", "findAndModify", *["update"] * 2]
    opened = ["findAndModify", "insert", "findAndModify", "insert"]
    assert (bcrypts.calls, commands.names) == (["check 05"], [*counted, *opened])


async def test_hashing_anew_never_brings_an_old_password_back(accounts: Accounts, client: httpx.AsyncClient) -> None:
    sam = await a_person(accounts, "Sam")
    changed = await accounts.passwords.hash("a fresh new start")
    await User.get_pymongo_collection().update_one({"_id": sam.id}, {"$set": {"password_hash": changed}})
    # A sign-in that read the hash before the change goes on with what it read.
    await accounts._hash_anew(sam, PASSWORD)  # pyright: ignore[reportPrivateUsage]
    stored = await User.get(sam.id)
    assert stored is not None
    assert stored.password_hash == changed


@pytest.mark.parametrize("password", ["Open School", "openschool", "OpenSchool2026!", "School-1234", "1234 open 5678"])
def test_the_schools_name_is_the_first_that_its_pupils_guess(password: str) -> None:
    with pytest.raises(CommonPassword) as caught:
        check_school(password)
    assert [error.message for error in caught.value.errors] == ["The school's name."]


@pytest.mark.parametrize("password", ["open the school", "schoolbook 9", "12345678!", "opening night"])
def test_a_school_inside_of_a_password_is_welcome(password: str) -> None:
    check_school(password)


def check_school(password: str) -> None:
    check_new_password(
        password, "sam@school.example", "Sam Okafor", common=False, pointer="#/password", school="Open School"
    )


async def test_the_schools_name_is_refused_at_sign_up(client: httpx.AsyncClient) -> None:
    body = {"email": "sam@school.example", "password": "open-school-26", "full_name": "Sam"}
    assert refusal(await client.post("/auth/register", json=body)) == (422, "common_password")
