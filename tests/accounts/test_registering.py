import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import create_user
from lms.accounts.rules import EmailTaken
from tests.accounts.bcrypts import Bcrypts, bcrypts
from tests.build import a_user
from tests.commands import Commands
from tests.outbox.build import events

__all__ = ["bcrypts"]  # pytest finds the fixture by its name here

SAM = {"email": "sam@school.example", "password": "correct horse battery", "full_name": "Sam Okafor"}


async def register(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/auth/register", json=SAM | fields)


async def test_signing_up_makes_a_student_and_a_welcome_and_signs_nobody_in(client: httpx.AsyncClient) -> None:
    response = await register(client)
    assert (response.status_code, response.json()) == (202, {"status": "accepted"})
    assert response.headers["cache-control"] == "no-store"
    user = await User.by_email("sam@school.example")
    assert user is not None
    assert (user.full_name, user.role, user.active, user.verified) == ("Sam Okafor", Role.STUDENT, True, False)
    assert (user.locale, user.time_zone, user.auth_epoch, user.id.version) == ("en", "UTC", 0, 4)
    assert user.password_hash.startswith("v1$$2b$04$")
    (event,) = await events()
    assert (event.kind, event.todo, event.subject("user_id")) == ("user.registered", ["send_welcome_email"], user.id)
    assert await SignIn.count() == 0


async def test_a_known_address_gets_the_same_answer_and_its_owner_a_mail(client: httpx.AsyncClient) -> None:
    first = await register(client)
    known = await User.by_email("sam@school.example")
    again = await register(client, password="another password", full_name="Somebody Else")
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert without_id(again) == without_id(first)
    assert await User.find_all().to_list() == [known]
    last = (await events())[-1]
    assert (last.kind, last.todo) == ("user.registered_again", ["send_already_registered_email"])
    assert known is not None
    assert last.data == {"user_id": str(known.id)}


def without_id(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in {"x-request-id", "date"}}


async def test_known_and_unknown_addresses_cost_the_same(
    client: httpx.AsyncClient, commands: Commands, bcrypts: Bcrypts
) -> None:
    costs: list[Any] = []
    for email in ("stella@school.example", "sam@school.example", "sam@school.example"):
        commands.seen.clear()
        bcrypts.clear()
        await register(client, email=email)
        costs.append(([name for name, _ in commands.seen], list(bcrypts.calls)))
    assert await User.count() == 2
    assert costs[1] == costs[2]
    names, calls = costs[2]
    audited = ["findAndModify", "insert"]
    assert (names, calls) == (["findAndModify", "update", *audited, "insert", "commitTransaction"], ["hash 04"])


async def test_bcrypt_is_kept_off_the_loop(client: httpx.AsyncClient, bcrypts: Bcrypts) -> None:
    await register(client)
    await client.post("/auth/login", json={"email": SAM["email"], "password": SAM["password"]})
    assert bcrypts.calls == ["hash 04", "check 04"]
    assert all(name.startswith("bcrypt") for name in bcrypts.threads)


async def test_of_twenty_sign_ups_at_once_one_is_stored_and_all_are_accepted(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(register(client) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert await User.count() == 1
    kinds = Counter(event.kind for event in await events())
    assert kinds == {"user.registered": 1, "user.registered_again": 19}


@pytest.mark.parametrize("email", ["SAM@School.example", "  sam@school.example ", "sam@school.EXAMPLE"])
async def test_one_address_in_other_letters_is_known(client: httpx.AsyncClient, email: str) -> None:
    await register(client)
    assert (await register(client, email=email)).status_code == 202
    assert await User.count() == 1


async def test_what_is_stored_is_trimmed_composed_and_lower_case(client: httpx.AsyncClient) -> None:
    await register(client, email=" Jose\u0301@School.Example ", full_name="  José Núñez \t")
    (user,) = await User.find_all().to_list()
    assert (user.email, user.full_name) == ("jos\xe9@school.example", "José Núñez")


async def test_every_broken_field_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/auth/register", json={"email": "sam", "password": "short", "full_name": "\t", "role": "admin"}
    )
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    found = {error["pointer"]: error["code"] for error in response.json()["errors"]}
    assert found == {
        "#/email": "invalid",
        "#/password": "invalid",
        "#/full_name": "invalid",
        "#/role": "unknown_field",
    }
    nothing = await client.post("/auth/register", json={})
    assert {error["pointer"]: error["code"] for error in nothing.json()["errors"]} == {
        "#/email": "required",
        "#/password": "required",
        "#/full_name": "required",
    }
    assert (await User.count(), await events()) == (0, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "sam@school"),
        ("email", "sam@@school.example"),
        ("email", "@school.example"),
        ("email", "sam@.example"),
        ("email", "sam okafor@school.example"),
        ("email", "sam@school.example\r\nBcc: all@school.example"),
        ("email", "<sam@school.example>"),
        ("email", "group:sam@school.example"),
        ("email", "oscar,sam@school.example"),
        ("email", "sam(oscar)@school.example"),
        ("email", "=?utf-8?q?sam?=@school.example"),
        ("email", "sam..okafor@school.example"),
        ("email", "sam@[127.0.0.1]"),
        ("email", "sam\x9b@school.example"),
        ("email", "sam\u202e@school.example"),
        ("email", f"{'s' * 65}@school.example"),
        ("email", f"sam@{'s' * 250}.example"),
        ("email", None),
        ("full_name", ""),
        ("full_name", "   "),
        ("full_name", "x" * 121),
        ("full_name", "Sam\nOkafor"),
        ("full_name", "Sam\0Okafor"),
        ("full_name", "Sam\x9b2JOkafor"),
        ("full_name", "Sam \u202eOkafor"),
        ("full_name", "Sam\u2028Okafor"),
        ("full_name", "\u200b\u200b"),
        ("full_name", 7),
        ("password", "x" * 7),
        ("password", "x" * 129),
        ("password", ["correct horse battery"]),
    ],
)
async def test_a_broken_field_is_refused_without_repeating_it(
    client: httpx.AsyncClient, bcrypts: Bcrypts, field: str, value: Any
) -> None:
    response = await register(client, **{field: value})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    (error,) = response.json()["errors"]
    assert (error["pointer"], error["code"]) == (f"#/{field}", "invalid")
    if field == "password":
        assert str(value) not in response.text
    assert bcrypts.calls == []
    assert await User.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("full_name", "X"),
        ("full_name", "x" * 120),
        ("full_name", "محمد عبد الله"),
        # A zero-width non-joiner is a part of Persian words.
        ("full_name", "Arman mi\u200ckhaham"),
        ("email", "o'sam+lms@mail.school.example"),
        ("email", "josé@例子.example"),
        ("email", f"{'s' * 64}@school.example"),
    ],
)
async def test_unusual_names_and_addresses_are_welcome(client: httpx.AsyncClient, field: str, value: str) -> None:
    assert (await register(client, **{field: value})).status_code == 202
    (user,) = await User.find_all().to_list()
    assert getattr(user, field) == value


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("x" * 8, "x" * 8),
        ("x" * 128, "x" * 128),
        ("\0" * 8, "\0" * 8),
        ("pässwörd", "pa\u0308sswo\u0308rd"),
        ("🐎" * 128, "🐎" * 128),
        ("  spaces stay  ", "  spaces stay  "),
    ],
)
async def test_any_password_of_8_to_128_characters_signs_in(client: httpx.AsyncClient, chosen: str, typed: str) -> None:
    assert (await register(client, password=chosen)).status_code == 202
    right = await client.post("/auth/login", json={"email": SAM["email"], "password": typed})
    assert right.status_code == 200
    wrong = await client.post("/auth/login", json={"email": SAM["email"], "password": f"{typed[:-1]}y"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "bad_credentials")


async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient) -> None:
    broken = await client.post("/auth/register", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_json")
    form = await client.post("/auth/register", data=SAM)
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media")


async def test_an_operator_cannot_make_a_second_account_for_an_address(
    database: AsyncDatabase[dict[str, Any]],
) -> None:
    await create_user(a_user("Sam"))
    with pytest.raises(EmailTaken, match=r"sam@school\.example"):
        await create_user(a_user("Sam"))
    assert await User.count() == 1
